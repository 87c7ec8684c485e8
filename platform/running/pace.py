"""How long trials take, by an estimate that is corrected by what those of this command took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean, median
from typing import Protocol

from platform.files.spec import Resources
from platform.planning.claims import Seconds
from platform.planning.plan import Plan
from platform.running.job import Job
from platform.tracking.trials import Listener, TrialState
from trainables.settings.config import TrialConfig


class Pending(Protocol):
    """What is asked of the queue."""

    plan: Plan
    open: dict[str, Job]
    running: dict[str, Job]
    elsewhere: dict[str, Job]
    students: dict[str, list[Job]]

    @property
    def at_once(self) -> Callable[[Resources], int]: ...

    def needs(self, sweep: str) -> Resources: ...
    def to_come(self) -> Iterable[tuple[Resources, TrialConfig, int]]: ...


@dataclass
class Pace(Listener):
    """A `Listener`. Where there is no estimate, the first trials tell; those that went on from a checkpoint do not."""

    estimate: Seconds
    clock: Callable[[], float] = time.monotonic
    spent: dict[str, float] = field(default_factory=dict)  # seconds by trials that ended, of each sweep
    _placed: dict[str, float] = field(default_factory=dict)  # when each running trial got its worker
    _took: list[float] = field(default_factory=list)
    _evaluations: list[float] = field(default_factory=list)  # what finished trials took that were evaluated again
    _against: list[float] = field(default_factory=list)  # what trials took, in parts of their estimate

    def lasts(self, config: TrialConfig) -> float | None:
        """Seconds that a trial is believed to take."""
        guess = self.estimate(config)
        if guess is None:
            return fmean(self._took) if self._took else None
        return guess * (median(self._against) if self._against else 1.0)

    def left(self, trial: TrialState) -> float | None:
        """Seconds that are left of a trial, which may run."""
        if trial.evaluates_only:
            return fmean(self._evaluations) if self._evaluations else None
        lasts = self.lasts(trial.config)
        return None if lasts is None else max(0.0, lasts * (1 - trial.epoch / trial.config.epochs))

    def left_of(self, queue: Pending) -> float | None:
        """Seconds until all trials have ended that are known of now, shared by as many as run at once, and no less than
        one after its teacher; None without any idea."""
        at_once = cache(queue.at_once)  # which asks the cluster
        left = {identity: self.left(job.trial) for identity, job in queue.open.items()}
        each = [(job.resources, left[i], 1) for i, job in queue.open.items() if i not in queue.elsewhere]
        each += [(needs, self.lasts(config), times) for needs, config, times in queue.to_come()]
        told = [*left.values(), *(seconds for _, seconds, _ in each)]
        if told and all(seconds is None for seconds in told):
            return None
        shared = sum(times * seconds / max(1, at_once(needs)) for needs, seconds, times in each if seconds)
        chains = ((left.get(of), left[job.identity]) for of, jobs in queue.students.items() for job in jobs)
        return max([shared, *(sum(filter(None, chain)) for chain in chains), *filter(None, told)])

    def placed(self, trial: TrialState) -> None:
        self._placed[trial.identity] = self.clock()

    def ended(self, trial: TrialState) -> None:
        if trial.identity not in self._placed:
            return
        took = self.clock() - self._placed.pop(trial.identity)
        self.spent[trial.place.sweep] = self.spent.get(trial.place.sweep, 0.0) + took
        if trial.status == "finished" and trial.evaluates_only:
            self._evaluations.append(took)
        elif trial.status == "finished" and not trial.resumed:
            self._took.append(took)
            if guess := self.estimate(trial.config):
                self._against.append(took / guess)
