"""No mix: raw images, augmented."""

from __future__ import annotations

import torch

from trainables.mixes.base import Batch, Mix


class NoMix(Mix):
    def batch(self, ids_B: torch.Tensor) -> Batch:
        return self.raw(ids_B)
