"""Heads: from the last feature maps of a network to logits, and to what each position says of each class.

Shapes: B batch, C channels, K classes, h w positions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trainables.models.output import Output


class Head(nn.Module, ABC):
    """What an objective puts on a network. It is made of (channels, num_classes, the objective's settings)."""

    def __init__(self, channels: int, num_classes: int, settings: Any = None) -> None:
        super().__init__()

    @abstractmethod
    def draw(self) -> None:
        """Initialise its weights, by torch's global generator."""

    @abstractmethod
    def forward(self, maps_BChw: torch.Tensor) -> Output:
        """Logits, pooled features and evidence of the last feature maps."""

    def fit(self, maps: Callable[[], Iterator[torch.Tensor]]) -> None:
        """Take what the head's own scores need of the training images, in eval mode, before an evaluation.

        Each call of `maps` goes through the last feature maps of all of them, B,C,h,w a batch. What is found must be
        buffers: they are written with the weights.
        """


class LinearHead(Head):
    """Conv 1x1, GAP (BackMix section IV-A): the same function as GAP, Linear, but its output before the pooling is the
    class activation map."""

    def __init__(self, channels: int, num_classes: int, settings: Any = None) -> None:
        super().__init__(channels, num_classes)
        conv = nn.Conv2d(channels, num_classes, 1, bias=getattr(settings, "head_bias", True))
        self.weight, self.bias = conv.weight, conv.bias

    def draw(self) -> None:
        """Kaiming's normal weights for a linear layer, and a bias of 0. Where it has no bias, evenly drawn weights: the
        codes that have none leave them as torch draws them."""
        if self.bias is None:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
            return
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        nn.init.zeros_(self.bias)

    def forward(self, maps_BChw: torch.Tensor) -> Output:
        """In float32 also under bf16 autocast: rounded maps would give logits that tie, and ties move every metric."""
        maps_BChw = maps_BChw.to(self.weight.dtype)
        with torch.autocast(maps_BChw.device.type, enabled=False):
            evidence_BKhw = F.conv2d(maps_BChw, self.weight, self.bias)
        return Output(evidence_BKhw.mean(dim=(2, 3)), maps_BChw.mean(dim=(2, 3)), evidence_BKhw)
