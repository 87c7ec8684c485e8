"""A budget of hours: no trial is started that would not end in time, by what such trials are believed to take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Protocol

from platform.files.spec import Resources
from platform.planning.claims import Seconds, devices
from platform.planning.plan import Plan
from platform.running.job import Job
from platform.tracking.trials import TrialState
from trainables.settings.config import TrialConfig


class Pending(Protocol):
    """What a budget asks of the queue."""

    plan: Plan
    running: dict[str, Job]
    students: dict[str, list[Job]]

    @property
    def at_once(self) -> Callable[[Resources], int]: ...


@dataclass
class HoursLeft:
    """A `Listener` that knows what is left of the hours.

    They are of this machine's clock; on a cluster that was joined, of all devices that its trials take. Estimates are
    corrected by what the trials of this command took. Where there is none, the first ones tell.
    """

    hours: float
    seconds: Seconds
    needs: Callable[[str], Resources]  # of a sweep's trials
    of_devices: bool = False
    clock: Callable[[], float] = time.monotonic
    spent: float = 0.0  # seconds of devices, by trials that ended
    _began: float = 0.0
    _placed: dict[str, float] = field(default_factory=dict)  # when each running trial got its worker
    _last_blocks: dict[str, int] = field(default_factory=dict)  # of tables whose trials no longer all fit
    _took: list[float] = field(default_factory=list)
    _against: list[float] = field(default_factory=list)  # what trials took, in parts of their estimate

    def __post_init__(self) -> None:
        self._began = self.clock()

    def fits(self, job: Job, queue: Pending) -> bool | None:
        """Whether a trial ends in time; a teacher with one of its students, since it is for nothing else. None where
        that depends on trials that run: they may end sooner than is believed.

        Once one of a table does not, none of its later blocks does: shorter trials would go on alone, and the rows end
        with unequal numbers.
        """
        sweep, jobs = job.trial.sweep, [job, *queue.students.get(job.identity, [])[:1]]
        if job.block > self._last_blocks.get(sweep, job.block):
            return False
        lasts = sum(self.lasts(j.trial.config) for j in jobs)
        if self._fits(lasts, job.resources, queue):
            return True
        if queue.running and self._ends(lasts, 0.0, job.resources):
            return None
        if not queue.plan.sweep(sweep).search:
            self._last_blocks.setdefault(sweep, job.block)
        return False

    def fits_proposal(self, search: str, queue: Pending) -> bool:
        """Whether one more trial of a search ends in time, and after it what confirms the best settings."""
        sweep = queue.plan.sweep(search)
        waiting = [(of, w.row) for of in queue.plan.sweeps for w in of.waiting if w.search == search]
        later = sum(self.lasts(config) for of, row in waiting for config in queue.plan.configs(of, row))
        needs, own = sweep.spec.resources, sum(map(self.lasts, sweep.searched))
        if not self.of_devices:
            at_once = max(1, queue.at_once(needs))
            later /= at_once
            own /= 1 if sweep.spec.scheduler else min(at_once, max(1, len(sweep.searched)))
        return self._fits(later + own, needs, queue)

    def _fits(self, lasts: float, needs: Resources, queue: Pending) -> bool:
        running = list(queue.running.values())
        if self.of_devices:
            return self._ends(lasts, sum(self._left(job) * devices(job.resources) for job in running), needs)
        left, at_once = sorted(map(self._left, running)), max(1, queue.at_once(needs))
        return self._ends(lasts, left[len(left) - at_once] if len(left) >= at_once else 0.0, needs)

    def _ends(self, lasts: float, before: float, needs: Resources) -> bool:
        """Whether what lasts so long is within the hours, after what comes `before` it."""
        if self.of_devices:
            return self.spent + before + lasts * devices(needs) <= 3600 * self.hours
        return self.clock() - self._began + before + lasts <= 3600 * self.hours

    def lasts(self, config: TrialConfig) -> float:
        """Seconds that a trial is believed to take."""
        guess = self.seconds(config)
        if guess is None:
            return fmean(self._took) if self._took else 0.0
        return guess * (median(self._against) if self._against else 1.0)

    def _left(self, job: Job) -> float:
        lasts, trial = self.lasts(job.trial.config), job.trial
        since = self.clock() - self._placed.get(job.identity, self.clock())
        return max(0.0, min(lasts - since, lasts * (1 - trial.epoch / trial.config.epochs)))

    def started(self, trial: TrialState) -> None:
        """It may wait for a worker."""

    def placed(self, trial: TrialState) -> None:
        self._placed[trial.identity] = self.clock()

    def reported(self, trial: TrialState) -> None:
        """Its end counts."""

    def ended(self, trial: TrialState) -> None:
        if trial.identity not in self._placed:
            return
        took = self.clock() - self._placed.pop(trial.identity)
        self.spent += took * devices(self.needs(trial.sweep))
        if trial.status == "finished" and not trial.evaluates_only and not trial.resumed:
            self._took.append(took)
            if guess := self.seconds(trial.config):
                self._against.append(took / guess)
