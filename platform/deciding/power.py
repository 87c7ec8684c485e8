"""What a number of pairs can decide: the power of the paired t test, and the n that a difference needs.

With n units in each of S strata (S = 1 over splits; over seeds, the splits) and a unit's spread s, the test of a mean
difference d has S (n - 1) degrees of freedom, and its statistic under d is Student's t with the noncentrality
d sqrt(S n) / s (Cohen 1988, ch. 2).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from scipy.optimize import brentq
from scipy.special import nctdtr, stdtrit

from platform.deciding.looks import Look

POWER, ALPHA = 0.8, 0.05  # unless a file says otherwise; alpha two-sided
MOST = 10_000  # units: who needs more needs another question


def power(difference: float, n: int, spread: float, strata: int = 1, alpha: float = ALPHA, limit: float = 0.0) -> float:
    """The probability to find `difference`, or one of the other sign. `limit` is the critical t of another test than
    that of `alpha`, as that of the last look of a sequential one, whose power is at least this."""
    freedom = strata * (n - 1)
    if freedom < 1:
        return 0.0
    limit = limit or float(stdtrit(freedom, 1 - alpha / 2))
    shift = abs(difference) * math.sqrt(strata * n) / spread
    between, beyond = nctdtr(freedom, shift, limit), nctdtr(freedom, shift, -limit)
    return 1 - _or_zero(between) + _or_zero(beyond)


def _or_zero(probability: float) -> float:
    """nctdtr gives nan where it has no digits left, far below 1e-12."""
    return 0.0 if math.isnan(probability) else float(probability)


def detectable(
    n: int, spread: float, strata: int = 1, wanted: float = POWER, alpha: float = ALPHA, limit: float = 0.0
) -> float | None:
    """The smallest difference that n units find with the `wanted` power; None where they give no interval."""
    if strata * (n - 1) < 1:
        return None
    high = spread
    while power(high, n, spread, strata, alpha, limit) < wanted:
        high *= 2
    return float(brentq(lambda d: power(d, n, spread, strata, alpha, limit) - wanted, 0.0, high, xtol=1e-9 * high))


def needed(
    difference: float,
    spread: float,
    strata: int = 1,
    wanted: float = POWER,
    alpha: float = ALPHA,
    looked: Sequence[Look] = (),
) -> int | None:
    """The fewest units that find `difference` with the `wanted` power; None where `MOST` do not.

    Of a sequential test, `looked` are its looks: the first that finds it by its own limit; beyond the last, by the
    limit of that.
    """
    for look in looked:
        if power(difference, look.n, spread, strata, alpha, look.critical) >= wanted:
            return look.n
    numbers, limit = range(2, MOST + 1), looked[-1].critical if looked else 0.0
    found = bisect_left(numbers, wanted, key=lambda n: power(difference, n, spread, strata, alpha, limit))
    return numbers[found] if found < len(numbers) else None
