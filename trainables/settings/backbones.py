"""Names of backbones and the grid of their last map, readable without torch. `trainables.models` builds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from trainables.reading.yaml_file import nearest
from trainables.settings.libraries import TIMM, of_library, timm_network

FORMS = (
    "wrn<depth>-<width>, resnet18|34|50|101, resnet20|56 (CIFAR's), vgg13|16|19, vgg32, mobilenetv2, "
    "vit-<ti|s|b><patch>, timm:<name>, open_clip:<name>"
)
SMALL_IMAGE = 64  # px; up to this size a ResNet and a MobileNetV2 start without the ImageNet stem's reductions

_FIXED = ("resnet18", "resnet34", "resnet50", "resnet101", "vgg13", "vgg16", "vgg19", "vgg32", "mobilenetv2")
_OF_CIFAR = ("resnet20", "resnet56")
_EXAMPLES = (*_FIXED, "wrn16-1", "wrn40-4", "vit-ti4", "vit-s8", "vit-b16", "vit-b32")
_VIT_WIDTH = {"ti": 192, "s": 384, "b": 768}


@dataclass(frozen=True)
class Backbone:
    """A network's family and its numbers; 0 where the name gives no such number."""

    family: Literal["wrn", "resnet", "cifar-resnet", "vgg", "vgg32", "mobilenetv2", "vit", "own", "timm", "open_clip"]
    depth: int = 0  # as the name counts it
    width: int = 0  # a WRN's widening factor, a ViT's channels
    patch: int = 0  # side of a ViT's patch in pixels


def parse_backbone(name: str) -> Backbone:
    """The network called `name`, in one of `FORMS`; `ValueError` where there is no such network. Of a `module:Class`,
    `trainables.settings.custom` tells more; of a library's, `trainables.settings.libraries`."""
    if of_library(name):
        return Backbone("timm" if name.startswith(TIMM) else "open_clip")
    if ":" in name:
        return Backbone("own")
    if match := re.fullmatch(r"wrn(\d+)-(\d+)", name):
        depth, width = int(match[1]), int(match[2])
        if depth < 10 or (depth - 4) % 6 or width < 1:
            raise ValueError(f"{name!r}: a WRN's depth is 6n+4 (10, 16, 22, 28, 34, 40, …) and its width at least 1")
        return Backbone("wrn", depth, width)
    if match := re.fullmatch(r"vit-(ti|s|b)([1-9]\d*)", name):
        return Backbone("vit", width=_VIT_WIDTH[match[1]], patch=int(match[2]))
    if name not in (*_FIXED, *_OF_CIFAR):
        raise ValueError(f"{name!r} is not a backbone{nearest(name, _EXAMPLES)}; write {FORMS}")
    if name == "vgg32":  # named after its images' size, not its depth
        return Backbone("vgg32")
    if name == "mobilenetv2":
        return Backbone("mobilenetv2")
    if name.startswith("resnet"):
        depth = int(name.removeprefix("resnet"))
        return Backbone("cifar-resnet" if name in _OF_CIFAR else "resnet", depth)
    return Backbone("vgg", int(name.removeprefix("vgg")))


def stride(name: str, image_size: int) -> int:
    """How many px lie between two positions of the last map of backbone `name`: what its strides multiply to. The whole
    image where it shows no map."""
    backbone = parse_backbone(name)
    reduced = 8 if image_size <= SMALL_IMAGE else 32
    if backbone.family == "timm":
        return timm_network(name).stride or image_size
    sides = {
        "wrn": 4,
        "cifar-resnet": 4,
        "resnet": reduced,
        "vgg": 32,
        "vgg32": 8,
        "mobilenetv2": reduced,
        "vit": backbone.patch,
    }
    return sides.get(backbone.family, image_size)


def convolutional(name: str) -> bool:
    """Whether backbone `name` ends in maps of features, on which any objective's head can be put."""
    family = parse_backbone(name).family
    return timm_network(name).stride is not None if family == "timm" else family not in ("vit", "own", "open_clip")


def shows_maps(name: str) -> bool:
    """Whether backbone `name` shows what each position of an image is to it: a ViT does by its tokens."""
    return convolutional(name) or parse_backbone(name).family == "vit"


def one_size(name: str) -> bool:
    """Whether backbone `name` is made for images of one size."""
    family = parse_backbone(name).family
    return timm_network(name).one_size if family == "timm" else family in ("vit", "open_clip")


def map_side(name: str, image_size: int) -> int:
    """How many positions the last map of backbone `name` has along one side, for square images of `image_size` px.

    A strided convolution rounds up. What a VGG's pooling or a ViT's patches leave over would be lost: `ValueError`
    where their stride does not divide the image evenly, and where the name is no backbone's.
    """
    px = stride(name, image_size)
    if image_size % px and parse_backbone(name).family in ("vgg", "vit"):
        raise ValueError(f"{name!r} needs images whose side is a multiple of {px} px, not {image_size} px")
    return -(-image_size // px)
