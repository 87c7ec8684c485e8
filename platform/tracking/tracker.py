"""What the rest of the platform talks to: claims are asked of MLflow at once, all else goes through the outbox."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from platform.command import command
from platform.tracking import index, sweeps
from platform.tracking.address import check_writable
from platform.tracking.claims import ClaimOutcome, Claims, Ours, Target
from platform.tracking.delivery import Delivery
from platform.tracking.drivers import BEAT, Drivers, Heartbeat
from platform.tracking.errors import TrackingError, masked, temporary
from platform.tracking.evaluations import full_names, saw, shared_metrics
from platform.tracking.index import FinishedTrial, SweepRun
from platform.tracking.outbox import Outbox, Record
from platform.tracking.runs import ended_page, now, opening_of
from platform.tracking.store import End, Store
from platform.tracking.sweeps import OpenSweep
from platform.tracking.trials import Listener, TrialState, flat
from trainables.reading.addresses import without_user
from trainables.settings.config import config_yaml

# Of each epoch, with train/*; the last has all. By the trial's own score: a run has no `val/auroc`, but
# `val/pseudo-unknown/<score>/auroc`
SHOWN = frozenset({"val/accuracy", "val/auc", "val/auroc", "val/oscr"})
LONGEST_TAG = 5000  # characters that MLflow takes


@dataclass
class _Open:
    """A trial under way in this process."""

    key: str  # of its records
    trial: TrialState
    shown: frozenset[str]
    opening: Record
    logged: dict[str, int]  # the latest step of each metric
    attempts: int  # with those of earlier drivers, up to its claim
    device: str = ""


class Tracker(Listener):
    """A `Listener` that writes to MLflow. Every run that this process opened has ended once `close` returns.

    What a dead process left in `outbox` for the same store is delivered first, and runs of dead drivers are ended.
    Messages for people go to `say`, from any thread. Raises `TrackingError` where the store does not answer.
    """

    def __init__(self, uri: str, outbox: Path, say: Callable[[str], None]) -> None:
        check_writable(uri)
        self._store = Store(uri)
        self._index = self._store.index
        self._drivers = Drivers(self._store)
        self._heartbeat = Heartbeat(self._store, self._drivers.me.driver)
        self._claims = Claims(self._store, self._drivers)
        self._delivery = Delivery(self._store, self._claims, self._drivers, self._heartbeat, say)
        self._open: dict[str, _Open] = {}  # by run id
        self._sweeps: dict[str, OpenSweep] = {}  # by run id
        self._latest = ""  # the experiment of the latest sweep
        self._closed = False
        receiver = f"MLflow at {self._store.shown}"
        try:
            self._outbox = Outbox(outbox, self._store.name, self._delivery.deliver, say, receiver)
        except OSError as error:
            raise TrackingError(f"records for MLflow cannot be kept: {error}. Choose another folder.") from error
        if left := self._outbox.left_behind:
            say(f"{left} records that an interrupted sweep left are being delivered")
            while not self._outbox.flush(10, once=True) and not self._outbox.down:
                pass
        with self._store.told():
            for run in self._running("tags.driver != ''"):
                if not self._drivers.hold(run):  # no run stays RUNNING whose driver is gone, wanted or not
                    self._store.end(run.info.run_id, "KILLED")
        self._heartbeat.start()

    # Before and after trials

    def finished(self) -> dict[str, FinishedTrial]:
        """The finished trials by identity, of all experiments. Raises `TrackingError`."""
        self._deliver_own()
        try:
            with self._store.told():
                ids = self._store.experiment_ids()
                found = index.finished(self._index, lambda *where: ended_page(self._store, ids, *where))
        except TrackingError:
            if self._claims.unsettled is None:
                raise
            return index.finished(self._index, None)  # claims look again
        unfinished = index.unfinished(self._index)
        self._claims.unsettled = None if unfinished is None else set(unfinished)
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
    ) -> OpenSweep:
        """Open the sweep's run, the newest with this `key` unless a live process has it, else a new one.

        `files` become its artifacts; `shown` are metrics that are logged at every epoch. Raises `TrackingError`.
        """
        with self._store.told():
            place = self._store.make_experiment(experiment)
            run_id = sweeps.open_run(self._store, self._drivers, place, name, key, _strings(params), tags, files)
        sweep = OpenSweep(run_id, experiment, place, SHOWN | set(shown))
        self._sweeps[run_id] = sweep
        self._heartbeat.sweeps.add(run_id)
        self._latest = place
        return sweep

    def requests(self, sweep: OpenSweep, requests: Sequence[Mapping[str, Any]]) -> None:
        """List what the sweep wants and which run has it, as far as that is known now: `cells.json`."""
        self._outbox.put(sweep.run_id, {"op": "cells", "last": True, "cells": [dict(request) for request in requests]})

    def log_result(self, sweep: OpenSweep, metrics: Mapping[str, float], params: Mapping[str, Any]) -> None:
        """What the whole sweep found, on its run. A reopened sweep may find something else than before."""
        result = {"op": "result", "metrics": dict(metrics), "params": _strings(params), "time": now()}
        self._outbox.put(sweep.run_id, result, safe=True)

    def end_sweep(self, sweep: OpenSweep, status: End) -> None:
        self._outbox.put(sweep.run_id, {"op": "end sweep", "status": status, "time": now()}, safe=True)
        self._sweeps.pop(sweep.run_id, None)
        self._heartbeat.sweeps.discard(sweep.run_id)

    def sweeps(self, experiment: str) -> list[SweepRun]:
        """The finished sweeps of an experiment, the last to end first. Raises `TrackingError`."""
        with self._store.told():
            found = self._store.experiment(experiment)
            return [sweep for sweep in sweeps.newest_sweeps(self._store, [found] if found else []) if sweep.finished]

    def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
        """A file of a run, copied into `folder`; None where it has none of this name. Raises `TrackingError`."""
        for kept in self._outbox.files_of(self._key(run_id)):
            try:
                return Path(shutil.copy2(kept / name, folder))
            except OSError:
                continue  # delivered meanwhile, or not among these
        self._deliver_own()
        with self._store.told():
            return self._store.fetch(self._delivery.run_of(run_id), name, folder)

    @property
    def store(self) -> str:
        """Its short name, in the names of what is kept for it."""
        return self._store.name

    @property
    def shown(self) -> str:
        """The store's address as people may see it."""
        return self._store.shown

    def how_to_see(self) -> str:
        """The command that shows the runs where no server does, and the page that lists them, of the latest sweep.

        The page is opened in the UI's mode for training: in the other one, MLflow 3's own, runs are not listed.
        """
        page = f"/#/experiments/{self._latest}/runs?workflowType=machine_learning"
        if self._store.uri.startswith("http"):
            return f"See it at\n  {without_user(self._store.uri).rstrip('/')}{page}"
        start = command("mlflow", "ui", "--backend-store-uri", self._store.shown)
        return f"See it with\n  {start}\nat\n  http://127.0.0.1:5000{page}"

    @property
    def to_end(self) -> Set[str]:
        """The identities of trials that somebody asked this process to end."""
        return self._heartbeat.to_end

    def close(self, timeout: float = 60) -> list[str]:
        """End as KILLED what is still open, and deliver what can be in `timeout` seconds. Returns what to tell.

        Nothing can be recorded afterwards; another call does nothing.
        """
        if self._closed:
            return []
        for opened in list(self._open.values()):
            if opened.trial.status == "running":
                opened.trial.status = "interrupted"
            self.ended(opened.trial)
        for sweep in list(self._sweeps.values()):
            self.end_sweep(sweep, "KILLED")
        left = self._outbox.close(timeout)
        self._closed = True
        self._heartbeat.end()
        problems = []
        records, folder = f"records for MLflow at {self._store.shown}", self._outbox.folder
        if left:
            problems.append(f"{left} {records} are kept in {folder}: the next sweep with this folder delivers them")
        if lost := self._outbox.lost:
            problems.append(
                f"{lost} {records} are lost: {folder} has no room for them. Make some: the next sweep does again what "
                "they told, from the checkpoints that there are"
            )
        if refused := self._outbox.refused:
            problems.append(
                f"{refused} {records} were refused, as told above, and are set aside in {self._outbox.aside}: nothing "
                "reads them again. Mend what it says: the same command does again what they told of trials"
            )
        if left or lost:
            return problems
        try:
            with self._store.told():
                for run in self._running(f"tags.driver = '{self._drivers.me.driver}'"):  # of an interrupted claim
                    self._store.log(run.info.run_id, tags={"held": ""})
                    self._store.end(run.info.run_id, "KILLED")
        except TrackingError as error:
            problems.append(str(error))
        return problems

    # Trials

    def claim(self, trial: TrialState, sweep: OpenSweep, *, fresh: bool = False) -> ClaimOutcome:
        """Whether this process may train `trial` now; if so `trial.run_id` is set. `fresh` where it is trained again.

        A run that a dead driver left, or that was interrupted or failed, is reopened. Where MLflow does not answer the
        claim is ours until it does. Raises `TrackingError` where it refuses.
        """
        if trial.evaluates_only:
            return Ours(trial.run_id)
        opening = opening_of(trial, sweep, self._drivers.me, fresh=fresh)
        key: str = opening["key"]
        provisional = Target(key)
        contest = provisional if self._outbox.down else self._contest(opening) or provisional
        if not isinstance(contest, Target):
            return contest
        if contest is not provisional:
            self._delivery.targets[key] = contest
        trial.run_id = contest.run_id
        shown = frozenset(full for name in sweep.shown for full in full_names(name, trial.config))
        self._open[trial.run_id] = _Open(key, trial, shown, opening, dict(contest.logged), contest.attempts)
        self._outbox.put(key, {**opening, "op": "open"})
        return Ours(trial.run_id)

    def started(self, trial: TrialState) -> None:
        """An evaluation that is added to a finished run is opened here; a training was by its claim."""
        if trial.evaluates_only:
            opening = {"key": trial.run_id, "identity": trial.identity, "evaluates": True}
            self._open[trial.run_id] = _Open(trial.run_id, trial, SHOWN, opening, {}, 1)

    def reported(self, trial: TrialState) -> None:
        opened = self._open[trial.run_id]
        if trial.device != opened.device:
            opened.device = trial.device
            self._outbox.put(opened.key, {"op": "tags", "tags": {"device": trial.device}})
        self._log_metrics(opened, everything=trial.status == "finished")

    def ended(self, trial: TrialState) -> None:
        """The trial's own folder may be deleted when this returns, unless it is not `recorded`."""
        opened = self._open[trial.run_id]
        texts, tags = {}, {}
        if trial.status == "finished":
            self._log_metrics(opened, everything=True)
            tags = {name: json.dumps(value) for name, value in saw(trial).items()}
        if trial.error:
            texts["traceback.txt"] = trial.error
        if trial.files is None and not trial.evaluates_only:
            texts["config.yaml"] = config_yaml(trial.config)
        if trial.status == "stopped":
            tags["stopped"] = f"by the scheduler, after epoch {trial.epoch:g}"
        if trial.attempt > 1:
            tags["attempts"] = str(opened.attempts + trial.attempt - 1)
        if trial.warnings:
            tags["warnings"] = "\n".join(trial.warnings)[:LONGEST_TAG]
        if opened.device != trial.device:
            tags["device"] = trial.device
        end = {"op": "end", "status": trial.status, "time": now(), "opening": opened.opening}
        record = end | {"texts": texts, "tags": tags}
        trial.recorded = self._outbox.put(opened.key, record, files=trial.files, safe=True)
        if trial.status != "finished":
            self._claims.remember(trial.identity)
        del self._open[trial.run_id]  # only now: an interrupt before this leaves it for `close`

    def _contest(self, opening: Record) -> Target | ClaimOutcome | None:
        """The outcome of the contest for an identity; None where MLflow does not answer."""
        try:
            return self._claims.contest(opening, self._deliver_own)
        except Exception as error:
            if temporary(error):
                return None
            if isinstance(error, MlflowException):
                raise TrackingError(f"MLflow at {self._store.shown} refuses a run: {masked(error)}") from error
            raise

    def _log_metrics(self, opened: _Open, *, everything: bool) -> None:
        trial = opened.trial
        step = int(trial.epoch)
        if step != trial.epoch:
            return  # between two epochs: nothing is new
        metrics = shared_metrics(trial.metrics)
        names = [n for n in metrics if everything or n.startswith("train/") or n in opened.shown]
        values = {n: metrics[n] for n in names if opened.logged.get(n, -1) < step}
        if values:
            opened.logged |= dict.fromkeys(values, step)
            self._outbox.put(opened.key, {"op": "metrics", "time": now(), "step": step, "values": values})

    def _deliver_own(self) -> None:
        """What this process has recorded, where MLflow answers."""
        if not self._outbox.down:
            self._outbox.flush(BEAT, once=True)

    def _key(self, run_id: str) -> str:
        """Of the records of a run."""
        return self._open[run_id].key if run_id in self._open else run_id

    def _running(self, query: str) -> list[Run]:
        found = self._store.runs(f"attributes.status = 'RUNNING' and {query}", self._store.experiment_ids())
        return list(found)


def _strings(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in flat(params)}
