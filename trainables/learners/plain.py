"""Plain: cross-entropy on augmented raw images, the baseline of every table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainables.learners.base import Training
from trainables.methods import PlainSettings


class Plain:
    def __init__(self, settings: PlainSettings, training: Training) -> None:
        self.training = training

    def start_epoch(self) -> None:
        """Nothing changes between epochs."""

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        images, _ = self.training.augment(self.training.pool[ids_B])
        return F.cross_entropy(model(images).logits_BK, self.training.pool.labels[ids_B])
