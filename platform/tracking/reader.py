"""What a report reads of a store: which trials are finished, what became of the others, and the files of runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform.tracking import index
from platform.tracking.address import index_file, sqlite_file, state
from platform.tracking.drivers import asking_to_end, lives
from platform.tracking.errors import TrackingError, masked
from platform.tracking.index import REQUESTS, FinishedTrial, Others, SweepRun, TrialRun
from trainables.reading.addresses import showable

if TYPE_CHECKING:
    from platform.tracking.store import Store


@dataclass(frozen=True)
class Reader:
    """A store as it is now. Every method raises `TrackingError` where it does not answer."""

    uri: str
    finished: Mapping[str, FinishedTrial] = field(default_factory=dict)  # finished trials by identity
    ended: Mapping[str, TrialRun] = field(default_factory=dict)  # runs that ended without it, by identity
    running: Mapping[str, TrialRun] = field(default_factory=dict)  # what is being trained, by identity
    sweeps: Sequence[SweepRun] = ()  # of all experiments, the newest first
    experiments: Mapping[str, str] = field(default_factory=dict)  # the name of each id
    index: Path | None = None  # the file that has every run that ended

    @classmethod
    def open(cls, uri: str) -> Reader | None:
        """None where a SQLite store has not been made yet. One that has not changed since it was read is not asked."""
        store, here = sqlite_file(uri), index_file(uri)
        if store and not store.exists():
            return None
        try:
            now = state(uri)  # before it is read: what changes meanwhile makes another one
        except OSError as error:
            raise TrackingError(f"MLflow at {showable(uri)} cannot be used: {masked(error)}") from error
        found = index.kept(here, now)
        if found is None:
            found = _ask(uri)
            if now:
                index.keep_others(here, now, found[1])
        finished, others = found
        running = {run.identity: run for run in others.running}
        return cls(uri, finished, index.unfinished(here) or {}, running, others.sweeps, others.experiments, here)

    @cached_property
    def store(self) -> Store:
        """Opened when something is asked of it."""
        from platform.tracking.store import Store

        return Store(self.uri)

    def trials(self) -> list[TrialRun]:
        """Every run of a trial, those that are being trained first, then the last to end first."""
        running = {run.run_id for run in self.running.values()}  # one that goes on keeps the time of its first end
        ended = index.ended(self.index) if self.index else []
        return [*self.running.values(), *(run for run in ended if run.run_id not in running)]

    def sweep_of(self, trial: TrialRun) -> SweepRun | None:
        """The sweep whose run a trial's run is under."""
        return next((sweep for sweep in self.sweeps if sweep.run_id == trial.tags.get("sweep")), None)

    def lost(self, run: TrialRun | SweepRun) -> bool:
        """Whether the process is gone that left a run open."""
        of = self.sweep_of(run) if isinstance(run, TrialRun) else run
        return run.ending == "running" and not lives(run.tags, of.tags.get("heartbeat", "") if of else "")

    def images(self, name: str) -> dict[str, tuple[str, int]]:
        """Of each image set, the fingerprint and the number of images that trials were trained on here.

        Where machines have different ones, that of the newest sweep called `name`, else of the newest at all.
        """
        found: dict[str, tuple[str, int]] = {}
        for sweep in [*reversed(self.sweeps), *(s for s in reversed(self.sweeps) if s.experiment == name)]:
            found |= {s: (str(print_), int(count)) for s, (print_, count) in sweep.images.items()}
        return found

    def finished_sweeps(self, name: str) -> list[SweepRun]:
        """The finished sweeps of an experiment, the last to end first."""
        return [sweep for sweep in self.sweeps if sweep.experiment == name and sweep.finished]

    def requests(self, sweep: SweepRun) -> list[dict[str, Any]]:
        """What a sweep wanted, and what became of it."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.fetch(sweep.run_id, REQUESTS, Path(folder))
            return json.loads(file.read_text(encoding="utf-8")) if file else []

    def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
        """A file of a run, copied into `folder`; None where it has none of this name."""
        with self.store.told():
            return self.store.fetch(run_id, name, folder)

    def file_names(self, run_id: str) -> list[str]:
        """Of the files of a run, those in folders left out."""
        with self.store.told():
            return self.store.file_names(run_id)

    def runs(self, run_ids: Sequence[str]) -> dict[str, tuple[dict[str, str], dict[str, float], dict[str, str]]]:
        """Params, metrics and tags of runs, ended or not, by their ids."""
        found = {}
        with self.store.told():
            for start in range(0, len(run_ids), 500):
                listed = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + 500])
                for run in self.store.runs(f"attributes.run_id IN ({listed})", list(self.experiments)):
                    found[run.info.run_id] = (dict(run.data.params), dict(run.data.metrics), dict(run.data.tags))
        return found

    def deleted(self) -> dict[str, str]:
        """The runs of sweeps and trials that were deleted and can be restored, with the address of their files."""
        with self.store.told():
            return {run.info.run_id: run.info.artifact_uri for run in self.store.deleted(list(self.experiments))}

    def erase(self, run_ids: Sequence[str]) -> None:
        """Remove deleted runs for good, with their files."""
        self.store.erase(run_ids)

    def ask_to_end(self, trial: TrialRun) -> None:
        """Ask the process that trains it to end it, with a checkpoint."""
        with self.store.told():
            tags = asking_to_end(trial.identity, trial.tags["driver"])
            self.store.log(trial.tags["sweep"], tags=tags)

    def keep(self, run_id: str, folder: Path, under: str) -> None:
        """Everything that a folder holds becomes files of a run."""
        with self.store.told():
            self.store.put_folder(run_id, folder, under)

    def link(self, run_id: str, experiment: str) -> str:
        """The part of the UI's address that shows a run."""
        ids = {name: number for number, name in self.experiments.items()}
        return f"/#/experiments/{ids.get(experiment, '0')}/runs/{run_id}"


def _ask(uri: str) -> tuple[dict[str, FinishedTrial], Others]:
    """The finished trials of a store, for which the index is brought up to date, and its other runs."""
    from platform.tracking.runs import ended_page, trial_run
    from platform.tracking.store import Store
    from platform.tracking.sweeps import newest_sweeps

    store = Store(uri)
    with store.told():
        experiments = store.experiment_ids()
        finished = index.finished(store.index, lambda *where: ended_page(store, experiments, *where))
        query = "attributes.status = 'RUNNING' and tags.kind = 'trial'"
        found = store.runs(query, experiments)
        running = [trial_run(run, store.experiments.get(run.info.experiment_id, "")) for run in found]
        return finished, Others(dict(store.experiments), running, newest_sweeps(store, experiments), len(finished))
