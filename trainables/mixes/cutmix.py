"""CutMix (Yun et al., 2019): a box of one image pasted into another, labels by their area. And decoupled CutMix."""

from __future__ import annotations

import torch

from trainables.mixes.base import Batch
from trainables.mixes.boxes import Box, draw_box
from trainables.mixes.mixup import MixUp
from trainables.settings.mixes import CutMixSettings, DecoupledCutMixSettings


class CutMix(MixUp):
    settings: CutMixSettings

    def mix(self, raw: Batch) -> Batch:
        H, W = raw.raw_BCHW.shape[2:]
        partners, lam = self.draw(len(raw.ids_B))
        box = draw_box(1 - lam, H, W, self.images.generator, self.settings.mix_draw == "batch")
        outside = 1 - box.area() / (H * W)
        return raw._replace(images_BCHW=cutmix(raw.raw_BCHW, partners, box), partners_B=partners, lam_B=outside)


class DecoupledCutMix(CutMix):
    """CutMix with the decoupled regulariser of Liu et al. (2022), which any loss of a mixed batch gets."""

    settings: DecoupledCutMixSettings

    def term(self, logits_BK: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        if batch.partners_B is None or batch.lam_B is None:
            return None
        pair = (batch.labels_B, batch.labels_B[batch.partners_B], batch.lam_B)
        return self.settings.decoupled_weight * decoupled_cross_entropy(logits_BK, *pair).mean()


def cutmix(images_BCHW: torch.Tensor, partners_B: torch.Tensor, box: Box) -> torch.Tensor:
    """The partner inside the box. B,C,H,W."""
    H, W = images_BCHW.shape[2:]
    return torch.where(box.mask(H, W)[:, None], images_BCHW[partners_B], images_BCHW)


def decoupled_cross_entropy(
    logits_BK: torch.Tensor, labels_B: torch.Tensor, partner_labels_B: torch.Tensor, lam_B: torch.Tensor
) -> torch.Tensor:
    """Decoupled regulariser (Liu et al., 2022) of each sample: -log phi_ij - log phi_ji, with
    phi_ij = exp(z_i) / sum_{c != j} exp(z_c): neither class has to win against the other one.

    0 where the two are one class, or one image has no share: there is nothing to decouple. B.
    """
    classes_K = torch.arange(logits_BK.shape[1], device=logits_BK.device)
    mixed = (labels_B != partner_labels_B) & (lam_B > 0) & (lam_B < 1)

    def one_way(i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        excluded = (j[:, None] == classes_K) & mixed[:, None]
        others = logits_BK.masked_fill(excluded, float("-inf"))
        return others.logsumexp(dim=1) - logits_BK.gather(1, i[:, None])[:, 0]

    both = one_way(labels_B, partner_labels_B) + one_way(partner_labels_B, labels_B)
    return torch.where(mixed, both, 0)
