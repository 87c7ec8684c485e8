"""Looking at a difference again and again, and being wrong in all looks together with probability alpha at most.

A t interval of 95 % is right in 95 of 100 cases where one looks once. Who looks after every seed and stops at the first
interval without zero is wrong three to six times as often. Here each look spends a part of alpha (Lan & DeMets 1983):
after n of N seeds, alpha (n/N)^RHO is spent in all (Kim & DeMets 1987). The critical value of a look is that at which
just this part is spent, given that no look before has stopped. The intervals mean ± critical value × standard error
then all contain the truth, together, with probability 1 - alpha at least (repeated confidence intervals, Jennison &
Turnbull 1989), whatever rule one stops by.

The critical values are exact for normal differences of unknown spread. S splits give S differences a seed. Rotate them
so that the first coordinate y is sqrt(S) times their mean: under no difference all S are alike and independent. Let U
be the sum of y so far, V the sum of all squares but for what the splits' own means take. The statistic is a function of
u = U / sqrt(V), and V belongs to a vector whose direction is uniform on a sphere. So u is a Markov chain: of S - 1 more
coordinates u becomes sqrt(B) u, B ~ Beta(d/2, (S-1)/2); of one more y it becomes cos(f) u + sin(f), where f has the
density cos(f)^(d-1) on (-pi/2, pi/2), d being the coordinates so far. Both have distribution functions in closed form,
and the chain is followed on a grid, from look to look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, stdtr, stdtrit

from platform.deciding.paired import NO_SPREAD, pooled

FIRST = 3  # seeds at the first look: of two, a spread says next to nothing
RHO = 2.0  # how late alpha is spent
INTERVALS = 240  # of the grid

Array = NDArray[Any]


@dataclass(frozen=True)
class Look:
    """What a look at n seeds asks of |t|, and how likely it is, without any difference, that none before has
    stopped."""

    n: int
    critical: float  # of |t|
    before: float  # of alpha, spent by the looks before
    places: Array  # of |u|, just before this look, where no look has stopped
    masses: Array

    def tail(self, t: float, splits: int) -> float:
        """The probability that no look before has stopped and |t| is larger here."""
        return float(self.masses @ _beyond(self.places, _u(t, self.n, splits), self.n, splits))


@cache
def looks(most: int, splits: int = 1, alpha: float = 0.05, rho: float = RHO) -> tuple[Look, ...]:
    """A look after each seed from the third to the last of `most`."""
    found: list[Look] = []
    spent = 0.0
    places, masses = np.array([math.nan]), np.array([1.0])  # before the first look: the t distribution itself
    for n in range(FIRST, most + 1):
        part = alpha * (n / most) ** rho - spent
        if n == FIRST:
            critical = float(stdtrit(splits * (n - 1), 1 - part / 2))
        else:
            places, masses = _through(places, masses, n, splits)
            critical = _critical(places, masses, n, splits, part)
        found.append(Look(n, critical, spent, places, masses))
        spent += part
        edges = np.linspace(0, _u(critical, n, splits), INTERVALS + 1)
        inside = np.diff([masses @ (1 - _beyond(places, edge, n, splits)) for edge in edges])
        places, masses = (edges[1:] + edges[:-1]) / 2, inside
    return tuple(found)


def _u(t: float, n: int, splits: int) -> float:
    """|u| of |t|: with r = u / sqrt(n), t = r sqrt(S (n - 1)) / sqrt(1 - r^2)."""
    freedom = splits * (n - 1)
    return math.sqrt(n) * abs(t) / math.sqrt(freedom + t * t)


def _t(u: float, n: int, splits: int) -> float:
    r = u / math.sqrt(n)
    return r * math.sqrt(splits * (n - 1)) / math.sqrt(1 - r * r)


def _through(places: Array, masses: Array, n: int, splits: int) -> tuple[Array, Array]:
    """|u| once the S - 1 coordinates of the n-th seed beside y are there."""
    if splits == 1:
        return places, masses
    before = n - 1 + (splits - 1) * (n - 2)
    edges = np.linspace(0, places[-1] + (places[1] - places[0]) / 2, INTERVALS + 1)
    share = np.minimum((edges[:, None] / places) ** 2, 1.0)
    below = betainc(before / 2, (splits - 1) / 2, share)
    return (edges[1:] + edges[:-1]) / 2, np.diff(below, axis=0) @ masses


def _beyond(places: Array, limit: float, n: int, splits: int) -> Array:
    """For each |u|, the probability that it is larger than `limit` once the y of the n-th seed is there."""
    if np.isnan(places[0]):  # the first look: that of t
        return np.array([2 * stdtr(splits * (n - 1), -_t(min(limit, math.sqrt(n) * (1 - 1e-12)), n, splits))])
    before = n - 1 + (splits - 1) * (n - 1)
    return _above(places, limit, before) + _above(places, limit, before, -1)


def _above(u: Array, limit: float, before: int, side: int = 1) -> Array:
    """P(cos(f) u + sin(f) > limit), or with `side` -1 that it is below -limit.

    It is sqrt(1 + u^2) cos(f - g) with g = arctan(1/u): the f between g - a and g + a, cos(a) = limit / sqrt(1 + u^2).
    """
    reach = np.hypot(1, u)
    middle = np.arctan2(1, side * u)
    half = np.arccos(np.minimum(limit / reach, 1.0))
    return _angle(middle + half, before) - _angle(middle - half, before)


def _angle(angle: Array, before: int) -> Array:
    """The distribution function of f: sin(f)^2 is Beta(1/2, d/2)."""
    sine = np.sin(np.clip(angle, -math.pi / 2, math.pi / 2))
    return (1 + np.sign(sine) * betainc(0.5, before / 2, sine**2)) / 2


def _critical(places: Array, masses: Array, n: int, splits: int, part: float) -> float:
    highest = math.sqrt(n) * (1 - 1e-12)
    u = brentq(lambda limit: float(masses @ _beyond(places, limit, n, splits)) - part, 0.0, highest, xtol=1e-12)
    return _t(float(u), n, splits)


@dataclass(frozen=True)
class Interval:
    """The mean difference after n seeds, with its repeated interval, and that look."""

    n: int
    mean: float
    low: float
    high: float
    p: float  # where one stopped here: of stage-wise order, as below
    spread: float  # of a seed within a split
    strata: int  # splits


def interval(differences: Sequence[Sequence[float]], look: Look) -> Interval | None:
    """Of `differences` by split, each with at least the look's n seeds in their order; None where those of each split
    are the same.

    p is the probability of a more extreme end without any difference, an earlier stop counting as more extreme
    (Fairbanks & Madsen 1982).
    """
    strata = [list(values[: look.n]) for values in differences]
    mean, splits = float(np.mean(strata)), len(strata)
    spread = pooled(strata)
    if spread < NO_SPREAD:
        return None
    error = spread / math.sqrt(splits * look.n)
    p = look.before + look.tail(abs(mean) / error, splits)
    return Interval(look.n, mean, mean - look.critical * error, mean + look.critical * error, p, spread, splits)
