"""The identity of a trial: a hash of what shapes its weights, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from trainables.protocols.custom import custom_protocol, is_custom_protocol
from trainables.protocols.protocols import stored_size
from trainables.settings.backbones import parse_backbone
from trainables.settings.config import TrialConfig
from trainables.settings.custom import custom_part, is_custom
from trainables.settings.given import find_weights, sha256
from trainables.settings.methods import METHODS, method_of
from trainables.settings.mixes import BackMixSettings
from trainables.settings.score_names import SCORING

# What only evaluation sees: trainings that are one may be asked for it differently.
EVALUATION = SCORING | {"evaluate", "test"}
# Beside it, what the hash has under another name.
_NOT_WEIGHTS = EVALUATION | {"objective", "mix", "objective_settings", "mix_settings", "teacher"}
_NOT_WEIGHTS |= {"protocol", "split_family", "split", "seed", "backbone", "flip", "weights"}

# What counts of a trial that evaluates weights as they are: what its network is, and how it sees images.
_OF_GIVEN = frozenset({"head", "train", "image_size", "normalisation", "precision"})

# Settings of every trial that count only where one of others has this value: elsewhere they change nothing.
_RANDAUGMENT = {"augment": "randaugment", "augment_first": "agc-randaugment"}
_ONLY_WITH: dict[str, dict[str, str]] = {
    "momentum": {"optimizer": "sgd"},
    "nesterov": {"optimizer": "sgd"},
    "milestones": {"schedule": "multistep"},
    "lr_factor": {"schedule": "multistep"},
    "restarts": {"schedule": "cosine"},
    "lr_floor": {"schedule": "cosine"},
    "randaugment_ops": _RANDAUGMENT,
    "randaugment_magnitude": _RANDAUGMENT,
}


def identity_of(config: TrialConfig, fingerprints: Mapping[str, str]) -> str:
    """16 hex digits, given the fingerprint of each of `config.shaped_by`; computed once."""
    shaping = tuple(fingerprints[name] for name in config.shaped_by)
    if shaping not in config.identities:
        config.identities[shaping] = _identity(config, fingerprints)
    return config.identities[shaping]


def _identity(config: TrialConfig, fingerprints: Mapping[str, str]) -> str:
    """The hash itself.

    Settings at their default stay out, so a new setting leaves old identities as they are. For the same reason a
    default must never change its meaning: raise a `version` instead.
    """
    method = method_of(config.objective, config.mix)
    given = config.train == "none"  # nothing that is done in training counts
    content = {
        "method": method or config.objective,
        "version": config.objective_settings.version + config.mix_settings.version - 1,  # either goes up, never down
        "learner": dict(_of_method(config, method)),
        "trial": dict(_of_trial(config)),
        "classes": config.known_classes,
        "flip": config.flips and not given,
        "backbone": config.backbone,
        "split": config.split,
        "seed": 0 if given else config.seed,
        "data": "" if given else fingerprints[config.training_images[0]],
    }
    if config.weights:
        content["weights"] = fingerprints[config.weights_file] if config.weights_file else config.weights
    if mended := list(_mended(config)):
        content["mended"] = mended
    custom = [custom_part(part) for part in (config.objective, config.mix, config.backbone) if is_custom(part)]
    if custom:
        content["source"] = [part.digest for part in custom]  # nobody can be relied on to raise its version
    if is_custom_protocol(config.protocol):  # its file may change what its unknown set is called, and its images' size
        custom_file = custom_protocol(config.protocol)
        content["own"] = [custom_file.unknown, repr(custom_file.layout), config.seen_size]
    if config.teacher:
        content["teacher"] = identity_of(config.teacher, fingerprints)
    if len(config.training_sets) > 1 and not given:
        content["outliers"] = fingerprints[config.training_images[1]]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mended(config: TrialConfig) -> Iterator[str]:
    """What this trial computes otherwise than once. Trials that compute all of it as ever keep their identity."""
    if isinstance(config.mix_settings, BackMixSettings) and stored_size(config.seen_size) > config.seen_size:
        yield "cut size of the seen image"  # and not of the stored one
    if config.precision == "bf16" and parse_backbone(config.backbone).family != "vit":
        yield "logits in float32"  # of class activation maps that are not rounded before they are averaged
    if config.objective == "arpl-cs" and parse_backbone(config.backbone).family == "timm":
        yield "norms of generated images"  # which had lost the activation that is part of some
    if parse_backbone(config.backbone).family == "vit" and (not config.weights or config.head == "new"):
        yield "head of a ViT"  # which began with 0


def weights_fingerprints(config: TrialConfig) -> dict[str, str]:
    """The sha256 of each file of weights that a trial, or its teacher, begins with. Raises `ConfigError` where one is
    missing. What a library knows by name is one file for ever: it has none."""
    configs = [config, *([config.teacher] if config.teacher else [])]
    return {file: sha256(find_weights(file)) for c in configs if (file := c.weights_file)}


def _of_method(config: TrialConfig, method: str | None) -> Iterator[tuple[str, Any]]:
    """Settings of the objective and of the mix that have an effect and are not at their default; and the mix itself,
    where neither the method nor the objective says it."""
    learnt, mix = config.objective_settings, config.mix_settings
    idle = learnt.idle(mix)
    if "mix_probability" not in idle:  # else every batch is mixed, whatever it says
        idle |= mix.idle()
    for name, default, value in (*_changed(learnt), *_changed(mix)):
        if name not in idle and value != learnt.defaults.get(name, default):
            yield name, value
    if config.mix != METHODS.get(method or "", {}).get("mix", learnt.defaults.get("mix", "none")):
        yield "mix", config.mix


def _of_trial(config: TrialConfig) -> Iterator[tuple[str, Any]]:
    """Settings of every trial that have an effect and are not at their default."""
    for name, default, value in _changed(config):
        if config.temperature_period is None and name in ("temperature_low", "temperature_high"):
            continue
        only_with = _ONLY_WITH.get(name, {})
        counts = not only_with or any(getattr(config, other) == wanted for other, wanted in only_with.items())
        counts = counts and (config.train != "none" or name in _OF_GIVEN)
        if counts and value != default:
            yield name, value


def _changed(settings: Any) -> Iterator[tuple[str, Any, Any]]:
    """What may shape the weights: name, default, value."""
    for name, default in _shaping(settings.__class__):
        yield name, default, getattr(settings, name)


@cache
def _shaping(settings: Any) -> list[tuple[str, Any]]:
    return [
        (f.name, f.default if f.default is not MISSING else None)
        for f in fields(settings)
        if f.name not in _NOT_WEIGHTS
    ]
