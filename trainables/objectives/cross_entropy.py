"""Cross-entropy, with whatever labels the mix gives: the baseline of every table, and BackMix."""

from __future__ import annotations

import torch
from torch import nn

from trainables.objectives.base import Objective
from trainables.objectives.losses import uniform_part
from trainables.settings.objectives import CrossEntropySettings


class CrossEntropy(Objective):
    settings: CrossEntropySettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batch = self.mix.batch(ids_B)
        output = self.see(model, batch.images_BCHW, batch)
        smoothing = self.settings.label_smoothing
        if self.settings.smoothing_over == "others":
            smoothing = uniform_part(smoothing, output.logits_BK.shape[1])
        return self.cross_entropy(output.logits_BK, batch, smoothing)
