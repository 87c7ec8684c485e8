"""Identities that stay, so that finished trials are found, and those that had to change, because the trial did."""

from typing import Any

import pytest

from trainables.settings.identity import identity_of
from trainables.settings.mixes import MIXES
from trainables.settings.resolving import resolve

IMAGES = {"cifar10": "a", "imagenet30": "b"}
CIFAR = {"protocol": "cifar10", "split_family": "osrci"}
LARGE = {"protocol": "imagenet30", "split_family": "backmix"}


def identity(settings: dict[str, Any]) -> str:
    return identity_of(resolve(settings), IMAGES)


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"method": "backmix", **CIFAR}, "4f50d48490378e38"),
        ({"method": "plain", **LARGE}, "29fd318943cd6ed0"),
    ],
    ids=str,
)
def test_what_is_computed_as_ever_keeps_its_identity(settings: dict[str, Any], first: str) -> None:
    assert identity(settings) == first


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"method": "backmix", **LARGE}, "2b77717716be161c"),  # the box was drawn for the stored 256 px
        ({"method": "plain", **CIFAR, "precision": "bf16"}, "0c9654c6a762c289"),  # logits were means of rounded maps
        (
            {"method": "plain", **CIFAR, "precision": "bf16", "backbone": "vit-ti4"},
            "f012d33ddc1ff3bd",
        ),  # its head was 0
        (
            {"method": "arpl-cs", **CIFAR, "backbone": "timm:efficientnet_lite0"},
            "93b57fc8310ec600",
        ),  # norms of generated images had no activation
    ],
    ids=str,
)
def test_what_was_computed_otherwise_is_another_trial(settings: dict[str, Any], first: str) -> None:
    assert identity(settings) != first


@pytest.mark.parametrize(
    ("settings", "one", "other"),
    [
        ({"method": "teacher-free", "mix_probability": 0}, {"mix_alpha": 1}, {"mix_alpha": 0.1}),  # it always mixes
        ({"method": "cmpkd", "mix_probability": 0}, {"mix_alpha": 1}, {"mix_alpha": 0.1}),
        ({"method": "proser", "manifold_weight": 0}, {"manifold_alpha": 1}, {"manifold_alpha": 0.1}),  # statistics
    ],
    ids=str,
)
def test_what_still_shapes_the_weights_is_part_of_the_identity(
    settings: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert identity({**CIFAR, **settings, **one}) != identity({**CIFAR, **settings, **other})


def test_mathematics_of_a_mix_that_changed_is_another_trial_with_that_mix_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials = [{**CIFAR, "objective": objective, "mix": mix} for objective in ("ce", "cssr") for mix in MIXES]
    before = [identity(settings) for settings in trials]
    monkeypatch.setattr(MIXES["backmix"], "version", 2)
    changed = [t["mix"] for t, first in zip(trials, before, strict=True) if identity(t) != first]
    assert changed == ["backmix", "backmix"]


def test_a_temperature_of_logits_is_none_of_features() -> None:
    on_features = {"method": "asymmetric", **CIFAR, "distill_on": "features", "cmi_on": "features"}
    assert identity({**on_features, "temperature": 4}) == identity(on_features)
    assert identity({**on_features, "cmi_on": "logits", "temperature": 4}) != identity(
        {**on_features, "cmi_on": "logits"}
    )
