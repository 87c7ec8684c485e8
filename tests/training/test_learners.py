"""Mixes and objectives on images where one knows what they must find, and trials that must repeat to the last digit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.helpers.cifar10 import png, write_cifar10
from tests.helpers.squares import config, squares
from trainables.data.trial_data import TrialData, build
from trainables.mixes.backmix import BackMix
from trainables.one_trial import Report, run_trial
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer, advice

CPU = torch.device("cpu")


@pytest.mark.parametrize("cam_from", ["mixed", "raw"])
def test_the_bank_finds_the_object_in_the_stored_image(cam_from: str) -> None:
    torch.set_num_threads(2)
    data, positions = squares()
    trainer = Trainer(config(cam_from=cam_from, epochs=8, cut_size=0.1), data, CPU)
    for _ in range(8):
        trainer.epoch()
    assert isinstance(trainer.mix, BackMix)
    bank = trainer.mix.bank_Nhw.numpy()
    # Chance is 1/2. A map that were stored as seen, cropped and mirrored, would come near it.
    background = np.where(positions, np.nan, bank)
    outranked = [(bank[i][positions[i]][:, None] > background[i][~positions[i]]).mean() for i in range(len(bank))]
    assert np.mean(outranked) > 0.9


@pytest.mark.parametrize("method", ["plain", "backmix"])
def test_a_method_solves_the_squares(method: str) -> None:
    data, _ = squares()
    trainer = Trainer(config(method=method, cut_size=0.1), data, CPU)
    losses = [trainer.epoch() for _ in range(4)]
    assert losses[-1] < 0.35 < losses[0]


OPTIONS: list[dict[str, object]] = [
    {"recipe": "official"},
    {"background": "dataset"},
    {"background_class": "other"},
    {"bank_init": "random"},
    {"box_pair": "independent", "box_range": "inner"},
    {"bank_read": "normalise"},
    {"bank_refresh": "epoch"},
    {"augment_first": "agc-randaugment", "cam_from": "raw"},
    {"cut_size": 0.0},
    {"mask_ratio": 1.0, "cut_size": 1.0},
    {"precision": "bf16"},
    {"backbone": "vgg32"},
    {"backbone": "vit-ti8"},
    {"backbone": "vit-ti8", "cam_from": "raw", "precision": "bf16"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_trains_an_epoch(options: dict[str, object]) -> None:
    data, _ = squares(100)
    assert np.isfinite(Trainer(config(**options), data, CPU).epoch())


def test_the_official_recipe_is_a_bundle_that_single_settings_override() -> None:
    official = config(recipe="official", cut_size=0.1)
    assert official.mix_settings.cut_size == 0.1  # type: ignore[union-attr]
    assert official.mix_settings.ties == "first"  # type: ignore[union-attr]
    assert official.crop_fill == "black"


def test_without_a_box_backmix_is_plain() -> None:
    data, _ = squares(100)
    plain, backmix = (Trainer(config(**s), data, CPU) for s in ({"method": "plain"}, {"cut_size": 0.0}))
    assert plain.epoch() == backmix.epoch()


def reports(settings: dict[str, object], out: Path) -> list[Report]:
    torch.set_num_threads(2)
    base = {"protocol": "digits", "backbone": "wrn10-1", "epochs": 2, "batch_size": 64, "images_per_class": 40}
    resolved = resolve({**base, **settings})
    return list(run_trial(resolved, build(resolved, Path("no data needed")), CPU, out))


@pytest.mark.parametrize("method", ["plain", "backmix"])
def test_two_runs_of_a_trial_agree_to_the_last_digit(method: str, tmp_path: Path) -> None:
    first, second = (reports({"method": method, "holdout": 0.1}, tmp_path / name) for name in "ab")
    timeless = [{k: v for k, v in r.metrics.items() if "second" not in k} for r in first]
    again = [{k: v for k, v in r.metrics.items() if "second" not in k} for r in second]
    assert timeless == again
    for name in ("weights.pt", "scores.parquet", "config.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_seed_and_another_split_are_other_trainings(tmp_path: Path) -> None:
    loss = {
        (seed, split): reports({"method": "plain", "seed": seed, "split": split}, tmp_path)[-1].metrics["train/loss"]
        for seed, split in [(0, 0), (1, 0), (0, 1)]
    }
    assert len(set(loss.values())) == 3


def test_bf16_logits_are_pooled_in_float32(tmp_path: Path) -> None:
    reports({"method": "plain", "precision": "bf16", "epochs": 1}, tmp_path)
    scores = pd.read_parquet(tmp_path / "scores.parquet")["mls"]
    assert scores.nunique() > 0.95 * len(scores)


def test_a_loss_that_is_not_finite_stops_the_trial(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower lr"):
        reports({"method": "plain", "lr": 1e12}, tmp_path)


@pytest.mark.parametrize(
    ("settings", "advised"),
    [
        ({}, "a lower lr than 0.1"),
        ({"lr": 1e12}, "a lower lr than 1e+12"),
        ({"optimizer": "adam", "lr": 0.02, "momentum": 0.9999}, "a lower lr than 0.02"),
        ({"weight_decay": 1e10}, "a lower weight_decay than 1e+10"),
        ({"weight_decay": 1e10, "lr": 1e20}, "a lower lr than 1e+20"),
        ({"momentum": 0.9999}, "a lower momentum than 0.9999"),
        ({"method": "distill", "distill_weight": 1e9}, "a lower distill_weight than 1e+09"),
        ({"method": "distill", "temperature": 1e-9}, "a higher temperature than 1e-09"),
    ],
    ids=str,
)
def test_the_advice_fits_the_cause(settings: dict[str, object], advised: str) -> None:
    assert advice(config(**settings)) == f"try {advised}"


def test_a_weight_decay_that_lets_weights_grow_is_named(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"try a lower weight_decay than 1e\+10"):
        reports({"method": "plain", "weight_decay": 1e10}, tmp_path)


def opened(root: Path = Path("no data needed"), **settings: object) -> TrialData:
    return build(resolve({"method": "plain", "protocol": "digits", **settings}), root)


def test_trials_that_follow_each_other_share_their_images_and_the_copy_on_a_device() -> None:
    first = opened(lr=0.1)
    pool = first.train.on(CPU)
    second = opened(lr=0.2, seed=1, method="backmix")  # another seed divides nothing differently here
    assert second is first
    assert second.train.on(CPU) is pool


@pytest.mark.parametrize(
    "changes",
    [
        {"split": 1},
        {"holdout": 0.2},
        {"seed": 1},
        {"pseudo_unknown": 1, "holdout": 0.1, "test": False},
        {"images_per_class": 10},
        {"test": False},
        {"evaluate": ["digits"]},
    ],
    ids=str,
)
def test_a_trial_with_another_division_has_its_own(changes: dict[str, object]) -> None:
    one, other = opened(holdout=0.1), opened(**{"holdout": 0.1, **changes})
    same = changes == {"evaluate": ["digits"]}  # the protocol's own set, written out
    assert (one is other) is same


def test_a_process_keeps_the_last_two_divisions_only() -> None:
    first, second = opened(split=0), opened(split=1)
    assert opened(split=0) is first
    opened(split=2)
    assert opened(split=0) is first
    assert opened(split=1) is not second


def test_a_changed_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    settings = {"protocol": "cifar10", "split_family": "osrci"}
    write_cifar10(tmp_path)
    before = opened(tmp_path, **settings)
    assert opened(tmp_path, **settings) is before
    write_cifar10(tmp_path, ["train"], image=[png(200 + i) for i in range(20)])
    after = opened(tmp_path, **settings)
    assert after is not before
    assert after.fingerprints != before.fingerprints
