"""How long trials take, by an estimate that is corrected by what those of this command took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Protocol

from platform.files.spec import Resources
from platform.planning.claims import Seconds
from platform.running.job import Job
from platform.tracking.trials import Listener, TrialState
from trainables.settings.config import TrialConfig


class Pending(Protocol):
    """What is asked of the queue."""

    open: dict[str, Job]

    @property
    def at_once(self) -> Callable[[Resources], int]: ...

    def to_come(self) -> Iterable[tuple[Resources, TrialConfig, int]]: ...


@dataclass
class Pace(Listener):
    """A `Listener`. Where there is no estimate, the first trials tell; those that went on from a checkpoint do not."""

    estimate: Seconds
    clock: Callable[[], float] = time.monotonic
    spent: dict[str, float] = field(default_factory=dict)  # seconds by trials that ended, of each sweep
    _placed: dict[str, float] = field(default_factory=dict)  # when each running trial got its worker
    _took: list[float] = field(default_factory=list)
    _against: list[float] = field(default_factory=list)  # what trials took, in parts of their estimate

    def lasts(self, config: TrialConfig) -> float | None:
        """Seconds that a trial is believed to take."""
        guess = self.estimate(config)
        if guess is None:
            return fmean(self._took) if self._took else None
        return guess * (median(self._against) if self._against else 1.0)

    def left(self, trial: TrialState) -> float | None:
        """Seconds that are left of a trial, which may run."""
        lasts = 0.0 if trial.evaluates_only else self.lasts(trial.config)
        return None if lasts is None else max(0.0, lasts * (1 - trial.epoch / trial.config.epochs))

    def left_of(self, queue: Pending) -> float | None:
        """Seconds until all trials have ended that are known of now; None without any idea."""
        each = [(job.resources, self.left(job.trial), 1) for job in queue.open.values()]
        each += [(needs, self.lasts(config), times) for needs, config, times in queue.to_come()]
        shared = longest = 0.0
        for needs, seconds, times in each:
            if seconds is None:
                return None
            shared += times * seconds / max(1, queue.at_once(needs))
            longest = max(longest, seconds)
        return max(shared, longest)

    def placed(self, trial: TrialState) -> None:
        self._placed[trial.identity] = self.clock()

    def ended(self, trial: TrialState) -> None:
        if trial.identity not in self._placed:
            return
        took = self.clock() - self._placed.pop(trial.identity)
        self.spent[trial.sweep] = self.spent.get(trial.sweep, 0.0) + took
        if trial.status == "finished" and not trial.evaluates_only and not trial.resumed:
            self._took.append(took)
            if guess := self.estimate(trial.config):
                self._against.append(took / guess)
