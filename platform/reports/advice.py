"""What would decide a claim that is undecided, what that costs, and whether one split alone decides it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from platform.deciding.looks import looks
from platform.deciding.paired import verdict
from platform.deciding.power import needed
from platform.deciding.stopping import decisions
from platform.deciding.told import say_closed, say_interval
from platform.files.spec import Decided, Spec
from platform.planning.claims import devices
from platform.reports.table import Advice, Comparison, ReportCell


@dataclass(frozen=True)
class Advisor:
    """Knows the cells of a table by row and column, and each split's partition."""

    spec: Spec
    cells: Mapping[tuple[str, str], ReportCell]

    def advise(self, comparison: Comparison) -> Advice | None:
        """The n that finds the published difference, or the measured one where only its sign is published, with the
        power that the file asks for; None for a claim that is decided, and where no spread is known."""
        interval, until = comparison.interval, self.spec.until
        if interval is None or interval.low is None or interval.high is None or not interval.spread:
            return None
        closed = comparison.decision.closed if comparison.decision else not interval.low <= 0 <= interval.high
        difference = comparison.published if comparison.published is not None else interval.mean
        if closed or not difference:
            return None
        strata = interval.strata
        asked = until or Decided()
        looked = looks(until.max_seeds, strata, until.alpha) if until else ()
        n = needed(difference, interval.spread, strata, asked.power, asked.alpha, looked)
        hours, of = self._unit_hours(comparison)
        more = None if n is None or hours is None else max(0, n - interval.n) * hours
        unit = comparison.found.unit if comparison.found else "seeds"
        return Advice(n, unit, difference, comparison.published is not None, asked.power, interval.n, more, of)

    def _unit_hours(self, comparison: Comparison) -> tuple[float | None, str]:
        """Hours of devices that a unit took here, both rows and their teachers; and of which devices."""
        both = [self.cells[row, comparison.column].trials for row in (comparison.claim.row, comparison.claim.over)]
        finished = [[trial for trial in trials if trial.state == "finished"] for trials in both]
        if not all(finished):
            return None, ""
        on_gpu = all("cpu" not in trial.device for trials in finished for trial in trials)
        needs = self.spec.resources if on_gpu else self.spec.resources.sharing(0.0)
        seconds = sum(fmean(trial.seconds for trial in trials) for trials in finished)
        seconds += max(trial.teacher_seconds for trials in finished for trial in trials)
        times = (
            len(self.spec.seeds) if comparison.found and comparison.found.over == "splits" else len(self.spec.splits)
        )
        return seconds * times * devices(needs) / 3600, "GPU" if on_gpu and needs.gpus else "core"

    def without(self, comparison: Comparison, sign: float, digits: int) -> Iterator[str]:
        """The claim once more, without one split at a time; where there is but one, without a seed."""
        one, other = (self.cells[row, comparison.column] for row in (comparison.claim.row, comparison.claim.over))
        place, left = (0, self.spec.splits) if len(self.spec.splits) > 1 else (1, self.spec.seeds)
        name = "split" if place == 0 else "seed"
        for out in left if len(left) > 2 else ():
            if comparison.decision:
                yield from self._decided_without(comparison, out, digits) if place == 0 else ()
            else:
                found = one.minus(other, self.spec.over, {key for key in one.values if key[place] != out})
                if found:
                    yield f"without {name} {out} {say_interval(found, digits)} {verdict(found, sign)}"

    def _decided_without(self, comparison: Comparison, split: int, digits: int) -> Iterator[str]:
        fewer = self.spec.model_copy(update={"splits": [s for s in self.spec.splits if s != split]})
        for one in decisions(fewer, lambda row, column: self.cells[row, column].percents):
            if one.claim is comparison.claim and one.column == comparison.column and one.interval:
                yield f"without split {split} {say_interval(one.interval, digits)} {say_closed(one)}"


def advised(
    spec: Spec,
    compared: Sequence[Comparison],
    cells: Mapping[tuple[str, str], ReportCell],
    signs: Sequence[float] | None,
) -> Iterator[Comparison]:
    """The comparisons with what would decide them; with `signs`, those that are claimed, also without a split each."""
    advisor = Advisor(spec, cells)
    for index, one in enumerate(compared):
        without = tuple(advisor.without(one, signs[index], 1)) if signs else ()
        yield replace(one, advice=advisor.advise(one), without=without)
