"""ResNet, VGG, MobileNetV2 and the open-set literature's VGG32: a body that ends in feature maps, and the shared head.

Each body comes with the number of its channels, and that of its middle module. Nothing is pretrained.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torchvision
from torch import nn

from trainables.models.head import Head
from trainables.models.output import ConvolutionalNetwork
from trainables.settings.backbones import SMALL_IMAGE


class ConvNet(ConvolutionalNetwork):
    """`body` turns images B,3,H,W into feature maps B,channels,h,w; `middle` is the number of its middle module."""

    def __init__(self, body: nn.Sequential, channels: int, middle: int, head: Callable[[int], Head]) -> None:
        super().__init__()
        self._middle = middle
        self.num_features = channels
        self.body = body
        self.head = head(channels)
        self.head.draw()

    @property
    def middle(self) -> nn.Module:
        return self.body[self._middle]

    def maps(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        maps_BChw: torch.Tensor = self.body(images_BCHW)
        return maps_BChw


def resnet(depth: int, image_size: int) -> tuple[nn.Sequential, int, int]:
    """ResNet (He et al., 2016), torchvision's. Small images get a 3x3 stem that keeps their resolution."""
    of = torchvision.models
    net = {18: of.resnet18, 34: of.resnet34, 50: of.resnet50, 101: of.resnet101}[depth]()
    channels = net.fc.in_features
    if image_size <= SMALL_IMAGE:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
    del net.avgpool, net.fc
    layers = OrderedDict(net.named_children())
    return nn.Sequential(layers), channels, list(layers).index("layer2")


def mobilenetv2(image_size: int) -> tuple[nn.Sequential, int, int]:
    """MobileNetV2 (Sandler et al., 2018), torchvision's, without the classifier's dropout.

    For small images the stem and the stage of 24 channels keep the resolution, as is usual on CIFAR.
    """
    small = image_size <= SMALL_IMAGE
    # Expansion, channels, blocks, stride: Table 2 of the paper.
    stages = [
        [1, 16, 1, 1],
        [6, 24, 2, 1 if small else 2],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    net = torchvision.models.MobileNetV2(inverted_residual_setting=stages)
    if small:
        net.features[0][0].stride = (1, 1)
    return net.features, net.last_channel, sum(blocks for _, _, blocks, _ in stages[:3])


def vgg(depth: int) -> tuple[nn.Sequential, int, int]:
    """The convolutions of VGG with batch normalisation (Simonyan and Zisserman, 2015), laid out as torchvision's.

    Written out, because torchvision's own cannot be had without the 120 million weights of its classifier.
    """
    blocks = {13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    layers: list[nn.Module] = []
    channels_in = 3
    for channels, convolutions in zip((64, 128, 256, 512, 512), blocks, strict=True):
        for _ in range(convolutions):
            conv = nn.Conv2d(channels_in, channels, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            channels_in = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers), channels_in, 3 * (blocks[0] + blocks[1]) + 1


def vgg32() -> tuple[nn.Sequential, int, int]:
    """The classifier of Neal et al. (2018) for 32 px images, pooled globally as in ARPL (Chen et al., 2021).

    Their linear layer has no bias; the shared head has one.
    """
    layers: list[nn.Module] = []
    channels_in = 3
    for widths in ((64, 64, 128), (128, 128, 128), (128, 128, 128)):
        layers.append(nn.Dropout2d(0.2))
        for channels, stride in zip(widths, (1, 1, 2), strict=True):
            conv = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
            norm = nn.BatchNorm2d(channels)
            nn.init.normal_(conv.weight, 0, 0.05)
            nn.init.normal_(norm.weight, 1, 0.02)
            layers += [conv, norm, nn.LeakyReLU(0.2)]
            channels_in = channels
    return nn.Sequential(*layers), channels_in, len(layers) // 3 * 2 - 1
