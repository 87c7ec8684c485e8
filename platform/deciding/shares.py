"""What each component of a method has of its whole effect: the Shapley values of an ablation.

The value v(S) of a set S of components is what the row with just these measures. A component adds v(S + it) - v(S),
which depends on what is there already. Its share is the mean of that over all sets without it: first over those of one
size, then over the sizes (Shapley 1953). The shares sum to v(all) - v(none). Where rows are missing, the mean is over
what is there: an estimate, and the shares need not sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from statistics import fmean

Parts = frozenset[str]


def shares(values: Mapping[Parts, float], parts: Collection[str]) -> dict[str, float]:
    """Of every component, from the values of the sets that are there; each is added to one of them at least."""
    found = {}
    for part in parts:
        added: dict[int, list[float]] = {}
        for of, value in values.items():
            if part not in of and of | {part} in values:
                added.setdefault(len(of), []).append(values[of | {part}] - value)
        found[part] = fmean(map(fmean, added.values()))
    return found


def subsets(parts: Collection[str]) -> Iterator[Parts]:
    """All 2^k sets of k components, the empty one first."""
    for size in range(len(parts) + 1):
        yield from map(frozenset, combinations(parts, size))
