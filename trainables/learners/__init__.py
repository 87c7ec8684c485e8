"""Training methods, one a file. A learner says what one batch does; the loop in `trainables.trial` is the same
for all of them."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from trainables.learners.backmix import BackMix
from trainables.learners.base import Training
from trainables.learners.plain import Plain


class Learner(Protocol):
    """What the training loop asks of a method."""

    def __init__(self, settings: Any, training: Training) -> None: ...

    def start_epoch(self) -> None:
        """Called before the first batch of each epoch."""

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar, of the batch of sample numbers `ids_B` (distinct)."""


LEARNERS: dict[str, type[Learner]] = {"plain": Plain, "backmix": BackMix}
