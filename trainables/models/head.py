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
    """Class activation maps of the last feature maps, and both pooled over cells."""
    activation_BKhw = head(features_BChw)
    # In float32 also under bf16 autocast: rounded logits would tie, and ties move every ranking metric.
    pooled = [x.float().mean(dim=(2, 3)) for x in (activation_BKhw, features_BChw)]
    return Output(pooled[0], pooled[1], activation_BKhw)
