"""Scores: how much a sample looks known, from its logits. Higher is more known; any ranking metric takes any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

F64 = npt.NDArray[np.float64]


def msp(logits_NK: F64) -> F64:
    """Maximum softmax probability (Hendrycks and Gimpel, 2017): max_k softmax(z)_k, in 1/K..1. N."""
    return softmax(logits_NK, axis=1).max(axis=1)


def mls(logits_NK: F64) -> F64:
    """Maximum logit score (Vaze et al., 2022): max_k z_k. N."""
    return logits_NK.max(axis=1)


SCORES: dict[str, Callable[[F64], F64]] = {"msp": msp, "mls": mls}
