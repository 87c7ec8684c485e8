"""Plain: cross-entropy on augmented raw images, the baseline of every table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainables.learners.base import Learner
from trainables.settings.methods import PlainSettings


class Plain(Learner):
    settings: PlainSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t = self.training
        images, _ = t.augment(t.pool[ids_B])
        logits = t.forward(model, images).logits_BK
        return F.cross_entropy(logits, t.pool.labels[ids_B], label_smoothing=self.settings.label_smoothing)
