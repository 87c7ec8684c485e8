"""LogitNorm (Wei et al., ICML 2022), as an objective of one's own: cross-entropy that cannot grow the logits' norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from trainables.objectives.base import Objective
from trainables.reading.values import Positive
from trainables.settings.base import ObjectiveSettings


@dataclass(frozen=True)
class LogitNormSettings(ObjectiveSettings):
    norm_temperature: Positive = 0.04  # tau: logits are divided by tau times their norm; the paper's, for CIFAR-10


class LogitNorm(Objective):
    settings: LogitNormSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batch = self.mix.batch(ids_B)
        logits_BK = self.see(model, batch.images_BCHW, batch).logits_BK
        return self.cross_entropy(F.normalize(logits_BK, dim=1) / self.settings.norm_temperature, batch)
