"""Outlier regularisers (BackMix paper, section III-B, Table II): OE, CatImg and FtAvg, with an auxiliary set."""

from __future__ import annotations

import torch
from torch import nn

from trainables.objectives.base import Objective
from trainables.objectives.losses import uniform_cross_entropy
from trainables.settings.objectives import FtAvgSettings, OutlierExposureSettings


class WithOutliers(Objective):
    """An objective that is given a set of outliers."""

    def outliers(self, count: int) -> torch.Tensor:
        """`count` random outliers, maybe one twice, augmented as known images are and not mixed.

        Raises `RuntimeError` where there are none.
        """
        pool, images = self.given.outliers, self.mix.images
        if pool is None:
            raise RuntimeError("this objective needs a set of outliers")
        ids = torch.randint(len(pool), (count,), generator=images.generator, device=images.generator.device)
        return images.augment(pool[ids])[0]


class OutlierExposure(WithOutliers):
    """Cross-entropy on known images, and with the uniform label on outliers: H(y; x) + alpha H(u; x') (Eq. 2)."""

    settings: OutlierExposureSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        s, B = self.settings, len(ids_B)
        batch = self.mix.batch(ids_B)
        both = torch.cat([batch.images_BCHW, self.outliers(s.outliers_per_image * B)])
        logits = self.see(model, both, batch).logits_BK  # one pass, as Hendrycks' code
        known = self.cross_entropy(logits[:B], batch)
        return known + s.outlier_weight * uniform_cross_entropy(logits[B:]).mean()


class CatImg(WithOutliers):
    """Cross-entropy on pictures of twice the height: a known image above, an outlier below. The outlier is background
    that global average pooling has to learn to ignore."""

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batch = self.mix.batch(ids_B)
        tall = torch.cat([batch.images_BCHW, self.outliers(len(ids_B))], dim=2)
        return self.cross_entropy(self.see(model, tall, batch).logits_BK, batch)


class FtAvg(WithOutliers):
    """Cross-entropy on lambda z_f + (1 - lambda) z_b: features of a known image and of an outlier (Eq. 1).

    The head is linear, so its logits of that mean are the mean of its logits.
    """

    settings: FtAvgSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        B, share = len(ids_B), self.settings.foreground_share
        batch = self.mix.batch(ids_B)
        logits = self.see(model, torch.cat([batch.images_BCHW, self.outliers(B)]), batch).logits_BK
        return self.cross_entropy(share * logits[:B] + (1 - share) * logits[B:], batch)
