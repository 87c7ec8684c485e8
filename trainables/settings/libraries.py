"""Networks that libraries define, of the extra `pretrained`: `timm:resnet50`, `open_clip:ViT-B-32`.

The libraries are imported when a trial names them, and not before: that takes seconds, and they import torch.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trainables.reading.yaml_file import nearest

TIMM, OPEN_CLIP = "timm:", "open_clip:"
TINY = Path(__file__).with_name("tiny.json")  # a model of open_clip, small enough to try what is done with one
INSTALL = "uv sync --extra pretrained, or pip install 'osr-platform[pretrained]'"


def of_library(name: object) -> bool:
    """Whether a backbone, or its weights, are named after a library's network."""
    return isinstance(name, str) and name.startswith((TIMM, OPEN_CLIP))


def library(name: str) -> Any:
    """The package that `name` begins with. Raises `ValueError` that says how to install it."""
    package = name.partition(":")[0]
    try:
        found = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ValueError(f"{name!r} takes the package {package}, which is not installed: {INSTALL}") from error
    if package == "open_clip" and TINY.stem not in found.list_models():
        found.add_model_config(TINY)
    return found


def check_network(name: str) -> None:
    """Raises `ValueError` where the library has no such network, or is not installed."""
    clip_config(name) if name.startswith(OPEN_CLIP) else timm_network(name)


@dataclass(frozen=True)
class TimmNetwork:
    """What timm says of a network without making it."""

    classifier: str  # its last layer among its modules
    stride: int | None  # px between two positions of its last map; None: it has no map
    one_size: bool  # it is made for images of one size


@cache
def timm_network(name: str) -> TimmNetwork:
    """What timm says of `timm:NAME`. Raises `ValueError` where it has none, and where a name of weights follows."""
    timm = library(name)
    network = name.removeprefix(TIMM)
    if "." in network:
        raise ValueError(f"{name!r} names weights too: write backbone: {name.partition('.')[0]}, and weights: {name}")
    if not timm.is_model(network):
        raise ValueError(f"timm has no network {network!r}{nearest(network, timm.list_models())}")
    config = timm.get_pretrained_cfg(network)
    stride = None
    if config.pool_size:  # 299 px to 10 positions: borders that are not padded take some
        stride = 2 ** round(math.log2(config.input_size[-1] / config.pool_size[-1]))
    classifier = config.classifier if isinstance(config.classifier, str) else config.classifier[0]
    return TimmNetwork(classifier, stride, config.fixed_input_size)


def check_timm_weights(weights: str) -> None:
    """Raises `ValueError` where `timm:NAME.TAG` names no weights that timm has."""
    network, _, tag = weights.removeprefix(TIMM).partition(".")
    timm_network(TIMM + network)
    known = [name.partition(".")[2] for name in library(TIMM).list_pretrained(f"{network}.*")]
    if tag not in known:
        has = f"write {TIMM}{network}.NAME, of {', '.join(known)}" if known else "it has none"
        raise ValueError(f"timm has no weights {tag!r} of {network}; {has}")


@cache
def clip_config(name: str) -> dict[str, Any]:
    """What open_clip says of its model `open_clip:NAME`: do not change it. Raises `ValueError` where it has none."""
    open_clip = library(name)
    network = name.removeprefix(OPEN_CLIP)
    known = open_clip.list_models()
    if network not in known:
        raise ValueError(f"open_clip has no model {network!r}{nearest(network, known)}: see open_clip.list_models()")
    config: dict[str, Any] = open_clip.get_model_config(network)
    return config


def image_text(name: str) -> bool:
    """Whether a backbone is a model of images and texts that is opened up here: one of open_clip's whose towers are
    transformers as CLIP's own, which end in an image's class token and in a text's last word."""
    if not name.startswith(OPEN_CLIP):
        return False
    config = clip_config(name)
    image, text = config["vision_cfg"], config["text_cfg"]
    usual = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
    usual_of_text = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
    known = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
    return (
        config.keys() <= known
        and image.keys() <= usual
        and text.keys() <= usual_of_text
        and isinstance(image["layers"], int)
    )


def clip_patches(name: str) -> int:
    """Patches along one side of an image in `open_clip:NAME`, whose image tower is a transformer."""
    image = clip_config(name)["vision_cfg"]
    side: int = image["image_size"] // image["patch_size"]
    return side


def check_clip_weights(weights: str) -> None:
    """Raises `ValueError` where `open_clip:NAME/TAG` names no weights, or such as compute something else."""
    network, _, tag = weights.removeprefix(OPEN_CLIP).rpartition("/")
    config = clip_config(OPEN_CLIP + network)
    known = library(OPEN_CLIP).list_pretrained_tags_by_model(network)
    if tag not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ValueError(f"open_clip has no weights {tag!r} of {network}; {has}")
    quick = library(OPEN_CLIP).get_pretrained_cfg(network, tag).get("quick_gelu", False)
    if quick != config.get("quick_gelu", False):  # open_clip warns, and goes on with wrong features
        other = f"{network}-quickgelu" if quick else network.removesuffix("-quickgelu")
        activation = "QuickGELU" if quick else "GELU"
        raise ValueError(f"{weights!r} were trained with {activation}: write {OPEN_CLIP}{other}, in backbone too")


# What images were normalised with, by the standard deviation of red, as `normalisation` calls it.
_BY_DEVIATION = {0.229: "imagenet", 0.26862954: "clip", 0.5: "unit", 1.0: "none"}


def normalisation_of(weights: str) -> str:
    """What a library's weights were trained with, as `normalisation` calls it; empty where that has no name for it."""
    if weights.startswith(TIMM):
        std = library(weights).get_pretrained_cfg(weights.removeprefix(TIMM)).std
    else:
        network, _, tag = weights.removeprefix(OPEN_CLIP).rpartition("/")
        std = library(weights).get_pretrained_cfg(network, tag)["std"]
    return _BY_DEVIATION.get(std[0], "")
