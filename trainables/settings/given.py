"""Weights that others trained, which a trial begins with: how they are named, and what tells them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from trainables.reading.finding import from_here
from trainables.reading.yaml_file import ConfigError, Problem
from trainables.settings.backbones import parse_backbone
from trainables.settings.libraries import (
    OPEN_CLIP,
    TIMM,
    check_clip_weights,
    check_timm_weights,
    normalisation_of,
    of_library,
)

TORCHVISION = "torchvision:"
RANDOM = "random"  # towers of an image-text model as they are drawn, always the same: to try what is done with them
# What torchvision calls the networks of which it has weights, by what they are called here.
NETWORKS: Mapping[str, str] = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "vgg13": "vgg13_bn",
    "vgg16": "vgg16_bn",
    "vgg19": "vgg19_bn",
    "mobilenetv2": "mobilenet_v2",
    "vit-b16": "vit_b_16",
    "vit-b32": "vit_b_32",
}


def by_name(weights: str) -> bool:
    """Whether weights are named as a library knows them; else they are a file."""
    return weights == RANDOM or weights.startswith(TORCHVISION) or of_library(weights)


def check_name(weights: str, backbone: str) -> None:
    """Raises `ValueError` where a name that a library should know is none, or is that of another network."""
    if weights.startswith(TORCHVISION):
        _check_torchvision(weights, backbone)
    elif weights.startswith(TIMM):
        network = weights.partition(".")[0]
        same = parse_backbone(backbone).family == "resnet" and network == f"{TIMM}{backbone}"  # one layout
        if network != backbone and not same:
            raise ValueError(f"{weights!r} are of backbone {network}, not of {backbone}")
        check_timm_weights(weights)
    elif weights.startswith(OPEN_CLIP):
        if (network := weights.rpartition("/")[0]) != backbone:
            raise ValueError(f"{weights!r} are of backbone {network or f'{OPEN_CLIP}NAME'}, not of {backbone}")
        check_clip_weights(weights)


def check_normalisation(weights: str, normalisation: str) -> None:
    """Raises `ValueError` where a name that a library knows is that of weights which were trained otherwise."""
    if weights.startswith(TORCHVISION):
        theirs = "imagenet"
    elif of_library(weights):
        theirs = normalisation_of(weights)
    else:
        return
    if theirs not in (normalisation, ""):
        raise ValueError(f"{weights!r} were trained with {theirs}, and what is frozen expects that: write {theirs}")


def _check_torchvision(weights: str, backbone: str) -> None:
    network, _, entry = weights.removeprefix(TORCHVISION).partition("/")
    parse_backbone(backbone)
    theirs = NETWORKS.get(backbone)
    if theirs is None:
        raise ValueError(f"torchvision has no weights of {backbone}; it has of {', '.join(NETWORKS)}")
    if network != theirs or not entry:
        raise ValueError(f"{weights!r} is not {TORCHVISION}{theirs}/NAME, as IMAGENET1K_V1, the weights of {backbone}")


def find_weights(file: str) -> Path:
    """The file of weights. Raises `ConfigError` where there is none."""
    if path := from_here(file):
        return path
    said = f"there is no file {file}: name it by its path from here, or from / as every machine of a cluster sees it"
    raise ConfigError([Problem(("weights",), said)])


def sha256(path: Path) -> str:
    """Of a file's content, in hex; read once, until the file changes."""
    stat = path.stat()
    return _sha256(path.resolve(), stat.st_mtime_ns, stat.st_size)


@cache
def _sha256(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
