"""BackMix on CutMix's protocol, as a mix of one's own: half of the batches, with boxes of every size."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainables.mixes.backmix import BackMix, box_side
from trainables.mixes.base import Batch
from trainables.reading.values import Share
from trainables.settings.mixes import BackMixSettings


@dataclass(frozen=True)
class CoinBackMixSettings(BackMixSettings):
    mix_probability: Share = 0.5  # of a batch; the others are raw

    def idle(self) -> set[str]:
        return {"cut_size"}  # drawn anew for each batch


class CoinBackMix(BackMix):
    """The box is 1 - lambda of the image, lambda ~ Beta(1, 1), one for a batch. Raw batches move the bank, too."""

    settings: CoinBackMixSettings

    def batch(self, ids_B: torch.Tensor) -> Batch:
        images = self.images
        if not images.coin(self.settings.mix_probability):
            return self.raw(ids_B)
        self.side = box_side(torch.rand((), generator=images.host).item(), images.image_size)
        return super().batch(ids_B)
