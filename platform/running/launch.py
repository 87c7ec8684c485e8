"""Tune running the trials of a queue, on the cluster that is connected."""

from __future__ import annotations

import json
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platform.running import connection  # before Ray's own: it says what Ray reads when it is imported
from platform.running.cluster import LostError
from platform.running.interrupt import Interrupt
from platform.running.job import Job
from platform.running.queue import Queue
from platform.running.watch import answers, watching
from platform.tracking.evaluations import just_finished
from platform.tracking.trials import Listener, TrialState
from trainables.images.listing import Content
from trainables.reading.addresses import showable
from trainables.reading.values import listed
from trainables.storage.folder import Folder
from trainables.storage.weights import keep_weights

# isort: split
import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher
from ray.util.placement_group import PlacementGroup, remove_placement_group

# Tune would send a store's keys to workers in a way that Ray writes into logs which everyone on a node can read. Each
# node has keys in its own environment, as this machine's Ray has those that are here.
class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}

BYTE = 1  # of memory
LEFT = ("config.yaml", "weights.pt")  # by every finished trial; one with samples to score leaves scores.parquet too
SECONDS_TO_KEEP = 60.0  # for running trials to keep a checkpoint, once interrupted
SECONDS_TO_BE_SURE = 5.0  # that Ray on this machine has died: nothing starts it again
SECONDS_TO_COME_BACK = 40.0  # for a cluster elsewhere: after a minute, Ray's core would abort this process


@dataclass(frozen=True)
class Site:
    """Where trials find what they need, as every node of the cluster sees it."""

    data_root: Path
    storage: Folder  # of `trials/<store>/<identity>`, with their checkpoints, and of `teachers/`
    store: str  # the short name of the one that records
    fingerprints: Mapping[str, str]


@dataclass
class Run:
    """A queue being worked off: what Tune does, told to the queue and to the listeners."""

    queue: Queue
    listeners: Sequence[Listener]
    site: Site
    interrupt: Interrupt
    say: Callable[[str], None]
    to_end: Callable[[], Set[str]] = frozenset  # the identities of trials that somebody asks to end
    ending: set[str] = field(default_factory=set)  # of those, Tune's names
    jobs: dict[str, Job] = field(default_factory=dict)  # by Tune's name of the trial
    marks: dict[str, int] = field(default_factory=dict)  # of those on several workers, by which to find their groups
    marked: int = BYTE  # the latest mark
    problem: Exception | None = None  # the first error of ours, after which no trial ends: the next command goes on

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what it is given into a snapshot that nobody reads

    def start(self, trial_id: str, job: Job) -> dict[str, Any]:
        """What the worker is given."""
        trial, resources = job.trial, job.resources
        self.jobs[trial_id] = job
        order = {
            "settings": trial.config.settings(),
            "identity": trial.identity,
            "teacher": self.queue.plan.identity(job.teacher) if job.teacher else "",
            "evaluates_only": trial.evaluates_only,
            "workers": resources.workers,
            "mark": self._mark(trial_id) if resources.workers > 1 else 0,
            "cpus": resources.cpus_per_worker,
            "gpus": resources.gpus,
            "data_root": str(self.site.data_root.resolve()),
            "storage": self.site.storage.uri,
            "store": self.site.store,
            "fingerprints": dict(self.site.fingerprints),
            "tested": {n: c.fingerprint for n, c in self.queue.plan.images.tested(trial.config).items()},
        }
        if trial.attempt == 1:
            for listener in self.listeners:
                listener.started(trial)
        # What waits for its workers takes a byte of memory: they need all CPUs, and one cannot ask for nothing.
        needs = {"CPU": resources.cpus_per_worker} | ({"GPU": resources.gpus} if resources.gpus else {})
        return {"trial": json.dumps(order), "needs": needs if resources.workers == 1 else {"memory": BYTE}}

    def _mark(self, trial_id: str) -> int:
        """A number that no attempt had before."""
        self._free_lost()
        self.marked += 1
        self.marks[trial_id] = self.marked
        return self.marked

    def _free_lost(self) -> None:
        """Free what Ray Train reserved for an attempt whose processes were killed, before they could do it."""
        own = ray.get_runtime_context().get_job_id()
        for name, group in ray.util.placement_group_table().items():
            marks = {int(bundle.get("memory", BYTE)) for bundle in group["bundles"].values()}
            lost = marks.isdisjoint({BYTE, *self.marks.values()}) and group["state"] != "REMOVED"
            if name.endswith(own) and lost:
                remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))

    def placed(self, trial_id: str) -> None:
        """A worker has room for it, which until then it waited for."""
        with self.ours():
            for listener in self.listeners:
                listener.placed(self.jobs[trial_id].trial)

    def stops(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Pass a report on; whether early stopping ends the trial here."""
        if not self.problem:
            with self.ours():
                return self._reported(trial_id, result)
        return False

    @contextmanager
    def ours(self) -> Iterator[None]:
        """An error of ours within one of Tune's callbacks, which Tune would take for a trial's, ends the sweep."""
        try:
            yield
        except Exception as error:
            self.problem = self.problem or error

    def _reported(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        job = self.jobs[trial_id]
        trial = job.trial
        if failure := result.get("failure"):
            trial.status, trial.error, job.curable = "failed", showable(failure), result["again"]
            return False
        trial.device, trial.warnings = result["device"], result["warnings"]
        trial.resumed = max((epoch for epoch, _ in result["history"]), default=trial.resumed)
        for epoch, metrics in result["history"]:  # of an attempt before this one, which may not have been heard
            self._tell(trial, epoch, metrics)
        if result["last"]:
            trial.status, trial.tested = "finished", {name: Content(*c) for name, c in result["tested"].items()}
        self._tell(trial, result["epoch"], result["metrics"])
        if trial_id in self.ending and trial.status == "running":
            return True
        return bool(result["metrics"]) and trial.status == "running" and self.queue.stops(job)

    def _tell(self, trial: TrialState, epoch: float, metrics: dict[str, float]) -> None:
        trial.epoch, trial.metrics = epoch, metrics or trial.metrics
        for listener in self.listeners:
            listener.reported(trial)

    def ended(self, trial_id: str) -> None:
        """Its last report was heard, or early stopping has ended it."""
        if not self.problem:
            with self.ours():
                self._ended(trial_id)

    def _ended(self, trial_id: str) -> None:
        asked = trial_id in self.ending
        job = self._over(trial_id)
        trial = job.trial
        folder = self.site.storage / "trials" / self.site.store / trial.identity
        if trial.status == "running":
            trial.status = "interrupted" if asked else "stopped"
        if trial.status == "finished":
            try:
                self._collect(job, folder / "files")
            except OSError:  # a full disk, a store that does not answer, or one that is not shared
                trial.status, trial.error, job.curable = "failed", showable(traceback.format_exc()), True
        over = self._end(job)
        # From the checkpoints, now or another time.
        goes_on = not over or trial.status == "interrupted" or (trial.status == "failed" and job.curable)
        if self.problem or not trial.recorded:
            return
        with suppress(OSError):  # what cannot be removed costs no more than its room
            (folder / "files" if goes_on else folder).clear()
        if trial.files and not folder.local:
            shutil.rmtree(trial.files, ignore_errors=True)

    def _collect(self, job: Job, files: Folder) -> None:
        """Take over the files of a finished trial; its weights go where other trials look for them. May `OSError`."""
        trial = job.trial
        there = files.names()
        if lacks := [name for name in LEFT if name not in there]:
            raise OSError(
                f"{listed(lacks)} {'is' if len(lacks) == 1 else 'are'} not in {files.uri}, as this process sees it, "
                "where a worker has written: give a --storage that all nodes and this process share"
            )
        here = _here(files)
        if trial.identity in self.queue.students or any(
            self.queue.lacks(just_finished(trial), request) for request in job.requests
        ):
            keep_weights(here / "weights.pt", self.site.storage / "teachers", trial.identity)
        trial.files = here

    def _over(self, trial_id: str) -> Job:
        self.marks.pop(trial_id, None)
        self.ending.discard(trial_id)
        return self.jobs.pop(trial_id)

    def lost(self, trial_id: str, error: str) -> None:
        """Its process or its node is gone."""
        if self.problem:
            return
        with self.ours():
            job = self._over(trial_id)
            job.trial.status, job.trial.error, job.curable = "failed", showable(error), True
            self._end(job)

    def _end(self, job: Job) -> bool:
        """False where another attempt follows."""
        if job.trial.status == "failed" and job.resources.workers > 1:
            self._free_lost()
        if self.queue.tries_again(job):
            return False
        self._tell_end(job.trial)
        self.queue.ended(job)
        return True

    def _tell_end(self, trial: TrialState) -> None:
        """To every listener, whatever becomes of another: one of them may be the only one that records it."""
        for listener in self.listeners:
            with self.ours():
                listener.ended(trial)

    def keep(self, actors: Sequence[Any]) -> None:
        """Have every running trial keep a checkpoint of where it is."""
        kept = [actor.interrupt.remote() for actor in actors if actor]
        if kept:
            ray.wait(kept, num_returns=len(kept), timeout=SECONDS_TO_KEEP)
        self.leave()

    def end_asked(self, actors: Mapping[str, Any]) -> None:
        """Have the trials that somebody asks to end, by Tune's names, keep a checkpoint; the next report ends them."""
        asked = self.to_end()
        for trial_id, job in self.jobs.items():
            if job.identity in asked and trial_id not in self.ending and (actor := actors.get(trial_id)):
                self.ending.add(trial_id)
                self.say(f"{job.trial.name} ends, as `runs stop` asks: it keeps a checkpoint")
                actor.interrupt.remote()

    def leave(self) -> None:
        """What runs is for another command to go on with."""
        for trial in self.queue.interrupt():
            self._tell_end(trial)

    def check(self) -> None:
        """Raise what must end the sweep: an interrupt, or an error of our own within one of Tune's callbacks."""
        if self.problem:
            raise self.problem
        self.interrupt.raise_if_asked()


class _Feed(Searcher):
    """Tune asks it for the next trial; the queue knows."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def suggest(self, trial_id: str) -> Any:
        if self.run.interrupt.asked or self.run.problem:
            return Searcher.FINISHED
        with self.run.ours():
            job = self.run.queue.next()
            if job:
                return self.run.start(trial_id, job)
            return Searcher.FINISHED if self.run.queue.done else None
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """`_Relay` tells the queue."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing of Tune's is kept: the next process plans again."""

    def restore(self, checkpoint_path: str) -> None:
        """As `save`."""


class _Relay(tune.Callback):
    """Tune's events, told to the run."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        actors = {t.trial_id: t.temporary_state.ray_actor for t in trials if t.trial_id in self.run.jobs}
        self.run.end_asked(actors)
        if self.run.interrupt.asked or self.run.problem:
            self.run.keep(list(actors.values()))
        self.run.check()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.run.placed(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.run.ended(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.run.lost(trial.trial_id, _traceback(trial))


def _here(files: Folder) -> Path:
    """The folder itself where it is of this machine, else a copy."""
    if files.local:
        return Path(files.path)
    copy = Path(tempfile.mkdtemp(prefix="finished-"))
    for name in files.names():
        files.get(name, copy / name)
    return copy


def _traceback(trial: Any) -> str:
    try:
        return Path(trial.error_file).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return str(trial.get_error())


def work_off(run: Run, worker: type[tune.Trainable], give_up: Callable[[LostError], None], *, joined: bool) -> None:
    """Run every trial of the queue on actors of `worker`; failures are the listeners' to count.

    Raises `KeyboardInterrupt` after an interrupt, or an error of ours, once what ran has been kept, and `LostError`
    once the cluster is gone: one that was `joined` may come back for a while. Where Ray's core does not return, so that
    nothing can be raised, `give_up` gets that error in another thread, and is to end this process: in a minute, Ray
    would abort it.
    """
    which = "The Ray cluster is gone" if joined else "Ray on this machine has died (killed, or out of memory?)"
    lost = LostError(f"{which}: the sweep ends here, with everything kept that was finished")

    def leave() -> None:
        run.leave()
        give_up(lost)

    addresses = connection.addresses()
    patience = SECONDS_TO_COME_BACK if joined else SECONDS_TO_BE_SURE
    try:
        with watching(addresses, patience, run.say, run.interrupt.end, leave) as gone:
            _work_off(run, worker)
    except BaseException as error:
        if not (gone.is_set() if isinstance(error, KeyboardInterrupt) else not answers(addresses)):
            raise
        run.leave()
        raise lost from error


def _work_off(run: Run, worker: type[tune.Trainable]) -> None:
    with tempfile.TemporaryDirectory(prefix="tune-") as scratch, run.interrupt.patiently():
        tune.Tuner(
            tune.with_resources(worker, lambda config: tune.PlacementGroupFactory([config["needs"]])),
            tune_config=tune.TuneConfig(
                search_alg=_Feed(run),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                callbacks=[_Relay(run)],
                stop=run.stops,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials keep their own
                verbose=0,
            ),
        ).fit()
        if run.problem:  # of the last trials, after which Tune asked for nothing
            run.leave()
        run.check()
