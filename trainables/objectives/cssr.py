"""CSSR and RCSSR (Huang et al., TPAMI 2022): cross-entropy with the probabilities of their own head."""

from __future__ import annotations

import torch
from torch import nn

from trainables.models.reconstruction import AutoEncoders
from trainables.objectives.base import Objective
from trainables.settings.reconstruction import CSSRSettings


class CSSR(Objective):
    """-log p(y | x), or with whatever labels the mix gives. RCSSR is the same with other settings."""

    settings: CSSRSettings
    head = AutoEncoders

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batch = self.mix.batch(ids_B)
        return self.cross_entropy(self.see(model, batch.images_BCHW, batch).logits_BK, batch)
