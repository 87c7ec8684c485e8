"""Wide residual networks (Zagoruyko and Komodakis, 2016) with a head that shows class activation maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from trainables.models.head import Head
from trainables.models.output import ConvolutionalNetwork


class _PreActivation(nn.Module):
    """Pre-activation residual block: BN, ReLU, conv 3x3, twice."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(ConvolutionalNetwork):
    """WRN-depth-width without dropout. 32 px images give 8 x 8 positions."""

    def __init__(self, depth: int, width: int, head: Callable[[int], Head]) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.groups = nn.Sequential(
            *(
                _PreActivation(channels[g] if b == 0 else channels[g + 1], channels[g + 1], 2 if g and b == 0 else 1)
                for g in range(3)
                for b in range(blocks)
            )
        )
        self.num_features = channels[3]
        self.bn = nn.BatchNorm2d(channels[3])
        self.head = head(channels[3])
        for module in (*self.stem.modules(), *self.groups.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.head.draw()

    @property
    def middle(self) -> nn.Module:
        return self.groups[len(self.groups) // 3 * 2 - 1]

    def maps(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.groups(self.stem(images_BCHW))))
