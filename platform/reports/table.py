"""A table of tracked runs beside the published one: every cell with its trials, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from platform.deciding.looks import FIRST, Interval
from platform.deciding.paired import Key, Over, Paired, Verdict, paired
from platform.deciding.stopping import Decision
from platform.files.spec import Claim, Spec
from platform.reports.statistics import beyond_spread, std
from trainables.images.listing import Content
from trainables.protocols.protocols import partition
from trainables.settings.config import TrialConfig

State = Literal["finished", "failed", "interrupted", "stopped", "running", "missing"]


@dataclass(frozen=True)
class ReportTrial:
    """A trial behind a cell, and the run that has it."""

    config: TrialConfig
    identity: str  # empty where nothing was ever trained on its images here
    state: State
    run_id: str = ""
    experiment: str = ""  # the sweep that it was first part of
    git_sha: str = ""
    git_dirty: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)
    tested: Mapping[str, Content] = field(default_factory=dict, repr=False)  # the images that it was tested on
    device: str = ""
    seconds: float = 0.0  # of training
    teacher: str = ""  # its identity, where it has one
    teacher_seconds: float = 0.0  # of its teacher's; 0 where it has none, or that is not known
    scored_with: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # settings, by the score that has some

    @property
    def key(self) -> Key:
        return self.config.split, self.config.seed

    @property
    def partition(self) -> object:
        """What its split divides the classes into."""
        return partition(self.config.protocol, self.config.split_family, self.config.split)


@dataclass(frozen=True)
class ReportCell:
    """One number of a table. Values are in 0..1, published ones in percent as printed."""

    row: str
    column: str
    published: float | None
    trials: tuple[ReportTrial, ...] = ()
    values: Mapping[Key, float] = field(default_factory=dict)
    lacks: str = ""  # what it waits for
    comparable: bool = True  # with the published number

    @property
    def percents(self) -> dict[Key, float]:
        return {key: 100 * value for key, value in self.values.items()}

    @property
    def percent(self) -> list[float]:
        """One for each trial: what is not trained is the same trial at every seed."""
        return list({self._trial(key): value for key, value in self.percents.items()}.values())

    def minus(self, other: ReportCell, over: Over | None, among: Set[Key] | None = None) -> Paired | None:
        """This one minus the other, in points, of every pair of trials on a split and seed that both have, `among`
        these where it says which."""
        shared = self.values.keys() & other.values.keys()
        ordered = sorted(shared if among is None else shared & among, reverse=True)
        pairs = {(self._trial(key), other._trial(key)): key for key in ordered}  # the first key of each
        one, two = ({key: 100 * cell.values[key] for key in pairs.values()} for cell in (self, other))
        return paired(one, two, {trial.config.split: trial.partition for trial in self.trials}, over)

    def _trial(self, key: Key) -> object:
        return self._identities.get(key) or key

    @cached_property
    def _identities(self) -> dict[Key, str]:
        return {trial.key: trial.identity for trial in self.trials}

    @property
    def n(self) -> int:
        return len(self.percent)

    @property
    def wanted(self) -> int:
        return len({trial.identity or trial.key for trial in self.trials})

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.percent)) if self.values else None

    @property
    def std(self) -> float | None:
        return std(self.percent)

    @property
    def difference(self) -> float | None:
        """Measured minus published; None where one is missing or they may not be compared."""
        if self.mean is None or self.published is None or not self.comparable:
            return None
        return self.mean - self.published

    @property
    def marked(self) -> bool:
        """Whether the difference exceeds what the spread explains."""
        if self.difference is None or self.published is None:
            return False
        return bool(beyond_spread(self.percent, self.published))

    @property
    def state(self) -> str:
        """In one word or two: done, 3 of 5, failed, running, missing, published only, needs …."""
        if self.lacks:
            return f"needs {self.lacks}"
        if not self.trials:
            return "published only"
        if self.n == self.wanted:
            return "done"
        others = {t.state for t in self.trials if t.state != "finished"}
        why = next((s for s in ("failed", "running", "interrupted", "stopped") if s in others), "missing")
        return f"{self.n} of {self.wanted}, {why}" if self.n else why


@dataclass(frozen=True)
class Advice:
    """How many units would decide a claim: find `difference`, in points, with a `power`."""

    n: int | None  # None where no number within reason does
    unit: str
    difference: float
    published: bool  # that difference; else it is the measured one
    power: float
    have: int
    hours: float | None  # of devices, for those that are missing
    devices: str


@dataclass(frozen=True)
class Comparison:
    """A paper's claim of two rows in one column, and what our trials say. Differences are in percentage points.

    Of a search, its first row and another one, of which nobody claims anything.
    """

    claim: Claim
    column: str
    published: float | None
    found: Paired | None
    verdict: Verdict | Literal["smaller", "not comparable", "not claimed"]  # the last: of the rows of a search
    size: str  # of the published difference, against the measured interval
    decision: Decision | None = None  # of a table that runs until decided, whose intervals are sequential: no `found`
    holm: float | None = None  # p among all of the table's
    advice: Advice | None = None  # where it is undecided
    without: tuple[str, ...] = ()  # what becomes of it without one split each

    @property
    def interval(self) -> Paired | Interval | None:
        """Of the mean difference: for a fixed n, or sequential where there is a decision."""
        return self.decision.interval if self.decision else self.found

    @property
    def do_not_vary(self) -> bool:
        """Whether its differences are enough for an interval and all the same."""
        if self.decision:
            return self.decision.interval is None and self.decision.n >= FIRST
        return self.found is not None and self.found.spread == 0

    @property
    def tested(self) -> bool:
        """Whether it is one of those that Holm's p is among."""
        return self.interval is not None and self.interval.low is not None

    @property
    def p(self) -> float | None:
        """Two-sided, of this claim alone; None where there is no interval, or nothing has stopped yet."""
        if self.decision is None:
            return self.found.p if self.found else None
        return self.decision.p


@dataclass(frozen=True)
class ReportTable:
    """Everything that a form shows of a file."""

    spec: Spec
    file: Path
    profile: str
    changed: tuple[str, ...]
    headings: tuple[str, ...]  # of the columns, with the data that they are on where it is not the paper's
    cells: tuple[tuple[ReportCell, ...], ...]  # rows × columns
    caption: tuple[str, ...]  # sentences
    comparisons: tuple[Comparison, ...] = ()
    sweep_run: str = ""  # of the newest sweep of this profile
    sweep_link: str = ""  # the part of the UI's address that shows it

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def figures(self) -> list[str]:
        """Those that the file names, the power of claims whose spread is known, and the components' shares."""
        curves = any(one.published and one.interval and one.interval.spread for one in self.comparisons)
        more = {"power": curves, "shares": self.spec.add_one_in}
        return [*self.spec.figures, *(name for name, there in more.items() if there and name not in self.spec.figures)]

    @property
    def title(self) -> str:
        paper = self.spec.paper
        if paper is None:
            return self.name
        of = {"asymmetric_distillation": "Asymmetric distillation", "backmix": "BackMix"}[paper.file]
        table = str(paper.table)
        number = table if table.lower().startswith(("fig", "supp")) else f"Table {table}"
        return f"{of}, {number}" + (f": {paper.title}" if paper.title else "")

    @property
    def all_cells(self) -> Iterator[ReportCell]:
        return (cell for row in self.cells for cell in row)

    def counts(self) -> dict[str, int]:
        """How many cells are done, partial, missing, need what is not there, or are published only."""
        found = dict.fromkeys(("done", "partial", "missing", "needs", "published only"), 0)
        for cell in self.all_cells:
            if cell.lacks:
                found["needs"] += 1
            elif not cell.trials:
                found["published only"] += 1
            else:
                found["done" if cell.n == cell.wanted else "partial" if cell.n else "missing"] += 1
        return found
