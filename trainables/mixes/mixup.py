"""MixUp (Zhang et al., 2018): a convex combination of two images and of their labels."""

from __future__ import annotations

import torch

from trainables.mixes.base import Batch, SeenMix
from trainables.mixes.boxes import draw_lam
from trainables.settings.mixes import MixUpSettings


class MixUp(SeenMix):
    settings: MixUpSettings

    def mix(self, raw: Batch) -> Batch:
        partners, lam = self.draw(len(raw.ids_B))
        return raw._replace(images_BCHW=mixup(raw.raw_BCHW, partners, lam), partners_B=partners, lam_B=lam)

    def draw(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A partner of the batch for each image, maybe itself, and lambda. B, B."""
        device = self.images.generator.device
        partners = torch.randperm(batch, generator=self.images.generator, device=device)
        one = self.settings.mix_draw == "batch"
        return partners, draw_lam(batch, self.settings.mix_alpha, self.images.host, device, one)


def mixup(images_BCHW: torch.Tensor, partners_B: torch.Tensor, lam_B: torch.Tensor) -> torch.Tensor:
    """lambda x_i + (1 - lambda) x_j, pixel by pixel. B,C,H,W."""
    lam = lam_B[:, None, None, None]
    return lam * images_BCHW + (1 - lam) * images_BCHW[partners_B]
