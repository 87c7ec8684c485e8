"""A budget of hours: no trial is started that would not end in time, by what such trials are believed to take."""

from __future__ import annotations

from dataclasses import dataclass, field

from platform.files.spec import Resources
from platform.planning.claims import devices
from platform.running.job import Job
from platform.running.pace import Pace, Pending
from trainables.settings.config import TrialConfig


@dataclass
class HoursLeft:
    """What is left of the hours: of this machine's clock; on a cluster that was joined, of all devices that its trials
    take."""

    hours: float
    pace: Pace
    of_devices: bool = False
    _began: float = 0.0
    _last_blocks: dict[str, int] = field(default_factory=dict)  # of tables whose trials no longer all fit

    def __post_init__(self) -> None:
        self._began = self.pace.clock()

    def fits(self, job: Job, queue: Pending) -> bool | None:
        """Whether a trial ends in time; a teacher with one of its students, since it is for nothing else. None where
        that depends on trials that run: they may end sooner than is believed.

        Once one of a table does not, none of its later blocks does: shorter trials would go on alone, and the rows end
        with unequal numbers.
        """
        sweep, jobs = job.trial.place.sweep, [job, *queue.students.get(job.identity, [])[:1]]
        if job.block > self._last_blocks.get(sweep, job.block):
            return False
        lasts = sum(self._lasts(j.trial.config) for j in jobs)
        if self._fits(lasts, job.resources, queue):
            return True
        if queue.running and self._ends(lasts, 0.0, job.resources, queue):
            return None
        if not queue.plan.sweep(sweep).search:
            self._last_blocks.setdefault(sweep, job.block)
        return False

    def fits_proposal(self, search: str, queue: Pending) -> bool:
        """Whether one more trial of a search ends in time, and after it what confirms the best settings."""
        sweep = queue.plan.sweep(search)
        waiting = [(of, w.row) for of in queue.plan.sweeps for w in of.waiting if w.search == search]
        later = sum(self._lasts(config) for of, row in waiting for config in queue.plan.configs(of, row))
        needs, own = queue.needs(search), sum(map(self._lasts, sweep.searched))
        if not self.of_devices:
            at_once = max(1, queue.at_once(needs))
            later /= at_once
            own /= 1 if sweep.spec.scheduler else min(at_once, max(1, len(sweep.searched)))
        return self._fits(later + own, needs, queue)

    def _fits(self, lasts: float, needs: Resources, queue: Pending) -> bool:
        running = list(queue.running.values())
        if self.of_devices:
            return self._ends(lasts, sum(self._left(job) * devices(job.resources) for job in running), needs, queue)
        left, at_once = sorted(map(self._left, running)), max(1, queue.at_once(needs))
        return self._ends(lasts, left[len(left) - at_once] if len(left) >= at_once else 0.0, needs, queue)

    def _ends(self, lasts: float, before: float, needs: Resources, queue: Pending) -> bool:
        """Whether what lasts so long is within the hours, after what comes `before` it."""
        if self.of_devices:
            spent = sum(seconds * devices(queue.needs(sweep)) for sweep, seconds in self.pace.spent.items())
            return spent + before + lasts * devices(needs) <= 3600 * self.hours
        return self.pace.clock() - self._began + before + lasts <= 3600 * self.hours

    def _lasts(self, config: TrialConfig) -> float:
        return self.pace.lasts(config) or 0.0

    def _left(self, job: Job) -> float:
        return self.pace.left(job.trial) or 0.0
