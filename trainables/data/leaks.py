"""Whether the parts of a trial are different images: what it learns from, and what it is judged on.

Images are told apart by a hash of their pixels as stored, whatever a set is called and in which file it lies. A copy
that was cut, resized or compressed again has other pixels: sets that are known to be of the same photographs are in
`trainables.protocols.origins`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from trainables.data.kept import ImageSet
from trainables.images.listing import I64, U64, DataError

# The largest share of a part that may be in another part too. Published sets have some duplicates between their own
# training and test images, on which papers train and test nevertheless; more than that is no accident.
ACCIDENT = 0.01


class Subset(NamedTuple):
    """Some images of a set."""

    source: ImageSet
    rows: I64


def check_disjoint(parts: Mapping[str, Subset], unknown: Mapping[str, Subset]) -> None:
    """Raises `DataError` where two parts of a trial, by what they are, share more images than by accident.

    Every part is to be disjoint from every other one; but two unknown sets are two tests, and may share.
    """
    for (one, a), (other, b) in combinations({**parts, **unknown}.items(), 2):
        if one in unknown:
            continue
        of_a, of_b = _shared(a, b)
        if of_b > ACCIDENT * len(b.rows) or of_a > ACCIDENT * len(a.rows):
            sources = dict.fromkeys((a.source.source, b.source.source))
            advice = (
                "choose another outlier_set" if "outliers" in (one, other) else "train and test on different images"
            )
            raise DataError(f"{of_b:,} of {len(b.rows):,} {other} are {one} too ({' and '.join(sources)}): {advice}")


def duplicates(sources: Iterable[ImageSet]) -> Iterator[str]:
    """What to say of each two sets that share an image: in the published ones, it is so by accident."""
    different = {(s.source, s.name, s.fingerprint): s for s in sources}.values()
    for a, b in combinations(different, 2):
        if count := int(np.isin(b.hashes, _common(a, b)).sum()):
            yield f"{count:,} of {len(b.labels):,} images of {b.source} are in {a.source} too"


def _shared(a: Subset, b: Subset) -> tuple[int, int]:
    """How many of the first are among the second, and of the second among the first."""
    if _content(a.source) != _content(b.source) and len(_common(a.source, b.source)) == 0:
        return 0, 0
    one, other = a.source.hashes[a.rows], b.source.hashes[b.rows]
    return int(np.isin(one, other).sum()), int(np.isin(other, one).sum())


_commons: dict[frozenset[tuple[str, int]], U64] = {}  # a plan asks for the same two sets at each split


def _common(one: ImageSet, other: ImageSet) -> U64:
    """Hashes of the images that are in both."""
    key = frozenset((_content(one), _content(other)))
    if key not in _commons:
        _commons[key] = np.intersect1d(one.hashes, other.hashes)
    return _commons[key]


def _content(source: ImageSet) -> tuple[str, int]:
    return source.fingerprint, source.size
