"""The residual networks of He et al. (2016), section 4.2, for CIFAR: 6n+2 layers of 16, 32 and 64 channels."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn


class _BasicBlock(nn.Module):
    """conv 3x3, BN, ReLU, conv 3x3, BN; where the map shrinks, the shortcut takes every other position and fills the
    new channels with zeros, half before and half after (option A, as in akamaster/pytorch_resnet_cifar10)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.new = stride, channels - channels_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new // 2))
        return F.relu(out + x)


def cifar_resnet(depth: int) -> tuple[nn.Sequential, int, int]:
    """The body of ResNet-`depth` for CIFAR, its channels, and the number of its middle module."""
    blocks = (depth - 2) // 6
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 16, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(16), relu=nn.ReLU(inplace=True)
    )
    channels_in = 16
    for number, channels in enumerate((16, 32, 64), 1):
        group = []
        for b in range(blocks):
            group.append(_BasicBlock(channels_in, channels, 2 if number > 1 and b == 0 else 1))
            channels_in = channels
        layers[f"layer{number}"] = nn.Sequential(*group)
    body = nn.Sequential(layers)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body, channels_in, list(layers).index("layer2")
