"""Scores: how much a sample looks known, from its logits or features. Higher is more known, for every one of them.

Shapes: N samples, K classes, C feature channels. `extra_scores`, beside this, has those that need more than one pass.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, softmax

F64 = npt.NDArray[np.float64]


def msp(logits_NK: F64) -> F64:
    """Maximum softmax probability (Hendrycks and Gimpel, 2017): max_k softmax(z)_k, in 1/K..1. N."""
    return softmax(logits_NK, axis=1).max(axis=1)


def mls(logits_NK: F64) -> F64:
    """Maximum logit score (Vaze et al., 2022): max_k z_k. N."""
    return logits_NK.max(axis=1)


def energy(logits_NK: F64) -> F64:
    """Negative free energy at temperature 1 (Liu et al., 2020, Eq. 4): log sum_k exp z_k, at least `mls`. N."""
    return logsumexp(logits_NK, axis=1)


SCORES: dict[str, Callable[[F64], F64]] = {"msp": msp, "mls": mls, "energy": energy}


def feature_norm(features_NC: F64) -> F64:
    """Euclidean norm of the pooled features, at least 0: BackMix's FT-norm, whose AUROC is its FT-Auc. N."""
    return np.linalg.norm(features_NC, axis=1)


def kth_neighbour(distances_Nk: F64, k: int) -> F64:
    """Minus the distance to the k-th nearest training feature (Sun et al., 2022, Eq. 2), at most 0; to the farthest of
    `distances_Nk`, sorted, where there are fewer. N."""
    return -distances_Nk[:, min(k, distances_Nk.shape[1]) - 1]


def mean_cosine(features_NC: F64, others_MC: F64) -> F64:
    """Mean over `others` of the cosine similarity with each of them, in -1..1; NaN where there are no others. N.

    Averaged over unknown samples, with the known ones as `others`, it is BackMix's FT-Cos. A mean of products is
    the product with the mean, so no pair is formed. A feature of zero length has cosine 0 with everything.
    """
    if len(others_MC) == 0:
        return np.full(len(features_NC), np.nan)
    return unit(features_NC) @ unit(others_MC).mean(axis=0)


def unit(features_NC: F64) -> F64:
    """Features of length 1; those of length 0 stay. N,C."""
    norms_N1 = np.linalg.norm(features_NC, axis=1, keepdims=True)
    return features_NC / np.where(norms_N1 == 0, 1, norms_N1)
