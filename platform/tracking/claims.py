"""Who trains an identity: a claim on it is won by being alone.

A driver that finds nobody creates a run that names it, looks again, and trains only if there is still no other live
driver's run. Of two that see each other the later one withdraws; whichever looked last has seen the other, so no clock
decides whether both train.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mlflow.entities import Run

from platform.tracking.drivers import Drivers
from platform.tracking.index import FinishedTrial
from platform.tracking.outbox import Record
from platform.tracking.runs import counts, finished_trial, query_of
from platform.tracking.store import Store

PATIENCE = 1.0  # seconds that a driver waits for later ones to withdraw


@dataclass(frozen=True)
class Ours:
    """The trial is ours to train. Where MLflow does not answer, `run_id` is provisional."""

    run_id: str


@dataclass(frozen=True)
class Finished:
    """Somebody finished it since the plan was made."""

    trial: FinishedTrial


@dataclass(frozen=True)
class Elsewhere:
    """A live process trains it now: ask again later."""

    who: str


ClaimOutcome = Ours | Finished | Elsewhere


@dataclass(frozen=True)
class Target:
    """The run that the records of a trial or a sweep go into, as it was found."""

    run_id: str
    won: float = 0.0  # when its claim was won against all others, unix seconds; 0 where it was not
    params: frozenset[str] = frozenset()  # that it has: MLflow refuses other values
    logged: dict[str, int] = field(default_factory=dict)  # the latest step of each metric it came with
    attempts: int = 1


class Claims:
    """The contest for identities, as this process takes part in it. Raises what MLflow raises."""

    def __init__(self, store: Store, drivers: Drivers) -> None:
        self.unsettled: set[str] | None = None  # identities with runs that do not count; None: not known yet
        self._store, self._drivers = store, drivers

    def contest(self, opening: Record, deliver: Callable[[], object]) -> Target | Finished | Elsewhere:
        """Win the claim, or say who has it. `deliver` has our own earlier records of the identity delivered."""
        identity, fresh = opening["identity"], opening["fresh"]
        if self.unsettled is None or identity in self.unsettled or fresh:
            # Who waits for another, or goes on with what was left, then leaves no trace. It is no part of the contest.
            runs = self.runs_of(identity)
            if any(self._drivers.mine(run) and self._drivers.hold(run) for run in runs):
                deliver()
                runs = self.runs_of(identity)
            if taken := self._taken(runs, fresh):
                return taken
        with self._store.alone():
            outcome = self._compete(opening)
        if not isinstance(outcome, Target):
            self.remember(identity)
        return outcome

    def remember(self, identity: str) -> None:
        """There is a run of this identity that does not count."""
        if self.unsettled is not None:
            self.unsettled.add(identity)

    def runs_of(self, identity: str) -> list[Run]:
        """Every run of an identity that is not deleted."""
        return list(self._store.runs(query_of(identity), self._store.experiment_ids()))

    def create(self, opening: Record) -> Target:
        """A run for a trial that is ours already."""
        return Target(self._create(opening, opening["tags"] | opening["labels"]))

    def resume_or_create(self, opening: Record, runs: Sequence[Run]) -> Target:
        """Go on with what is left among the runs of its identity, if anything is."""
        earlier = None if opening["fresh"] else self._resumable(runs)
        return self.create(opening) if earlier is None else self._take_over(earlier, opening)

    def _compete(self, opening: Record) -> Target | Finished | Elsewhere:
        fresh = opening["fresh"]
        run_id = self._create(opening, opening["tags"])
        deadline = time.monotonic() + PATIENCE
        while True:
            runs = self.runs_of(opening["identity"])
            others = [run for run in runs if run.info.run_id != run_id]
            taken = self._taken(others, fresh)
            if taken is None:
                break
            ours = next((run for run in runs if run.info.run_id == run_id), None)
            rivals = [run for run in others if self._drivers.hold(run)]
            first = ours is not None and all(_order(ours) < _order(run) for run in rivals)
            if isinstance(taken, Finished) or not first or time.monotonic() > deadline:
                self._store.delete(run_id)
                return taken
            time.sleep(0.1)
        earlier = None if fresh else self._resumable(others)
        if earlier is None:
            return Target(run_id, won=time.time())
        target = self._take_over(earlier, opening)
        self._store.delete(run_id)  # only now: one of the two has named us all the time
        return replace(target, won=time.time())

    def _create(self, opening: Record, tags: dict[str, str]) -> str:
        return self._store.create(opening["experiment"], opening["name"], tags, opening["started"])

    def _taken(self, runs: Sequence[Run], fresh: bool) -> Finished | Elsewhere | None:
        for run in runs:
            if counts(run) and not fresh:
                return Finished(finished_trial(run, self._sweep_of(run)))
        for run in runs:
            if self._drivers.hold(run):
                tags = run.data.tags
                since = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))
                where = f"process {tags.get('pid')} on {tags.get('host')}"
                return Elsewhere(f"{where}, sweep {self._sweep_of(run)}, since {since}")
        return None

    def _sweep_of(self, run: Run) -> str:
        return self._store.experiments.get(run.info.experiment_id, run.info.experiment_id)

    def _resumable(self, runs: Sequence[Run]) -> Run | None:
        """The newest run that was not brought to its end."""
        ended = ("RUNNING", "KILLED", "FAILED")
        left = [run for run in runs if run.info.status in ended and not self._drivers.hold(run)]
        left = [run for run in left if not {"stopped", "duplicate_of"} & set(run.data.tags)]
        return max(left, key=_order, default=None)

    def _take_over(self, run: Run, opening: Record) -> Target:
        """Continue a run: it names the new driver from the first request on."""
        run_id, metrics = run.info.run_id, run.data.metrics
        attempts = int(run.data.tags.get("attempts", "1")) + 1
        self._store.log(run_id, tags={**opening["tags"], **opening["labels"], "attempts": str(attempts)})
        self._store.reopen(run_id, opening["name"])
        # An epoch's metrics came together: one of them tells the last epoch of all.
        told = next((name for name in ("train/loss", *metrics) if name in metrics), None)
        last = self._store.last_step(run_id, told) if told else -1
        return Target(run_id, params=frozenset(run.data.params), logged=dict.fromkeys(metrics, last), attempts=attempts)


def _order(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id
