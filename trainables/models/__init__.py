"""Backbones by name. Each is a module whose forward pass gives an `Output`."""

from __future__ import annotations

from collections.abc import Callable

from trainables.models.convnets import ConvNet, mobilenetv2, resnet, vgg, vgg32
from trainables.models.output import Network
from trainables.models.vit import ViT
from trainables.models.wideresnet import WideResNet
from trainables.settings.backbones import Backbone, cells, parse_backbone

# By family: (numbers of the backbone, num_classes, image_size) to a network.
_FAMILIES: dict[str, Callable[[Backbone, int, int], Network]] = {
    "wrn": lambda b, classes, size: WideResNet(b.depth, b.width, classes),
    "resnet": lambda b, classes, size: ConvNet(*resnet(b.depth, size), classes),
    "vgg": lambda b, classes, size: ConvNet(*vgg(b.depth), classes),
    "vgg32": lambda b, classes, size: ConvNet(*vgg32(), classes),
    "mobilenetv2": lambda b, classes, size: ConvNet(*mobilenetv2(size), classes),
    "vit": lambda b, classes, size: ViT(b.width, b.patch, size, classes),
}


def build_model(backbone: str, num_classes: int, image_size: int) -> Network:
    """A freshly initialised network for square images of `image_size` px, by torch's global generator.

    Raises `ValueError` for an unknown name, and for images that the network's cells do not divide.
    """
    cells(backbone, image_size)
    parsed = parse_backbone(backbone)
    return _FAMILIES[parsed.family](parsed, num_classes, image_size)
