"""`until: decided`: which claims are closed, and how many seeds each row is to have.

All of it is a function of what the finished trials measured, taken in the order of seeds. So a sweep that was killed
and started again decides the same, and a report sees what the sweep saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Literal

from platform.deciding.looks import Interval, interval, looks
from platform.deciding.paired import Key
from platform.files.rows import claimed_sign, row_list
from platform.files.spec import Claim, Decided, Spec

Outcome = Literal["holds", "reversed", "smaller", "open"]
Values = Callable[[str, str], Mapping[Key, float]]  # of a row and a column, in percent, by split and seed


@dataclass(frozen=True)
class Decision:
    """Of a claim in one column: closed after `n` seeds, or open with `n` seeds so far that both rows have on all
    splits.

    `interval` is that of the look which closed it, or of the latest.
    """

    claim: Claim
    column: str
    outcome: Outcome
    n: int
    until: Decided
    interval: Interval | None

    @property
    def closed(self) -> bool:
        return self.outcome != "open"

    @property
    def p(self) -> float | None:
        """Of the claim that there is no difference; None while it may go on, 1 where it was not stopped for one."""
        if self.interval is None or (self.outcome == "open" and self.n < self.until.max_seeds):
            return None
        return 1.0 if self.outcome == "smaller" else self.interval.p

    @property
    def wanted(self) -> int:
        """How many seeds its rows are to have."""
        return self.n if self.closed else min(self.n + 1, self.until.max_seeds)


def seeds_of(spec: Spec) -> list[int]:
    """The seeds of an ablation in their order; until decided, those of the file and then the next numbers."""
    if spec.until is None:
        return list(spec.seeds)
    more = (seed for seed in count() if seed not in spec.seeds)
    return [*spec.seeds, *islice(more, max(0, spec.until.max_seeds - len(spec.seeds)))]


def decisions(spec: Spec, values: Values) -> list[Decision]:
    """What became of each claim of a file that runs until decided, in each of its columns."""
    assert spec.until is not None
    found = []
    rows = {row.name: row for row in row_list(spec)}
    for claim in spec.claims:
        for column in claim.columns:
            one, other = values(claim.row, column), values(claim.over, column)
            shared = {key: one[key] - other[key] for key in one.keys() & other.keys()}
            differences = [[shared[s, k] for k in _complete(spec, shared)] for s in spec.splits]
            found.append(decide(claim, column, differences, claimed_sign(rows, claim, column), spec.until))
    return found


def decide(claim: Claim, column: str, differences: Sequence[Sequence[float]], sign: float, until: Decided) -> Decision:
    """Look after each seed, and stop at the first look that closes the claim. `differences` are by split."""
    n = len(differences[0])
    latest: Interval | None = None
    for look in looks(until.max_seeds, len(differences), until.alpha):
        if look.n > n:
            break
        found = interval(differences, look)
        if found is None:
            continue
        latest = found
        outcome = _outcome(latest, sign, until.smallest)
        if outcome != "open":
            return Decision(claim, column, outcome, look.n, until, latest)
    return Decision(claim, column, "open", n, until, latest)


def _outcome(found: Interval, sign: float, smallest: float | None) -> Outcome:
    if smallest is not None and -smallest < found.low and found.high < smallest:
        return "smaller"
    if found.low <= 0 <= found.high:
        return "open"
    return "holds" if found.mean * sign > 0 else "reversed"


def wanted_seeds(spec: Spec, decided: Sequence[Decision]) -> dict[str, int]:
    """How many seeds each row of some claim is to have; a row of none has those of the file."""
    wanted: dict[str, int] = {}
    for one in decided:
        for row in (one.claim.row, one.claim.over):
            wanted[row] = max(wanted.get(row, len(spec.seeds)), one.wanted)
    return wanted


def _complete(spec: Spec, shared: Mapping[Key, float]) -> list[int]:
    """The first seeds that are there on every split: one that failed holds up those after it."""
    seeds = []
    for seed in seeds_of(spec):
        if not all((split, seed) in shared for split in spec.splits):
            break
        seeds.append(seed)
    return seeds
