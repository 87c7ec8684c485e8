"""The identity of a trial: a hash of what shapes its weights, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from trainables.protocols.custom import is_own, own_protocol
from trainables.protocols.protocols import stored_size
from trainables.settings.backbones import parse_backbone
from trainables.settings.custom import custom_method, is_custom
from trainables.settings.methods import BackMixSettings

if TYPE_CHECKING:
    from trainables.settings.config import TrialConfig

# What only evaluation sees: trainings that are one may be asked for it differently.
EVALUATION = frozenset({"score", "extra_scores", "odin_temperature", "odin_epsilon", "evaluate", "test"})
# Beside it, what the hash has under another name.
_NOT_WEIGHTS = EVALUATION | {"method", "learner", "protocol", "split_family", "split", "seed", "backbone", "teacher"}
_NOT_WEIGHTS |= {"flip"}

# Settings that count only where one of others has such a value: elsewhere they change nothing.
_RANDAUGMENT: dict[str, tuple[str, ...]] = {"augment": ("randaugment",), "augment_first": ("agc-randaugment",)}
_ONLY_WITH: dict[str, dict[str, tuple[str, ...]]] = {
    "momentum": {"optimizer": ("sgd",)},
    "nesterov": {"optimizer": ("sgd",)},
    "milestones": {"schedule": ("multistep",)},
    "lr_factor": {"schedule": ("multistep",)},
    "restarts": {"schedule": ("cosine",)},
    "randaugment_ops": _RANDAUGMENT,
    "randaugment_magnitude": _RANDAUGMENT,
    "mix_probability": {"mix": ("cutout", "mixup", "cutmix", "decoupled-cutmix")},
    "mix_draw": {"mix": ("cutout", "mixup", "cutmix", "decoupled-cutmix")},
    "mix_alpha": {"mix": ("mixup", "cutmix", "decoupled-cutmix")},
    "cutout_size": {"mix": ("cutout",)},
    "decoupled_weight": {"mix": ("decoupled-cutmix",)},
}


def identity(config: TrialConfig, fingerprints: Mapping[str, str]) -> str:
    """16 hex digits, given the fingerprint of each of `config.training_images`.

    Settings at their default stay out, so a new setting leaves old identities as they are. For the same reason a
    default must never change its meaning: raise the learner's `version` instead.
    """
    content = {
        "method": config.method,
        "version": config.learner.version,
        "learner": dict(_changed(config.learner)),
        "trial": dict(_changed(config)),
        "classes": config.known_classes,
        "flip": config.flips,
        "backbone": config.backbone,
        "split": config.split,
        "seed": config.seed,
        "data": fingerprints[config.training_images[0]],
    }
    if mended := list(_mended(config)):
        content["mended"] = mended
    if is_custom(config.method):
        content["source"] = custom_method(config.method).digest  # nobody can be relied on to raise its version
    if is_own(config.protocol):  # its file may change what its unknown set is called by, and the size of its images
        own = own_protocol(config.protocol)
        content["own"] = [own.unknown, repr(own.layout), config.seen_size]
    if config.teacher:
        content["teacher"] = config.teacher.identity(fingerprints)
    if len(config.training_sets) > 1:
        content["outliers"] = fingerprints[config.training_images[1]]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mended(config: TrialConfig) -> Iterator[str]:
    """What this trial computes otherwise than once. Trials that compute all of it as ever keep their identity."""
    if isinstance(config.learner, BackMixSettings) and stored_size(config.seen_size) > config.seen_size:
        yield "cut size of the seen image"  # and not of the stored one
    if config.precision == "bf16" and parse_backbone(config.backbone).family != "vit":
        yield "logits in float32"  # of class activation maps that are not rounded before they are averaged


def _changed(settings: Any) -> Iterator[tuple[str, Any]]:
    """Settings that are not at their default, of those that shape the weights."""
    for name, default, only_with in _shaping(settings.__class__):
        value = getattr(settings, name)
        counts = not only_with or any(getattr(settings, other) in values for other, values in only_with.items())
        if counts and (default is MISSING or value != default):
            yield name, value


@cache
def _shaping(settings: Any) -> list[tuple[str, Any, dict[str, tuple[str, ...]]]]:
    """What shapes the weights: (name, default, the settings that it counts with and their values)."""
    only_with = {name: rule for name, rule in _ONLY_WITH.items() if all(hasattr(settings, other) for other in rule)}
    return [(f.name, f.default, only_with.get(f.name, {})) for f in fields(settings) if f.name not in _NOT_WEIGHTS]
