"""CLIP, CoOp, LoCoOp, VPT and A2Pt: what they learn beside references, what stays as it was, and a trial of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax, softmax

from tests.helpers.clips import TINY, fitted
from tests.objectives.test_methods import CPU, noise
from trainables.data.trial_data import build
from trainables.evaluating import evaluate_again, evaluate_given
from trainables.models.image_text import ImageText
from trainables.objectives.locoop import entropy_elsewhere
from trainables.one_trial import run_trial
from trainables.protocols.class_names import class_names
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve
from trainables.storage.weights import WeightsError
from trainables.training.loop import Trainer

PROMPTED = ("coop", "locoop", "vpt", "a2pt")


def trial(method: str, **settings: Any) -> TrialConfig:
    return resolve({"method": method, **TINY, "batch_size": 4, "warmup_epochs": 0, "lr": 0.1, **settings})


def elsewhere(logits: np.ndarray, labels: np.ndarray, likeliest: int) -> float:
    """LoCoOp's entropy as its code has it, a patch at a time."""
    found = []
    for image, label in zip(logits, labels, strict=True):
        for patch in image:
            if label not in np.argsort(-patch)[:likeliest]:
                p = softmax(patch)
                found.append(-(p * np.log(p + 1e-5)).sum())
    return float(np.mean(found)) if found else 0.0


def test_locoops_entropy_is_of_the_patches_among_whose_likeliest_classes_the_label_is_not() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 4, (5, 9, 6)), rng.integers(0, 6, 5)
    for likeliest in (1, 2, 5):
        found = entropy_elsewhere(torch.from_numpy(logits).float(), torch.from_numpy(labels), likeliest)
        assert found.item() == pytest.approx(elsewhere(logits, labels, likeliest), rel=1e-5)
    assert entropy_elsewhere(torch.from_numpy(logits), torch.from_numpy(labels), 6).item() == 0


def test_locoops_loss_is_cross_entropy_less_the_weighted_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    config = trial("locoop", local_weight=0.5, likeliest=0.34)
    trainer = Trainer(config, noise(8), CPU)
    seen: list[Any] = []
    trainer.model.register_forward_hook(lambda _, inputs, output: seen.append(output))
    found = trainer.objective.loss(trainer.model, torch.arange(4)).item()
    (output,) = seen
    logits, labels = output.logits_BK.detach().double().numpy(), np.arange(4) % 3
    local = output.more["local_BNK"].detach().double().numpy() / 0.07  # open_clip's initial scale
    expected = -log_softmax(logits, axis=1)[np.arange(4), labels].mean() - 0.5 * elsewhere(local, labels, 1)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mix", ["none", "backmix"])
@pytest.mark.parametrize("method", PROMPTED)
def test_training_moves_the_prompts_alone(method: str, mix: str) -> None:
    trainer = Trainer(trial(method, mix=mix), noise(8), CPU)
    assert isinstance(trainer.model, ImageText)
    towers = {name: value.clone() for name, value in trainer.model.towers.state_dict().items()}
    learnt = [p.clone() for p in trainer.model.head.parameters()]
    trainer.epoch()
    assert all(p.grad is None for p in trainer.model.towers.parameters())
    assert all(torch.equal(value, towers[name]) for name, value in trainer.model.towers.state_dict().items())
    assert all(not torch.equal(a, b) for a, b in zip(trainer.model.head.parameters(), learnt, strict=True))


def test_backmix_trains_on_images_mixed_and_as_they_are() -> None:
    losses = {}
    for raw_too in (True, False):
        trainer = Trainer(trial("coop", mix="backmix", raw_too=raw_too), noise(8), CPU)
        seen: list[Any] = []
        trainer.model.register_forward_hook(lambda _, inputs, output, seen=seen: seen.append((inputs[0], output)))
        losses[raw_too] = trainer.objective.loss(trainer.model, torch.arange(4)).item()
        ((images, output),) = seen
        assert len(images) == (8 if raw_too else 4)
        logits = output.logits_BK.detach().double().numpy()
        labels = np.arange(len(images)) % 4 % 3
        expected = -log_softmax(logits, axis=1)[np.arange(len(images)), labels].mean()
        assert losses[raw_too] == pytest.approx(expected, rel=1e-5)
    assert losses[True] != losses[False]


@pytest.mark.parametrize("cam_from", ["mixed", "raw"])
@pytest.mark.parametrize("method", PROMPTED)
def test_backmix_finds_a_foreground_by_gradient_and_attention(method: str, cam_from: str) -> None:
    trainer = Trainer(trial(method, mix="backmix", cam_from=cam_from, bank_decay=1.0), noise(8), CPU)
    bank = trainer.mix.bank_Nhw  # type: ignore[attr-defined]
    assert bank.shape == (8, 4, 4)
    trainer.step(torch.arange(4))
    assert bank[:4].std(dim=(1, 2)).min() > 0.05
    assert bool((bank[4:] == 0.5).all())


def test_shots_are_drawn_by_the_seed() -> None:
    def rows(seed: int) -> list[int]:
        config = trial("coop", images_per_class=1, seed=seed, test=False, holdout=0.0)
        samples = build(config, Path("no data needed")).train
        assert sorted(samples.labels.tolist()) == list(range(6))
        return samples.rows.tolist()

    assert rows(0) == rows(0) != rows(1)


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"method": "coop", "backbone": "wrn10-1"}, "takes? a CLIP whose towers are transformers"),
    ({"method": "coop", "backbone": "open_clip:RN50"}, "take a CLIP whose towers are transformers"),
    ({"method": "coop", "weights": None}, "name their weights, or write random to try it out"),
    ({"method": "coop", "train": "all"}, "its towers are frozen: write train: head"),
    ({"method": "clip", "train": "head"}, "its towers are frozen: write train: none"),
    ({"method": "clip", "templates": ["a photo"]}, "write {} once"),
    ({"method": "clip", "protocol": "octmnist", "split_family": "full"}, "have no names here"),
    ({"method": "locoop", "mix": "cutmix"}, "take a mix with one label"),
    ({"method": "plain", "backbone": "wrn10-1"}, "random are towers of an image-text model"),
]


@pytest.mark.parametrize(("told", "message"), CONTRADICTIONS, ids=[m for _, m in CONTRADICTIONS])
def test_what_makes_no_sense_is_refused_with_what_to_write(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve({**TINY, **told})


def test_the_paper_s_model_is_what_a_method_has_where_nothing_is_said() -> None:
    config = resolve({"method": "locoop", "protocol": "cifar10", "split_family": "full"})
    assert (config.backbone, config.train, config.normalisation) == ("open_clip:ViT-B-16-quickgelu", "head", "clip")
    assert (config.score, config.epochs, config.lr, config.map_side) == ("mcm", 50, 0.002, 14)


def test_without_the_extra_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(ConfigError, match=r"open_clip, which is not installed: uv sync --extra pretrained"):
        resolve({"method": "coop", "backbone": "open_clip:a-model-that-nobody-asked-for"})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers that have learnt the known digits of the split, by its training images."""
    config = trial("coop", test=False)
    data = build(config, Path("no data needed"))
    names = class_names("digits")
    return fitted(data.train, [names[c] for c in data.classes], tmp_path_factory.mktemp("clip"))


def test_towers_that_know_digits_by_name_tell_them_and_unknown_ones(weights: Path, tmp_path: Path) -> None:
    config = trial("clip", weights=str(weights))
    metrics = evaluate_given(config, build(config, Path("no data needed")), CPU, tmp_path)
    assert metrics["test/accuracy"] > 0.8  # a sixth by chance
    assert metrics["test/auroc"] == metrics["test/digits/mcm/auroc"] > 0.6
    assert metrics["test/digits/msp/auroc"] != metrics["test/auroc"]
    assert torch.load(tmp_path / "weights.pt", weights_only=True).keys() == {"head.text_KE"}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("coop", {"mix": "none"}),
        ("locoop", {"mix": "backmix"}),
        ("vpt", {"mix": "none", "lr": 0.05}),
        ("a2pt", {"mix": "none", "lr": 0.002, "epochs": 6}),
    ],
)
def test_a_trial_writes_what_it_learnt_and_is_evaluated_again_to_the_same_scores(
    method: str, settings: dict[str, Any], weights: Path, tmp_path: Path
) -> None:
    config = trial(method, weights=str(weights), **{"epochs": 2, "images_per_class": 16, "batch_size": 16, **settings})
    data = build(config, Path("no data needed"))
    *_, last = run_trial(config, data, CPU, tmp_path / "first")
    assert last.metrics["test/accuracy"] > 0.35  # a sixth by chance
    kept = tmp_path / "first" / "weights.pt"
    assert all(name.startswith("head.") for name in torch.load(kept, weights_only=True))
    assert kept.stat().st_size < 100_000
    again = evaluate_again(config, data, CPU, tmp_path / "again", kept)
    assert again["test/auroc"] == last.metrics["test/auroc"]
    tables = [pd.read_parquet(tmp_path / name / "scores.parquet") for name in ("first", "again")]
    pd.testing.assert_frame_equal(*tables)
    assert set(config.objective_settings.own_scores) <= set(tables[0].columns)


def test_a_model_of_other_towers_is_refused_with_what_does_not_fit(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    del state["visual.proj"]
    torch.save(state, tmp_path / "half.pt")
    config = trial("clip", weights=str(tmp_path / "half.pt"))
    with pytest.raises(WeightsError, match=r"half.pt does not fit open_clip:tiny: missing visual.proj"):
        evaluate_given(config, build(config, Path("no data needed")), CPU, tmp_path)
