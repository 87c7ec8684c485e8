"""Networks that libraries define, of the extra `pretrained`: `timm:resnet50`, `open_clip:ViT-B-32`.

The libraries are imported when a trial names them, and not before: that takes seconds, and they import torch.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from trainables.reading.yaml_file import nearest

TIMM, OPEN_CLIP = "timm:", "open_clip:"
INSTALL = "uv sync --extra pretrained, or pip install 'osr-platform[pretrained]'"


def of_library(name: object) -> bool:
    """Whether a backbone, or its weights, are named after a library's network."""
    return isinstance(name, str) and name.startswith((TIMM, OPEN_CLIP))


def library(name: str) -> Any:
    """The package that `name` begins with. Raises `ValueError` that says how to install it."""
    package = name.partition(":")[0]
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ValueError(f"{name!r} takes the package {package}, which is not installed: {INSTALL}") from error


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
