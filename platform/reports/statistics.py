"""What a spread explains, and whether a paper's comparison of two rows holds in ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
FEWEST_FOR_WILCOXON = 6  # pairs: with fewer, no outcome has p < 0.05

Verdict = Literal["holds", "reversed", "undecided", "no interval", "missing"]
Key = tuple[int, int]  # split, seed


def std(values: Sequence[float]) -> float | None:
    """The sample's standard deviation; None for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def beyond_spread(values: Sequence[float], published: float) -> bool | None:
    """Whether |mean - published| exceeds what the spread of `values` explains; None for fewer than two.

    Published means come without their spread. With ours, s, for both, and as many trials behind theirs as behind ours,
    two such means of n differ by less than t * s * sqrt(2/n) in 95 % of cases, t of n - 1 degrees of freedom.
    """
    n = len(values)
    if n < 2:
        return None
    limit = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(np.std(values, ddof=1)) * math.sqrt(2 / n)
    return bool(abs(float(np.mean(values)) - published) > limit)


@dataclass(frozen=True)
class Paired:
    """Differences between two rows, one a unit. `low` and `high` bound the mean's 95 % t interval."""

    differences: tuple[float, ...]
    unit: Literal["partitions", "seeds"]
    mean: float
    low: float | None = None
    high: float | None = None
    wilcoxon: float | None = None  # two-sided p, from six pairs on

    @property
    def n(self) -> int:
        return len(self.differences)


def paired(one: Mapping[Key, float], other: Mapping[Key, float], partitions: Mapping[int, object]) -> Paired | None:
    """`one` minus `other` on every (split, seed) that both have; None where they share none.

    Averaged over seeds within a split, and over splits that are one partition of the classes with other labels (as two
    of agc's CIFAR-10 lists are), since those are not independent. Where all is one partition, its seeds are the units.
    """
    shared = sorted(one.keys() & other.keys())
    if not shared:
        return None
    difference = {key: one[key] - other[key] for key in shared}
    by_partition: dict[object, list[float]] = {}
    for split, seed in shared:
        by_partition.setdefault(partitions[split], []).append(difference[split, seed])
    unit: Literal["partitions", "seeds"] = "partitions"
    values = [float(np.mean(group)) for group in by_partition.values()]
    if len(by_partition) == 1:
        unit = "seeds"
        seeds = sorted({seed for _, seed in shared})
        values = [float(np.mean([d for (_, s), d in difference.items() if s == seed])) for seed in seeds]
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Paired(tuple(values), unit, mean)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Paired(tuple(values), unit, mean, mean - half, mean + half, _wilcoxon(values))


def _wilcoxon(differences: Sequence[float]) -> float | None:
    if len(differences) < FEWEST_FOR_WILCOXON or not np.any(differences):
        return None
    from scipy.stats import wilcoxon  # slow to import, and most tables have five splits

    return float(wilcoxon(differences).pvalue)


def verdict(found: Paired | None, sign: float) -> Verdict:
    """Whether the mean difference has the published `sign`, beyond its interval; 0 says that there is none."""
    if found is None:
        return "missing"
    if found.low is None or found.high is None:
        return "no interval"
    if found.low <= 0 <= found.high:
        return "undecided" if sign else "holds"
    return "holds" if found.mean * sign > 0 else "reversed"


def size(found: Paired | None, published: float | None) -> str:
    """How the published difference lies to the interval: `as published`, `smaller` or `larger` than it; or nothing."""
    if found is None or found.low is None or found.high is None or published is None:
        return ""
    if found.low <= published <= found.high:
        return "as published"
    return "smaller" if abs(found.mean) < abs(published) else "larger"
