"""The one room of MLflow: a run for each sweep, a run under it for each trial, written by the drivers alone.

Whoever trains an identity holds a claim on its run. A claim is won by being alone: a driver that finds nobody creates a
run that names it, looks again, and trains only if there is still no other live driver's run. Of two that see each other
the later one withdraws; whichever looked last has seen the other, so no clock decides whether both train. Everything
else goes through the outbox, as records that may be delivered twice and by another process.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import urlopen

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from platform import index
from platform.claims import BEAT, SILENCE, Claim, Driver, Elsewhere, Finished, Ours, beats, lives_here, said_by
from platform.index import Known
from platform.outbox import Outbox, Record, UnavailableError
from platform.trials import TrialState
from trainables.data.sets import cache_folder
from trainables.data.trial_data import seeds
from trainables.trial import config_yaml

__all__ = ["Claim", "Elsewhere", "Finished", "Known", "Ours", "Sweep", "SweepRun", "Tracker", "TrackingError"]

SHOWN = {"val/accuracy", "val/auroc", "val/oscr"}  # of each epoch, with train/*; the last has all
BATCH = 1000  # MLflow's limit of metrics in one request; also runs in one page
PARAMS, TAGS = 100, 100  # MLflow's limits of both in one request
LONGEST_TAG = 5000  # characters
PATIENCE = 1.0  # seconds that a driver waits for later ones to withdraw
TURN = 10.0  # seconds that a claim waits for the request of a delivery
LATEST = "latest."  # what the tag of a param begins with that a reopened sweep would change: MLflow keeps params
PROVISIONAL = "claim-"  # what the id of a run begins with that MLflow could not give yet

# The outbox tries again, and tells: MLflow itself would do so for minutes without a word.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

End = Literal["FINISHED", "FAILED", "KILLED"]


class TrackingError(RuntimeError):
    """MLflow cannot be reached or refuses; the message says which store."""


@dataclass(frozen=True)
class Sweep:
    """A sweep whose run is open."""

    run_id: str
    experiment: str
    experiment_id: str
    shown: frozenset[str]  # metrics that are logged at every epoch


@dataclass(frozen=True)
class SweepRun:
    """A sweep that finished. `params` are strings, those of its result (`best.*`) the latest."""

    run_id: str
    name: str
    key: str
    ended: float  # unix seconds
    params: dict[str, str]
    metrics: dict[str, float]


@dataclass
class _Open:
    """A trial under way in this process."""

    key: str
    trial: TrialState
    shown: frozenset[str]
    opening: Record
    logged: dict[str, int]  # the latest step of each metric
    attempts: int  # with those of earlier drivers, up to its claim
    device: str = ""


@dataclass
class _Target:
    """The run that the records of a key go into, as it was found."""

    run_id: str
    won: float = 0.0  # when its claim was won against all others, unix seconds; 0 where it was not
    params: frozenset[str] = frozenset()  # that it has: MLflow refuses other values
    logged: dict[str, int] = field(default_factory=dict)  # the latest step of each metric it came with
    attempts: int = 1


class Tracker:
    """A `Listener` that writes to MLflow. Every run that this process opened has ended once `close` returns.

    What a dead process left in `outbox` for the same store is delivered first, and runs of dead drivers are ended.
    Messages for people go to `say`, from any thread. Raises `TrackingError` where the store does not answer.
    """

    def __init__(self, uri: str, outbox: Path, say: Callable[[str], None]) -> None:
        for name in ("mlflow", "alembic", "sqlalchemy", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what MLflow raises, we tell
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self.shown_uri = _without_password(uri)
        self._uri = uri = _absolute(uri)
        self._say = say
        self._me = Driver.this()
        self._open: dict[str, _Open] = {}  # by run id
        self._targets: dict[str, _Target] = {}  # by key of the outbox
        self._sweeps: dict[str, Sweep] = {}
        self._experiments: dict[str, str] = {}  # name by id
        self._named: dict[str, str] = {}  # run id by provisional one
        self._alive: dict[str, tuple[float, bool]] = {}  # of drivers elsewhere, and when that was asked
        self._seen: set[str] | None = None  # identities with runs that do not count; None before an index is read
        # Two threads in SQLAlchemy at once take many times as long as one after the other: deliveries wait for claims.
        self._turn, self._claiming = threading.RLock(), threading.RLock()
        self._beaten = time.time()  # the latest sign of life
        self._lapsed = 0.0  # when one came late
        self._latest = ""  # the part of the UI's address that names the latest sweep's experiment
        store = sha256(uri.encode()).hexdigest()[:16]
        self._index = cache_folder() / f"index-{store}.sqlite"
        _check_reachable(uri, self.shown_uri)
        with self._told():
            with _one_at_a_time(store):  # two that make the tables of a new database at once would break it
                self.client = MlflowClient(tracking_uri=uri)
            self._experiment_ids()
        try:
            self._outbox = Outbox(outbox, store, self._deliver, say, f"MLflow at {self.shown_uri}")
        except OSError as error:
            raise TrackingError(f"records for MLflow cannot be kept: {error}. Choose another folder.") from error
        if left := self._outbox.left_behind:
            say(f"{left} records that an interrupted sweep left are being delivered")
            while not self._outbox.flush(10, once=True) and not self._outbox.down:
                pass
        with self._told():
            self._end_dead_runs()
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    # Before and after trials

    def finished(self, identities: Iterable[str] | None = None) -> dict[str, Known]:
        """The finished trials by identity, of all experiments. Raises `TrackingError`."""
        if not self._outbox.down:
            self._outbox.flush(BEAT, once=True)
        try:
            with self._told():
                experiments = self._experiment_ids()
                found = index.finished(self._index, lambda *where: self._page(experiments, *where), identities)
        except TrackingError:
            if self._seen is None:
                raise
            return index.finished(self._index, None, identities)  # claims look again
        self._seen = index.unfinished(self._index)
        return found

    def start_sweep(
        self,
        experiment: str,
        name: str,
        key: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        files: Sequence[Path],
        shown: Iterable[str] = (),
    ) -> Sweep:
        """Open the sweep's run, the newest with this `key` unless a live process has it, else a new one.

        `files` become its artifacts; `shown` are metrics that are logged at every epoch. Raises `TrackingError`.
        """
        tags = {**tags, **_code_tags(), **self._me.tags(), "held": "yes", "kind": "sweep", "sweep.key": key}
        tags["heartbeat"] = str(time.time())
        with self._told():
            experiment_id = self._experiment(experiment)
            query = f"tags.kind = 'sweep' and tags.`sweep.key` = '{key}'"
            earlier = [run for run in self.client.search_runs([experiment_id], query) if not self._held(run)]
            if earlier:
                run_id = earlier[0].info.run_id  # MLflow's order: the newest first
                self._log(run_id, tags=tags)
                self.client.update_run(run_id, status="RUNNING", name=name)
                self._result(earlier[0], {}, params)
            else:
                run_id = self.client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
                self._log(run_id, params=_flat(params))
            for file in files:
                self.client.log_artifact(run_id, str(file))
        sweep = Sweep(run_id, experiment, experiment_id, frozenset({*SHOWN, *shown}))
        self._sweeps[run_id] = sweep
        self._targets[run_id] = _Target(run_id)
        self._latest = f"/{experiment_id}"
        return sweep

    def cells(self, sweep: Sweep, cells: Sequence[Mapping[str, Any]]) -> None:
        """The sweep's list of rows and identities, as it is now: `cells.json`."""
        self._outbox.put(sweep.run_id, {"op": "cells", "cells": [dict(cell) for cell in cells]})

    def log_result(self, sweep: Sweep, metrics: Mapping[str, float], params: Mapping[str, Any]) -> None:
        """What the whole sweep found, on its run. A reopened sweep may find something else than before."""
        self._outbox.put(
            sweep.run_id,
            {"op": "result", "metrics": dict(metrics), "params": dict(_flat(params)), "time": _now()},
            safe=True,
        )

    def log_files(self, run: Sweep | str, files: Path, under: str = "") -> None:
        """Everything that the folder `files` holds, as artifacts below `under`; it may be deleted afterwards."""
        run_id = run.run_id if isinstance(run, Sweep) else run
        key = self._open[run_id].key if run_id in self._open else run_id
        self._outbox.put(key, {"op": "files", "under": under}, files=files, safe=True)

    def end_sweep(self, sweep: Sweep, status: End) -> None:
        self._outbox.put(sweep.run_id, {"op": "end sweep", "status": status}, safe=True)
        self._sweeps.pop(sweep.run_id, None)

    def sweeps(self, experiment: str) -> list[SweepRun]:
        """The finished sweeps of an experiment, the newest first. Raises `TrackingError`."""
        with self._told():
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                return []
            query = "tags.kind = 'sweep' and attributes.status = 'FINISHED'"
            runs = list(self._all([found.experiment_id], query, "attributes.end_time DESC"))
        return [
            SweepRun(
                run.info.run_id,
                run.info.run_name,
                run.data.tags.get("sweep.key", ""),
                run.info.end_time / 1000,
                {name: run.data.tags.get(f"{LATEST}{name}", value) for name, value in run.data.params.items()},
                dict(run.data.metrics),
            )
            for run in runs
        ]

    def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
        """A file of a run, copied into `folder`; None where it has none of this name. Raises `TrackingError`."""
        key = self._open[run_id].key if run_id in self._open else run_id
        for kept in self._outbox.files_of(key):
            try:
                return Path(shutil.copy2(kept / name, folder))
            except OSError:
                continue  # delivered meanwhile, or not among these
        with self._told():
            run_id = self._run_of(run_id)
            parent = str(Path(name).parent) if "/" in name else None
            if all(file.path != name for file in self.client.list_artifacts(run_id, parent)):
                return None
            return Path(self.client.download_artifacts(run_id, name, str(folder)))

    def ui_command(self) -> str:
        """The command that shows the runs, or where the server already does."""
        if self._uri.startswith("http"):
            return f"open {self.shown_uri}/#/experiments{self._latest}"
        return f"uv run mlflow ui --backend-store-uri {self.shown_uri}"

    def close(self, timeout: float = 60) -> list[str]:
        """End as KILLED what is still open, and deliver what can be in `timeout` seconds. Returns what to tell.

        Nothing can be recorded afterwards; another call does nothing.
        """
        if self._closed.is_set():
            return []
        for opened in list(self._open.values()):
            if opened.trial.status == "running":
                opened.trial.status = "interrupted"
            self.ended(opened.trial)
        for sweep in list(self._sweeps.values()):
            self.end_sweep(sweep, "KILLED")
        left = self._outbox.close(timeout)
        self._closed.set()
        if left:
            where = f"MLflow at {self.shown_uri} are kept in {self._outbox.folder}"
            return [f"{left} records for {where}: the next sweep with this folder delivers them"]
        try:
            with self._told():
                for run in self._running(f"tags.driver = '{self._me.driver}'"):  # of a claim that was interrupted
                    self._log(run.info.run_id, tags={"held": ""})
                    self.client.set_terminated(run.info.run_id, "KILLED")
        except TrackingError as error:
            return [str(error)]
        return []

    # Claims

    def claim(self, trial: TrialState, sweep: Sweep, *, fresh: bool = False) -> Claim:
        """Whether this process may train `trial` now; if so `trial.run_id` is set. `fresh` where it is trained again.

        A run that a dead driver left, or that was interrupted or failed, is reopened. Where MLflow does not answer the
        claim is ours until it does. Raises `TrackingError` where it refuses.
        """
        if trial.evaluates_only:
            return Ours(trial.run_id)
        opening = self._opening(trial, sweep, fresh)
        key: str = opening["key"]
        target = None
        if not self._outbox.down:
            try:
                contest = self._contest(opening)
            except Exception as error:
                if isinstance(error, MlflowException) and not _temporary(error):
                    raise TrackingError(f"MLflow at {self.shown_uri} refuses a run: {_masked(error)}") from error
                if not _temporary(error):
                    raise
            else:
                if not isinstance(contest, _Target):
                    return contest
                target = self._targets[key] = contest
        trial.run_id = target.run_id if target else key
        logged, attempts = (dict(target.logged), target.attempts) if target else ({}, 1)
        self._open[trial.run_id] = _Open(key, trial, sweep.shown, opening, logged, attempts)
        self._outbox.put(key, {**opening, "op": "open"})
        return Ours(trial.run_id)

    def _opening(self, trial: TrialState, sweep: Sweep, fresh: bool) -> Record:
        """Everything that it takes to make the run of a trial, whichever process does."""
        key = PROVISIONAL + uuid.uuid4().hex
        config = trial.config
        tags = {
            "mlflow.parentRunId": sweep.run_id,
            "kind": "trial",
            "phase": trial.phase,
            "row": trial.row,
            "identity": trial.identity,
            "attempts": "1",
            **self._me.tags(),
            "claim": key,
            "held": "yes",
        }
        labels = {
            "method": config.method,
            "protocol": config.protocol,
            "split_family": config.split_family,
            "split": str(config.split),
            "seed": str(config.seed),
            "training_seed": str(seeds(config)[0]),
            **_code_tags(),
        }
        return {
            "key": key,
            "experiment": sweep.experiment_id,
            "identity": trial.identity,
            "name": trial.name,
            "tags": tags,
            "labels": labels,  # what no claim needs: with the first delivery
            "params": {name: str(value) for name, value in _flat(config.settings())},
            "started": _now(),
            "fresh": fresh,
        }

    def _contest(self, opening: Record) -> _Target | Finished | Elsewhere:
        """Win the claim, or say who has it."""
        identity, fresh = opening["identity"], opening["fresh"]
        if self._seen is None or identity in self._seen or fresh:
            # Who waits for another, or goes on with what was left, then leaves no trace. It is no part of the contest.
            runs = self._runs_of(identity, self._experiment_ids())
            if any(run.data.tags.get("driver") == self._me.driver and self._held(run) for run in runs):
                self._outbox.flush(BEAT, once=True)  # our own, whose end is still to be delivered
                runs = self._runs_of(identity, list(self._experiments))
            if taken := self._taken(runs, fresh):
                return taken
        with self._alone():
            contest = self._compete(opening)
        if not isinstance(contest, _Target) and self._seen is not None:
            self._seen.add(identity)
        return contest

    def _compete(self, opening: Record) -> _Target | Finished | Elsewhere:
        fresh = opening["fresh"]
        run_id = self._create(opening, opening["tags"])
        deadline = time.monotonic() + PATIENCE
        while True:
            runs = self._runs_of(opening["identity"], self._experiment_ids())
            others = [run for run in runs if run.info.run_id != run_id]
            taken = self._taken(others, fresh)
            if taken is None:
                break
            ours = next((run for run in runs if run.info.run_id == run_id), None)
            rivals = [run for run in others if self._held(run)]
            first = ours is not None and all(_order(ours) < _order(run) for run in rivals)
            if isinstance(taken, Finished) or not first or time.monotonic() > deadline:
                self.client.delete_run(run_id)
                return taken
            time.sleep(0.1)
        earlier = None if fresh else self._resumable(others)
        if earlier is None:
            return _Target(run_id, won=time.time())
        target = self._take_over(earlier, opening)
        self.client.delete_run(run_id)  # only now: one of the two has named us all the time
        return replace(target, won=time.time())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no delivery asks the store. Raises `TimeoutError` where one does not get its answer."""
        with self._claiming:
            if not self._turn.acquire(timeout=TURN):
                raise TimeoutError(f"no answer for {TURN:g} seconds")
            try:
                yield
            finally:
                self._turn.release()

    @contextmanager
    def _request(self) -> Iterator[None]:
        """One request to the store, when no claim is under way."""
        with self._claiming:
            pass
        with self._turn:
            yield

    def _taken(self, runs: Sequence[Run], fresh: bool) -> Finished | Elsewhere | None:
        for run in runs:
            if _counts(run) and not fresh:
                return Finished(self._known(run))
        for run in runs:
            if self._held(run):
                return Elsewhere(self._who(run))
        return None

    def _who(self, run: Run) -> str:
        tags = run.data.tags
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))
        sweep = self._experiments.get(run.info.experiment_id, run.info.experiment_id)
        return f"process {tags.get('pid')} on {tags.get('host')}, sweep {sweep}, since {since}"

    def _resumable(self, runs: Sequence[Run]) -> Run | None:
        """The newest run that was not brought to its end."""
        ended = ("RUNNING", "KILLED", "FAILED")
        left = [run for run in runs if run.info.status in ended and not self._held(run)]
        left = [run for run in left if not {"stopped", "duplicate_of"} & set(run.data.tags)]
        return max(left, key=_order, default=None)

    def _create(self, opening: Record, tags: Mapping[str, str]) -> str:
        with self._request():
            run = self.client.create_run(
                opening["experiment"], start_time=opening["started"], tags=dict(tags), run_name=opening["name"]
            )
        return run.info.run_id

    def _take_over(self, run: Run, opening: Record) -> _Target:
        """Continue a run: it names the new driver from the first request on."""
        attempts = int(run.data.tags.get("attempts", "1")) + 1
        self._log(run.info.run_id, tags={**opening["tags"], **opening["labels"], "attempts": str(attempts)})
        self.client.update_run(run.info.run_id, status="RUNNING", name=opening["name"])
        # An epoch's metrics came together: one of them tells the last epoch of all.
        names = run.data.metrics
        told = next((name for name in ("train/loss", *names) if name in names), None)
        last = max((m.step for m in self.client.get_metric_history(run.info.run_id, told)), default=-1) if told else -1
        params = frozenset(run.data.params)
        return _Target(run.info.run_id, params=params, logged=dict.fromkeys(names, last), attempts=attempts)

    def _held(self, run: Run) -> bool:
        """Whether a live driver has this run open.

        Not its status alone: one that ends the runs of the dead may end a run that was taken over at that moment.
        """
        tags = run.data.tags
        driver = said_by(tags)
        if driver is None or (run.info.status != "RUNNING" and tags.get("held") != "yes"):
            return False
        if (here := lives_here(driver)) is not None:
            return here
        asked, alive = self._alive.get(driver.driver, (0.0, False))
        if time.monotonic() - asked > BEAT / 3 or not asked:
            heartbeat = tags.get("heartbeat")
            if heartbeat is None and (parent := tags.get("mlflow.parentRunId")):
                heartbeat = self.client.get_run(parent).data.tags.get("heartbeat")
            alive = beats(heartbeat or "")
            self._alive[driver.driver] = (time.monotonic(), alive)
        return alive

    # Trials

    def started(self, trial: TrialState) -> None:
        """An evaluation that is added to a finished run is opened here; a training was by its claim."""
        if trial.evaluates_only:
            opening = {"key": trial.run_id, "identity": trial.identity, "evaluates": True}
            self._targets.setdefault(trial.run_id, _Target(trial.run_id))
            self._open[trial.run_id] = _Open(trial.run_id, trial, frozenset(SHOWN), opening, {}, 1)

    def reported(self, trial: TrialState) -> None:
        opened = self._open[trial.run_id]
        if trial.device != opened.device:
            opened.device = trial.device
            self._outbox.put(opened.key, {"op": "tags", "tags": {"device": trial.device}})
        self._log_metrics(opened, everything=trial.status == "finished")

    def ended(self, trial: TrialState) -> None:
        """The trial's own folder may be deleted when this returns."""
        opened = self._open[trial.run_id]
        if trial.status == "finished":
            self._log_metrics(opened, everything=True)
        end: Record = {"op": "end", "status": trial.status, "opening": opened.opening}
        texts = {}
        if trial.error:
            texts["traceback.txt"] = trial.error
        if trial.files is None and not trial.evaluates_only:
            texts["config.yaml"] = config_yaml(trial.config)
        tags = {}
        if trial.status == "stopped":
            tags["stopped"] = f"by the scheduler, after epoch {trial.epoch:g}"
        if trial.attempt > 1:
            tags["attempts"] = str(opened.attempts + trial.attempt - 1)
        if trial.warnings:
            tags["warnings"] = "\n".join(trial.warnings)[:LONGEST_TAG]
        if opened.device != trial.device:
            tags["device"] = trial.device
        end |= {"texts": texts, "tags": tags}
        self._outbox.put(opened.key, end, files=trial.files, safe=True)
        if self._seen is not None and trial.status != "finished":
            self._seen.add(trial.identity)
        del self._open[trial.run_id]  # only now: an interrupt before this leaves it for `close`

    def _log_metrics(self, opened: _Open, *, everything: bool) -> None:
        trial = opened.trial
        step = int(trial.epoch)
        if step != trial.epoch:
            return  # between two epochs: nothing is new
        names = [n for n in trial.metrics if everything or n.startswith("train/") or n in opened.shown]
        values = {n: trial.metrics[n] for n in names if opened.logged.get(n, -1) < step}
        if values:
            opened.logged |= dict.fromkeys(values, step)
            self._outbox.put(opened.key, {"op": "metrics", "time": _now(), "step": step, "values": values})

    # Delivery, on the thread of the outbox: every record may come again, in another process

    def _deliver(self, key: str, records: list[Record]) -> None:
        try:
            if any(record["op"] in ("cells", "result", "end sweep") for record in records):
                self._deliver_sweep(key, records)
            else:
                self._deliver_trial(key, records)
        except Exception as error:
            if _temporary(error):
                raise UnavailableError(_masked(error)) from error
            raise

    def _deliver_sweep(self, run_id: str, records: list[Record]) -> None:
        cells = [record for record in records if record["op"] == "cells"][-1:]  # each is the whole list
        for record in cells:
            listed = [{**c, "run_id": self._run_of(c["run_id"])} if c.get("run_id") else c for c in record["cells"]]
            self.client.log_text(run_id, json.dumps(listed, indent=1), "cells.json")
        for record in records:
            match record["op"]:
                case "files":
                    self._log_folder(run_id, record)
                case "result":
                    self._result(self.client.get_run(run_id), record["metrics"], record["params"], record["time"])
                case "end sweep":
                    self._log(run_id, tags={"held": ""})
                    self.client.set_terminated(run_id, record["status"])

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
        metrics = [
            Metric(name, value, record["time"], record["step"])
            for record in records
            if record["op"] == "metrics"
            for name, value in record["values"].items()
            if target.logged.get(name, -1) < record["step"]
        ]
        try:
            self._log(target.run_id, metrics, params, tags)
        except MlflowException as error:
            if end is None or not target.won or _temporary(error):
                raise
            self._targets[key] = replace(target, won=0.0)  # the run may have been deleted: look
            return self._deliver_trial(key, records)
        for record in records:
            if "files" in record:
                self._log_folder(target.run_id, record)
            for name, text in record.get("texts", {}).items():
                self.client.log_text(target.run_id, text, name)
        if status is not None:
            with self._request():
                self.client.set_terminated(target.run_id, status)
            self._targets.pop(key, None)

    def _find(self, key: str, opening: Record, *, ended: bool) -> _Target:
        """The run of a key: known since its claim, or found by it, or made now for one that was provisional.

        Raises `TrackingError` where another driver goes on with a trial that had not `ended`.
        """
        if key in self._targets:
            return self._targets[key]
        if not key.startswith(PROVISIONAL):
            return _Target(key)
        experiments = self._experiment_ids()
        run = next(iter(self._all(experiments, f"tags.claim = '{key}'")), None)
        if run is not None:
            target = _Target(run.info.run_id)
        else:
            runs = self._runs_of(opening["identity"], experiments) if opening else []
            foreign = not opening or opening["tags"]["driver"] != self._me.driver
            if foreign and not ended and (not opening or any(_counts(run) or self._held(run) for run in runs)):
                raise TrackingError("another driver goes on with its trial")
            earlier = None if opening["fresh"] else self._resumable(runs)
            if earlier is not None:
                target = self._take_over(earlier, opening)
            else:
                target = _Target(self._create(opening, opening["tags"] | opening["labels"]))
        self._targets[key] = target
        self._named[key] = target.run_id
        return target

    def _settle(self, key: str, target: _Target, end: Record) -> tuple[_Target, End | None, dict[str, str]]:
        """How a run ends, and the tags that say why. Never two runs of an identity count as finished."""
        opening = end["opening"]
        if opening.get("evaluates"):
            # A finished run ends again: that is what an index notices.
            return target, "FINISHED" if end["status"] == "finished" else None, {}
        if end["status"] != "finished":
            ends: dict[str, End] = {"stopped": "FINISHED", "failed": "FAILED"}
            return target, ends.get(end["status"], "KILLED"), {}
        certain = self._certain(target)
        if certain and not opening["fresh"]:
            return target, "FINISHED", {}
        runs = self._runs_of(opening["identity"], self._experiment_ids())
        ours = next((run for run in runs if run.info.run_id == target.run_id), None)
        if ours is None or ours.data.tags.get("claim") != key:
            # Ours was deleted, or taken over.
            target = self._targets[key] = _Target(self._create(opening, opening["tags"] | opening["labels"]))
        others = [run for run in runs if run.info.run_id != target.run_id]
        rival = next((run for run in others if _counts(run)), None)
        if rival is not None and opening["fresh"]:
            for run in others:
                if _counts(run):
                    self._log(run.info.run_id, tags={"superseded": target.run_id})
                    self.client.set_terminated(run.info.run_id, "FINISHED")  # again: that is what an index notices
            rival = None
        if rival is None and not certain:
            rival = next((run for run in others if self._held(run)), None)
        if rival is not None:
            return target, "KILLED", {"duplicate_of": rival.info.run_id}
        return target, "FINISHED", {}

    def _certain(self, target: _Target) -> bool:
        """Whether nobody can have taken over this run: its claim was won, and no sign of life came late since."""
        return self._lapsed < target.won and time.time() - self._beaten < SILENCE / 2

    def _log_folder(self, run_id: str, record: Record) -> None:
        folder = Path(record["files"])
        if folder.is_dir():
            self.client.log_artifacts(run_id, str(folder), record.get("under") or None)
        else:
            self._say(f"files of MLflow run {run_id} are gone: {folder}")

    def _result(self, run: Run, metrics: Mapping[str, float], params: Mapping[str, Any], at: int = 0) -> None:
        """Metrics and params of a sweep's run; a param that it has with another value goes into a tag."""
        told = {name: str(value) for name, value in _flat(params)}
        had = run.data.params
        changed = {f"{LATEST}{n}": v for n, v in told.items() if n in had and had[n] != v}
        new = [(n, v) for n, v in told.items() if n not in had]
        self._log(run.info.run_id, [Metric(n, v, at, 0) for n, v in metrics.items()], new, changed)

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Iterable[tuple[str, Any]] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """As few requests as MLflow's limits allow. One epoch's metrics stay together where they fit."""
        listed = [Param(name, str(value)) for name, value in params]
        labels = [RunTag(name, value) for name, value in (tags or {}).items()]
        for start in range(0, max(len(listed), len(labels)), PARAMS):
            part = slice(start, start + PARAMS)
            here = list(metrics) if len(metrics) <= BATCH - 2 * PARAMS and start == 0 else []
            with self._request():
                self.client.log_batch(run_id, params=listed[part], tags=labels[part], metrics=here)
            metrics = metrics[len(here) :]
        for start in range(0, len(metrics), BATCH):
            with self._request():
                self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    # The store

    def _run_of(self, run_id: str) -> str:
        """The id of a run, given it or a provisional one."""
        if not run_id.startswith(PROVISIONAL):
            return run_id
        return self._named.get(run_id) or self._find(run_id, {}, ended=False).run_id

    def _runs_of(self, identity: str, experiments: Sequence[str]) -> list[Run]:
        """Every run of an identity that is not deleted."""
        query = f"tags.identity = '{identity}'"
        return [run for run in self._all(experiments, query) if run.data.tags.get("kind") == "trial"]

    def _all(self, experiments: Sequence[str], query: str, order: str = "attributes.start_time DESC") -> Iterator[Run]:
        token = None
        while True:
            with self._request():
                page = self.client.search_runs(
                    list(experiments), query, max_results=BATCH, order_by=[order], page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return

    def _experiment_ids(self) -> list[str]:
        """Of all experiments, also those that others made since: a claim must be seen by all."""
        found: dict[str, str] = {}
        token = None
        while True:
            with self._request():
                page = self.client.search_experiments(max_results=BATCH, page_token=token)
            found |= {experiment.experiment_id: experiment.name for experiment in page}
            token = page.token
            if not token:
                self._experiments = found
                return list(found)

    def _experiment(self, name: str) -> str:
        """The id of an experiment, made where there is none. Its files lie beside a database file."""
        if found := self.client.get_experiment_by_name(name):
            return found.experiment_id
        place = None
        if file := _sqlite_file(self._uri):
            place = (file.parent / "mlruns" / name).as_uri()
        tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens in its training view
        try:
            return self.client.create_experiment(name, artifact_location=place, tags=tags)
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS" and (found := self.client.get_experiment_by_name(name)):
                return found.experiment_id  # another sweep was first
            raise

    def _page(self, experiments: Sequence[str], token: str | None, size: int) -> index.Page:
        query = "attributes.end_time > 0 and tags.kind = 'trial'"
        order = ["attributes.end_time ASC"]
        try:
            found = self.client.search_runs(
                list(experiments), query, max_results=size, order_by=order, page_token=token
            )
        except MlflowException as error:
            if token is None or _temporary(error):
                raise
            return index.Page([], None)  # a token of a store that was made anew
        entries = [
            index.Entry(r.info.run_id, r.data.tags.get("identity", ""), self._known(r) if _counts(r) else None)
            for r in found
        ]
        following = found.token.decode() if isinstance(found.token, bytes) else found.token
        return index.Page(entries, following or None)

    def _known(self, run: Run) -> Known:
        tags, metrics = run.data.tags, run.data.metrics
        took = (run.info.end_time - run.info.start_time) / 1000
        return Known(
            identity=tags["identity"],
            run_id=run.info.run_id,
            sweep=self._experiments.get(run.info.experiment_id, ""),
            row=tags.get("row", ""),
            phase=tags.get("phase", ""),
            git_sha=tags.get("git.sha", ""),
            git_dirty=tags.get("git.dirty", ""),
            ended=run.info.end_time / 1000,
            seconds=metrics.get("train/seconds", took),
            device=tags.get("device", ""),
            details=json.dumps({"params": dict(run.data.params), "metrics": dict(metrics)}),
        )

    def _end_dead_runs(self) -> None:
        """No run stays RUNNING whose driver is gone, also where nobody wants its trial any more."""
        for run in self._running("tags.driver != ''"):
            if not self._held(run):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _running(self, query: str) -> list[Run]:
        return list(self._all(self._experiment_ids(), f"attributes.status = 'RUNNING' and {query}"))

    def _beat(self) -> None:
        """Signs of life on the runs of the open sweeps, for drivers on other machines."""
        while not self._closed.wait(BEAT):
            try:
                for run_id in list(self._sweeps):
                    with self._request():
                        self.client.set_tag(run_id, "heartbeat", str(time.time()))
            except (MlflowException, OSError):
                continue  # the outbox tells
            now = time.time()  # a machine that slept shows as well
            if now - self._beaten > SILENCE / 2:
                self._lapsed = now
            self._beaten = now

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What MLflow raises, as `TrackingError`."""
        try:
            yield
        except (MlflowException, OSError) as error:
            raise TrackingError(f"MLflow at {self.shown_uri} cannot be used: {_masked(error)}") from error


def _counts(run: Run) -> bool:
    """Whether a run's trial needs no training any more."""
    return run.info.status == "FINISHED" and not {"stopped", "superseded"} & set(run.data.tags)


def _order(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id


def _now() -> int:
    """In MLflow's milliseconds."""
    return int(time.time() * 1000)


def _temporary(error: Exception) -> bool:
    """Whether the same request may succeed later: no answer, a full disk, a locked database; not refusals and bugs."""
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()  # type: ignore[no-untyped-call]
        return status >= 500 or status == 429
    return not isinstance(error, TypeError | ValueError | LookupError | AttributeError | TrackingError)


def _without_password(text: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://***@", text)


def _masked(error: Exception) -> str:
    """The first line of what MLflow or a library says, for people to see."""
    text = str(error).strip() or type(error).__name__
    return _without_password(text.splitlines()[0])


@contextmanager
def _one_at_a_time(store: str) -> Iterator[None]:
    """Among the processes of this machine that use a store."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"store-{store}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flat(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A mapping among the settings as one parameter for each of its own: `teacher.backbone`."""
    for name, value in params.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", v) for inner, v in value.items())
        else:
            yield name, value


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, None for any other."""
    kind, _, rest = uri.partition("?")[0].partition(":///")
    return Path(rest).resolve() if kind == "sqlite" and rest else None


def _absolute(uri: str) -> str:
    """The same for the same store, wherever the command is started."""
    file = _sqlite_file(uri)
    _, mark, options = uri.partition("?")
    return f"sqlite:///{file}{mark}{options}" if file else uri


def _check_reachable(uri: str, shown: str) -> None:
    """Ask once, with a short limit: MLflow itself would retry for minutes before it says a word."""
    if file := _sqlite_file(uri):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingError(f"MLflow at {shown} cannot be used: {error}") from error
    elif uri.startswith(("http://", "https://")):
        try:
            with urlopen(f"{uri.rstrip('/')}/health", timeout=10):
                pass
        except HTTPError:
            pass  # it answers: a server behind a login may refuse this page and still take runs
        except OSError as error:
            raise TrackingError(f"MLflow at {shown} does not answer: {error}. Is the server running?") from error


@cache
def _code_tags() -> dict[str, str]:
    """Which code and which versions: git sha, whether it was changed, and the libraries that shape numbers."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    sha = git("rev-parse", "HEAD")
    dirty = str(bool(git("status", "--porcelain"))).lower() if sha else "unknown"
    libraries = ("torch", "torchvision", "numpy", "ray", "optuna", "mlflow")
    source = {"mlflow.source.name": "platform.sweep", "mlflow.source.type": "LOCAL", "mlflow.source.git.commit": sha}
    return source | {"git.sha": sha or "unknown", "git.dirty": dirty} | {f"version.{n}": version(n) for n in libraries}
