"""When a trial tells how far it is, between the epochs."""

from __future__ import annotations

import time

from trainables.processes import Processes


class Ticks:
    """When about `seconds` have passed since the last tick. Steps are looked at, the same in all processes.

    The first process's clock counts. With several, it is not asked at each step, but says how many to take first.
    """

    def __init__(self, seconds: float | None, processes: Processes) -> None:
        self.seconds = seconds
        self.processes = processes
        self.since = time.perf_counter()
        self.steps = 0  # since the last tick
        self.quiet = 0  # steps to take before the clock is asked again

    def due(self) -> bool:
        """To be called after each step, by each process."""
        if self.seconds is None:
            return False
        self.steps += 1
        if self.quiet > 0:
            self.quiet -= 1
            return False
        passed = time.perf_counter() - self.since
        left = max(self.seconds - passed, 0.0)
        # Half of the steps that would fit, by their speed so far: the first steps of a trial are slow.
        quiet = int(min(left * self.steps / passed / 2, 64)) if self.processes.size > 1 else 0
        over, self.quiet = self.processes.broadcast((left == 0, quiet))
        if over:
            self.since, self.steps = time.perf_counter(), 0
        return over
