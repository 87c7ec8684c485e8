"""Outlier regularisers (BackMix paper, section III-B, Table II): OE, CatImg and FtAvg, with an auxiliary set."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainables.learners.base import Learner, Training
from trainables.objectives.losses import uniform_cross_entropy
from trainables.settings.methods import FtAvgSettings, OutlierExposureSettings


def draw_outliers(training: Training, count: int) -> torch.Tensor:
    """`count` random outliers, maybe one twice, augmented as known images are.

    Raises `RuntimeError` where there are none.
    """
    if training.outliers is None:
        raise RuntimeError("this method needs a set of outliers")
    generator = training.generator
    ids = torch.randint(len(training.outliers), (count,), generator=generator, device=generator.device)
    images, _ = training.augment(training.outliers[ids])
    return images


class OutlierExposure(Learner):
    """Cross-entropy on known images, and with the uniform label on outliers: H(y; x) + alpha H(u; x') (Eq. 2)."""

    settings: OutlierExposureSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t, s, B = self.training, self.settings, len(ids_B)
        images, _ = t.augment(t.pool[ids_B])
        outliers = draw_outliers(t, s.outliers_per_image * B)
        logits = t.forward(model, torch.cat([images, outliers])).logits_BK  # one pass, as Hendrycks' code
        known = F.cross_entropy(logits[:B], t.pool.labels[ids_B])
        return known + s.outlier_weight * uniform_cross_entropy(logits[B:]).mean()


class CatImg(Learner):
    """Cross-entropy on pictures of twice the height: a known image above, an outlier below. The outlier is background
    that global average pooling has to learn to ignore."""

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t = self.training
        images, _ = t.augment(t.pool[ids_B])
        tall = torch.cat([images, draw_outliers(t, len(ids_B))], dim=2)
        return F.cross_entropy(t.forward(model, tall).logits_BK, t.pool.labels[ids_B])


class FtAvg(Learner):
    """Cross-entropy on lambda z_f + (1 - lambda) z_b: features of a known image and of an outlier (Eq. 1).

    The head is linear, so its logits of that mean are the mean of its logits.
    """

    settings: FtAvgSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t, B, share = self.training, len(ids_B), self.settings.foreground_share
        images, _ = t.augment(t.pool[ids_B])
        logits = t.forward(model, torch.cat([images, draw_outliers(t, B)])).logits_BK
        return F.cross_entropy(share * logits[:B] + (1 - share) * logits[B:], t.pool.labels[ids_B])
