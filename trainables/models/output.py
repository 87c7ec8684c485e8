"""What every backbone's forward pass gives."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Output(NamedTuple):
    """B batch, K classes, C feature channels, h w cells of the last map."""

    logits_BK: torch.Tensor
    features_BC: torch.Tensor  # after global average pooling
    activation_BKhw: torch.Tensor  # class activation maps; their mean over cells is the logits
