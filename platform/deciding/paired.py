"""The mean difference of two rows with its interval, over one of two populations, and whether a paper's claim holds.

A difference d of two rows is taken on every split j and seed k that both have: d_jk = mu + a_j + e_jk. The classes that
a split draws shift it by a_j, the training seed by e_jk.

- Over `splits`, those of the file are a sample of all that could be drawn. Its units are the partitions, each with the
  mean over its seeds; a seed more makes e smaller, never a. The interval is Student's t of these means.
- Over `seeds`, the splits of the file are fixed: the question is of them alone. The mean is that of the splits' means
  (two levels), and its variance that of the seeds within a split, pooled: s^2 = sum_jk (d_jk - d_j)^2 / sum_j (n_j -
  1), with sum_j (n_j - 1) degrees of freedom.

Differences that do not vary have no interval. Metrics are counts of images: a few that are equal by chance say
nothing of how far others lie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
FEWEST_FOR_WILCOXON = 6  # pairs: with fewer, no outcome has p < 0.05
NO_SPREAD = 1e-9  # points: less is what rounding leaves of differences that are equal

Verdict = Literal["holds", "reversed", "undecided", "no interval", "missing"]
Over = Literal["splits", "seeds"]
Key = tuple[int, int]  # split, seed


@dataclass(frozen=True)
class Paired:
    """Differences between two rows, one a unit. `low` and `high` bound the mean's 95 % t interval, for a fixed n."""

    differences: tuple[float, ...]
    unit: Literal["partitions", "seeds"]
    mean: float
    low: float | None = None
    high: float | None = None
    wilcoxon: float | None = None  # two-sided p, from six pairs on
    p: float | None = None  # two-sided, of the t test
    spread: float | None = None  # standard deviation of a partition's difference, or of a seed's within a split
    strata: int = 1  # splits whose seeds' spread is pooled; 1 over splits

    @property
    def n(self) -> int:
        return len(self.differences)

    @property
    def over(self) -> Over:
        return "splits" if self.unit == "partitions" else "seeds"


def paired(
    one: Mapping[Key, float], other: Mapping[Key, float], partitions: Mapping[int, object], over: Over | None = None
) -> Paired | None:
    """`one` minus `other` on every (split, seed) that both have; None where they share none.

    Splits that are one partition of the classes with other labels (as two of agc's CIFAR-10 lists are) are one unit.
    Where the file does not say `over` what, it is over splits, and over seeds where all is one partition.
    """
    shared = sorted(one.keys() & other.keys())
    if not shared:
        return None
    difference = {key: one[key] - other[key] for key in shared}
    by_split: dict[int, list[float]] = {}
    by_seed: dict[int, list[float]] = {}
    for (split, seed), value in difference.items():
        by_split.setdefault(split, []).append(value)
        by_seed.setdefault(seed, []).append(value)
    by_partition: dict[object, list[float]] = {}
    for split, group in by_split.items():
        by_partition.setdefault(partitions[split], []).append(float(np.mean(group)))
    if over == "splits" or (over is None and len(by_partition) > 1):
        values = [float(np.mean(group)) for group in by_partition.values()]
        return _interval("partitions", values, [values])
    values = [float(np.mean(by_seed[seed])) for seed in sorted(by_seed)]
    return _interval("seeds", values, list(by_split.values()))


def _interval(
    unit: Literal["partitions", "seeds"], values: Sequence[float], strata: Sequence[Sequence[float]]
) -> Paired:
    mean = float(np.mean([np.mean(group) for group in strata]))
    freedom = sum(len(group) - 1 for group in strata)
    spread = pooled(strata) if freedom else None
    if spread is None or spread < NO_SPREAD:
        return Paired(tuple(values), unit, mean, spread=0.0 if freedom else None, strata=len(strata))
    error = spread / len(strata) * math.sqrt(sum(1 / len(group) for group in strata))
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    wilcoxon = _wilcoxon(values) if len({*map(len, strata)}) == 1 else None  # else seeds are means over other splits
    return Paired(tuple(values), unit, mean, mean - half, mean + half, wilcoxon, p, spread, len(strata))


def pooled(strata: Sequence[Sequence[float]]) -> float:
    """The standard deviation within groups, of which at least one has two values."""
    squares = sum(float(np.sum((np.asarray(group) - np.mean(group)) ** 2)) for group in strata)
    return math.sqrt(squares / sum(len(group) - 1 for group in strata))


def _wilcoxon(differences: Sequence[float]) -> float | None:
    if len(differences) < FEWEST_FOR_WILCOXON or not np.any(differences):
        return None
    from scipy.stats import wilcoxon  # slow to import, and most tables have five splits

    return float(wilcoxon(differences).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down values: of m claims, the i-th smallest p times m - i + 1, never below one before it, at most 1.

    Of all claims that are rejected where theirs is below alpha, any is false with probability alpha at most (Holm
    1979).
    """
    adjusted = [0.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def verdict(found: Paired | None, sign: float) -> Verdict:
    """Whether the mean difference has the published `sign`, beyond its interval. Of a published 0 nothing can hold: an
    interval with 0 in it says that no difference was found, and not that there is none."""
    if found is None:
        return "missing"
    if found.low is None or found.high is None:
        return "no interval"
    if found.low <= 0 <= found.high:
        return "undecided"
    return "holds" if found.mean * sign > 0 else "reversed"


class Bounded(Protocol):
    """A mean with its interval, of a fixed n or a sequential one."""

    @property
    def mean(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def size(found: Bounded | None, published: float | None) -> str:
    """How the published difference lies to the interval: `as published`, `smaller` or `larger` than it; or nothing."""
    if found is None or found.low is None or found.high is None or published is None:
        return ""
    if found.low <= published <= found.high:
        return "as published"
    return "smaller" if abs(found.mean) < abs(published) else "larger"
