"""CutOut (DeVries and Taylor, 2017): a grey box in each image."""

from __future__ import annotations

import torch

from trainables.mixes.base import Batch, SeenMix
from trainables.mixes.boxes import Box, draw_box
from trainables.settings.mixes import CutOutSettings


class CutOut(SeenMix):
    settings: CutOutSettings

    def mix(self, raw: Batch) -> Batch:
        s, images = self.settings, raw.raw_BCHW
        B, _, H, W = images.shape
        area = torch.full((B,), s.cutout_size, device=images.device)
        box = draw_box(area, H, W, self.images.generator, s.mix_draw == "batch")
        each = torch.arange(B, device=images.device)  # nobody else has a part of an image
        return raw._replace(images_BCHW=cutout(images, box), partners_B=each, lam_B=torch.ones_like(area))


def cutout(images_BCHW: torch.Tensor, box: Box) -> torch.Tensor:
    """0, the grey of a normalised image, inside the box. B,C,H,W."""
    H, W = images_BCHW.shape[2:]
    return images_BCHW * ~box.mask(H, W)[:, None]  # as masked_fill, but channels stay last
