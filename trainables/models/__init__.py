"""Backbones by name. Each is a module whose forward pass gives an `Output`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from trainables.models.cifar_resnet import cifar_resnet
from trainables.models.convnets import ConvNet, mobilenetv2, resnet, vgg, vgg32
from trainables.models.head import Head, LinearHead
from trainables.models.libraries import image_tower, timm_model
from trainables.models.output import Network
from trainables.models.vit import ViT
from trainables.models.wideresnet import WideResNet
from trainables.settings.backbones import Backbone, convolutional, map_side, parse_backbone
from trainables.settings.custom import own_backbone

MakeHead = Callable[[int], Head]  # of so many channels

# By family: (numbers of the backbone, head, image_size) to a convolutional network.
_CONVOLUTIONAL: dict[str, Callable[[Backbone, MakeHead, int], Network]] = {
    "wrn": lambda b, head, size: WideResNet(b.depth, b.width, head),
    "resnet": lambda b, head, size: ConvNet(*resnet(b.depth, size), head),
    "cifar-resnet": lambda b, head, size: ConvNet(*cifar_resnet(b.depth), head),
    "vgg": lambda b, head, size: ConvNet(*vgg(b.depth), head),
    "vgg32": lambda b, head, size: ConvNet(*vgg32(), head),
    "mobilenetv2": lambda b, head, size: ConvNet(*mobilenetv2(size), head),
}
# Those with a linear head of their own: (backbone, num_classes, image_size).
_WITH_HEAD: dict[str, Callable[[str, int, int], Network]] = {
    "vit": lambda name, classes, size: ViT(parse_backbone(name).width, parse_backbone(name).patch, size, classes),
    "own": lambda name, classes, size: own_backbone(name)(classes, size),
    "open_clip": image_tower,
}


def build_model(
    backbone: str, num_classes: int, image_size: int, head: type[Head] = LinearHead, settings: Any = None
) -> Network:
    """A freshly initialised network for square images of `image_size` px, by torch's global generator. `settings` are
    those of the objective that the head is of.

    Raises `ValueError` for an unknown name, for images that the network's stride does not divide, and for a head that
    is not linear on a network without maps, as a ViT, whose logits are of its class token.
    """
    map_side(backbone, image_size)
    parsed = parse_backbone(backbone)
    family = parsed.family
    if not convolutional(backbone) and head is not LinearHead:
        where = "on its class token" if family == "vit" else "of its own"
        raise ValueError(f"{backbone} has a linear head {where}, and takes no {head.__name__}")
    if family == "timm":
        return timm_model(backbone, num_classes, image_size, head, settings)
    if family in _WITH_HEAD:
        return _WITH_HEAD[family](backbone, num_classes, image_size)
    return _CONVOLUTIONAL[family](parsed, partial(head, num_classes=num_classes, settings=settings), image_size)
