"""What records do to runs. Every one may come again, and in another process than the one that wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from platform.tracking.claims import Claims, Target
from platform.tracking.drivers import Drivers, Heartbeat
from platform.tracking.errors import TrackingError, masked, temporary
from platform.tracking.index import REQUESTS
from platform.tracking.outbox import Record, UnavailableError
from platform.tracking.runs import PROVISIONAL, counts
from platform.tracking.store import End, Store
from platform.tracking.sweeps import log_result

_ENDS: dict[str, End] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


class Delivery:
    """Takes the records of a key, which is a run's id or, of a trial, that of its claim."""

    def __init__(
        self, store: Store, claims: Claims, drivers: Drivers, heartbeat: Heartbeat, say: Callable[[str], None]
    ) -> None:
        self.targets: dict[str, Target] = {}  # by key: the runs that are known already
        self._named: dict[str, str] = {}  # run id by provisional one
        self._store, self._claims, self._drivers, self._heartbeat, self._say = store, claims, drivers, heartbeat, say

    def deliver(self, key: str, records: list[Record]) -> None:
        """Raises `UnavailableError` where the same may succeed later; anything else is a refusal."""
        try:
            if any(record["op"] in ("cells", "result", "end sweep") for record in records):
                self._deliver_sweep(key, records)
            else:
                self._deliver_trial(key, records)
        except Exception as error:
            if temporary(error):
                raise UnavailableError(masked(error)) from error
            raise

    def run_of(self, run_id: str) -> str:
        """The id of a run, given it or a provisional one. Raises `TrackingError` where another driver has the trial."""
        if not run_id.startswith(PROVISIONAL):
            return run_id
        return self._named.get(run_id) or self._find(run_id, {}, ended=False).run_id

    def _deliver_sweep(self, run_id: str, records: list[Record]) -> None:
        for record in [record for record in records if record["op"] == "cells"][-1:]:  # each is the whole list
            listed = [{**r, "run_id": self.run_of(r["run_id"])} if r.get("run_id") else r for r in record["cells"]]
            self._store.put_text(run_id, json.dumps(listed, indent=1), REQUESTS)
        for record in records:
            match record["op"]:
                case "result":
                    run = self._store.run(run_id)
                    log_result(self._store, run, record["metrics"], record["params"], record["time"])
                case "end sweep":
                    self._store.log(run_id, tags={"held": ""})
                    self._store.end(run_id, record["status"], record["time"])

    def _deliver_trial(self, key: str, records: list[Record]) -> None:
        opening: Record = next((r.get("opening", r) for r in records if r["op"] in ("open", "end")), {})
        end = records[-1] if records[-1]["op"] == "end" else None
        target = self._find(key, opening, ended=end is not None)
        tags: dict[str, str] = {}
        for record in records:
            tags |= {"open": record.get("labels"), "tags": record.get("tags")}.get(record["op"]) or {}
        status: End | None = None
        if end is not None:
            target, status, settled = self._settle(key, target, end)
            tags |= end["tags"] | settled
            if status is not None:
                tags["held"] = ""  # before its status, which says it until then
        params = [(n, v) for n, v in opening.get("params", {}).items() if n not in target.params]
        try:
            self._store.log(target.run_id, _metrics(records, target), params, tags)
        except MlflowException as error:
            if end is None or not target.won or temporary(error):
                raise
            self.targets[key] = replace(target, won=0.0)  # the run may have been deleted: look
            return self._deliver_trial(key, records)
        for record in records:
            if "files" in record:
                self._put_folder(target.run_id, record)
            for name, text in record.get("texts", {}).items():
                self._store.put_text(target.run_id, text, name)
        if end is not None and status is not None:
            # An added evaluation ends a finished run again, now: that is what an index notices.
            self._store.end(target.run_id, status, None if opening.get("evaluates") else end["time"])
            self.targets.pop(key, None)

    def _find(self, key: str, opening: Record, *, ended: bool) -> Target:
        """The run of a key: known since its claim, or found by it, or made now for one that was provisional.

        Raises `TrackingError` where another driver goes on with a trial that had not `ended`.
        """
        if key in self.targets:
            return self.targets[key]
        if not key.startswith(PROVISIONAL):
            return Target(key)
        run = next(self._store.runs(f"tags.claim = '{key}'", self._store.experiment_ids()), None)
        if run is not None:
            target = Target(run.info.run_id)
        else:
            runs = self._claims.runs_of(opening["identity"]) if opening else []
            foreign = not opening or opening["tags"]["driver"] != self._drivers.me.driver
            if foreign and not ended and (not opening or any(counts(run) or self._drivers.hold(run) for run in runs)):
                raise TrackingError("another driver goes on with its trial")
            target = self._claims.resume_or_create(opening, runs)
        self.targets[key] = target
        self._named[key] = target.run_id
        return target

    def _settle(self, key: str, target: Target, end: Record) -> tuple[Target, End | None, dict[str, str]]:
        """How a run ends, and the tags that say why. Never two runs of an identity count as finished."""
        opening, status = end["opening"], _ENDS.get(end["status"], "KILLED")
        if opening.get("evaluates"):
            return target, "FINISHED" if end["status"] == "finished" else None, {}
        if end["status"] != "finished":
            return target, status, {}
        # Nobody can have taken it over: its claim was won, and no sign of life came late since.
        certain = self._heartbeat.steady_since(target.won)
        if certain and not opening["fresh"]:
            return target, status, {}
        runs = self._claims.runs_of(opening["identity"])
        ours = next((run for run in runs if run.info.run_id == target.run_id), None)
        if ours is None or ours.data.tags.get("claim") != key:
            target = self.targets[key] = self._claims.create(opening)  # ours was deleted, or taken over
        others = [run for run in runs if run.info.run_id != target.run_id]
        rival = next((run for run in others if counts(run)), None)
        if rival is not None and opening["fresh"]:
            for run in filter(counts, others):
                self._store.log(run.info.run_id, tags={"superseded": target.run_id})
                self._store.end(run.info.run_id, "FINISHED")  # again: that is what an index notices
            rival = None
        if rival is None and not certain:
            rival = next((run for run in others if self._drivers.hold(run)), None)
        if rival is not None:
            return target, "KILLED", {"duplicate_of": rival.info.run_id}
        return target, status, {}

    def _put_folder(self, run_id: str, record: Record) -> None:
        folder = Path(record["files"])
        if folder.is_dir():
            self._store.put_folder(run_id, folder)
            return
        if missing := [name for name in record.get("names", ["files"]) if not self._store.has(run_id, name)]:
            # Else it is told for a second time.
            self._say(f"files of MLflow run {run_id} are gone: {', '.join(missing)} of {folder}")


def _metrics(records: list[Record], target: Target) -> list[Metric]:
    """Those that the run does not have yet."""
    return [
        Metric(name, value, record["time"], record["step"])
        for record in records
        if record["op"] == "metrics"
        for name, value in record["values"].items()
        if target.logged.get(name, -1) < record["step"]
    ]
