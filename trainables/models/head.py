"""The head of every convolutional network: Conv 1x1, GAP (BackMix section IV-A).

The same function as GAP, Linear, but the convolution's output is the class activation map.
"""

from __future__ import annotations

import torch
from torch import nn

from trainables.models.output import Output


def init_head(head: nn.Conv2d) -> None:
    """Kaiming's normal weights for a linear layer, and no bias."""
    nn.init.kaiming_normal_(head.weight, nonlinearity="linear")
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]


def classify(head: nn.Conv2d, features_BChw: torch.Tensor) -> Output:
    """Class activation maps of the last feature maps, and both pooled over cells.

    In float32 also under bf16 autocast: rounded maps would give logits that tie, and ties move every ranking metric.
    """
    features_BChw = features_BChw.to(head.weight.dtype)
    with torch.autocast(features_BChw.device.type, enabled=False):
        activation_BKhw = head(features_BChw)
    return Output(activation_BKhw.mean(dim=(2, 3)), features_BChw.mean(dim=(2, 3)), activation_BKhw)
