"""Names of metrics, taken apart and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

CLOSED_SET_METRICS = ("accuracy", "auc")  # of known samples alone, and of no score
MEANT_BY_ASKER = ("auroc", "oscr")  # as `test/auroc`: whose score and unknown sets, who asks says
PSEUDO_UNKNOWN = "pseudo-unknown"  # the unknown set of a validation


@dataclass(frozen=True)
class MetricName:
    """`<part>/<set>/<score>/<metric>`, as `test/cifar100/msp/auroc`.

    Without a set and a score, as `test/auroc`, it is of known samples alone, or a mean over unknown sets by somebody's
    score. Without a score, as `test/cifar100/feature_cosine`, it is one of a set that needs no score.
    """

    part: str  # val or test
    metric: str
    unknown_set: str = ""
    score: str = ""

    @classmethod
    def parse(cls, name: str) -> MetricName:
        """The name taken apart. Raises `ValueError` where it has not two to four parts."""
        part, *between, metric = name.split("/")
        if len(between) > 2:
            raise ValueError(f"{name!r} is not the name of a metric")
        return cls(part, metric, *between)

    def __str__(self) -> str:
        return "/".join(part for part in (self.part, self.unknown_set, self.score, self.metric) if part)

    @property
    def of_known(self) -> bool:
        """Whether it is of known samples alone."""
        return self.metric in CLOSED_SET_METRICS

    def meant(self, unknown_sets: Iterable[str], score: str) -> list[MetricName]:
        """The metrics whose mean it is, for somebody with these unknown sets and this score; else itself alone."""
        if self.unknown_set or self.of_known:
            return [self]
        return [replace(self, unknown_set=name, score=score) for name in unknown_sets]


def mean_of(names: Sequence[MetricName], values: Callable[[str], float | None]) -> float | None:
    """The mean of these metrics, as over unknown sets; None where there is none, or one of them has no value."""
    found = [value for name in names if (value := values(str(name))) is not None]
    return float(np.mean(found)) if found and len(found) == len(names) else None
