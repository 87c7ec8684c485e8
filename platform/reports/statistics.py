"""What a spread explains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from platform.deciding.paired import CONFIDENCE


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
