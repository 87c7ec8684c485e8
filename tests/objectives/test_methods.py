"""Every method: a step on every family of backbones, and a toy that each of them must solve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.clips import TINY
from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.protocols.protocols import UNKNOWN
from trainables.reading.yaml_file import ConfigError
from trainables.scoring.evaluation import fit_head, score_samples
from trainables.scoring.measured import metrics_of
from trainables.settings.config import TrialConfig
from trainables.settings.methods import METHODS
from trainables.settings.mixes import MIXES
from trainables.settings.objectives import OBJECTIVES
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer
from trainables.training.teacher import untrained_weights

CPU = torch.device("cpu")
BACKBONES = ("wrn10-1", "resnet18", "vgg13", "vgg32", "mobilenetv2", "vit-ti8")
REFUSED = {("backmix", "vgg13"): "as one position", ("catimg", "vit-ti8"): "a ViT has one image size"}
IMAGE_TEXT = [method for method, parts in METHODS.items() if OBJECTIVES[parts["objective"]].image_text]
OWN_HEAD = [method for method, parts in METHODS.items() if OBJECTIVES[parts["objective"]].own_head]
REFUSED |= {(method, "vit-ti8"): "a ViT's head is linear" for method in OWN_HEAD}
REFUSED |= {(m, b): "opens up a model of images and texts, and this is none" for m in IMAGE_TEXT for b in BACKBONES}


def trial(method: str, **settings: object) -> TrialConfig:
    return resolve({"method": method, "split": 1, **settings})


def samples(pixels: np.ndarray, labels: np.ndarray) -> Samples:
    rows = np.arange(len(labels))
    return Samples(ImageSet("drawn", pixels, labels, rows, "drawn", 0, "drawn here"), rows, labels)


def noise(count: int) -> TrialData:
    known, outliers = np.random.default_rng(0).integers(0, 256, (2, count, 32, 32, 3), dtype=np.uint8)
    unlabelled = samples(outliers, np.full(count, UNKNOWN))
    return TrialData((0, 1, 2), 32, True, samples(known, np.arange(count) % 3), outliers=unlabelled)


def refusal(method: str, backbone: str) -> str | None:
    """Why the settings are a mistake, None where they are not."""
    try:
        trial(method, backbone=backbone)
    except ConfigError as error:
        return "; ".join(problem.message for problem in error.problems)
    return None


def test_all_methods_take_all_backbones_but_for_a_few_pairs() -> None:
    answers = {(m, b): refusal(m, b) for m in METHODS for b in BACKBONES}
    refused = {pair: reason for pair, reason in answers.items() if reason}
    assert refused.keys() == REFUSED.keys()
    assert all(REFUSED[pair] in reason for pair, reason in refused.items())


PAIRS = [(m, b) for m in METHODS for b in BACKBONES if (m, b) not in REFUSED]

# An objective that is about mixed images needs a mix that has raw ones too, or two labels.
BOTH = "compares mixed images with the raw ones that they are made of"
TWO = "compares a mix with the two images that it is made of"
ONE_LABEL = "hides the one class that an image is of"
RAW_AND_MIXED = "distils on raw images and on mixes of them"
SENSELESS = {
    ("asymmetric", "none"): BOTH,
    ("asymmetric", "backmix"): BOTH,
    **{("proser", mix): ONE_LABEL for mix in ("mixup", "cutmix", "decoupled-cutmix")},
    ("cmpkd", "none"): RAW_AND_MIXED,
    ("cmpkd", "backmix"): RAW_AND_MIXED,
    **{("clip", mix): "trains nothing" for mix in MIXES if mix != "none"},
    **{("locoop", mix): "take a mix with one label" for mix in ("mixup", "cutmix", "decoupled-cutmix")},
    ("teacher-free", "none"): TWO,
    ("teacher-free", "cutout"): TWO,
    ("teacher-free", "backmix"): TWO,
    ("catimg", "backmix"): "pictures of twice the height, whose maps fit no stored image",
}


def of_pair(objective: str, mix: str) -> TrialConfig:
    base = {"backbone": "wrn10-1", "batch_size": 4, "mix_probability": 1.0, "teacher": {"backbone": "wrn10-1"}}
    base |= {"gan_width": 8}
    if OBJECTIVES[objective].image_text:
        base |= TINY
    return resolve({**base, "objective": objective, "mix": mix, "split": 1})


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_takes_a_step_with_every_mix_or_says_why_not(objective: str, mix: str, tmp_path: Path) -> None:
    if reason := SENSELESS.get((objective, mix)):
        with pytest.raises(ConfigError, match=reason):
            of_pair(objective, mix)
        return
    config, data = of_pair(objective, mix), noise(4)
    if objective == "clip":  # which takes no step
        assert config.train == "none"
        return
    trainer = Trainer(config, data, CPU, untrained_weights(config, data, tmp_path))
    before = [p.detach().clone() for p in trainer.model.parameters()]
    assert torch.isfinite(trainer.step(torch.arange(4)))
    assert any(not torch.equal(a, b) for a, b in zip(trainer.model.parameters(), before, strict=True))


@pytest.mark.parametrize(("method", "backbone"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_a_step_has_a_finite_loss_and_changes_the_weights(method: str, backbone: str, tmp_path: Path) -> None:
    of_teacher = backbone if method == "proser" else "wrn10-1"
    small = {"batch_size": 4, "teacher": {"backbone": of_teacher}, "gan_width": 8}
    config = trial(method, backbone=backbone, mix_probability=1.0, **small)
    data = noise(4)
    trainer = Trainer(config, data, CPU, untrained_weights(config, data, tmp_path))
    before = [p.detach().clone() for p in trainer.model.parameters()]
    loss = trainer.step(torch.arange(4))
    assert torch.isfinite(loss)
    after = list(trainer.model.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))


# The toy: one square on a noisy background whose tint goes with the class in three of five training images and means
# nothing in the test. Known squares are red, green and blue, the unknown are mixtures of two of these; outliers are
# backgrounds without a square.
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
UNKNOWN_COLOURS = ((255, 255, 0), (0, 255, 255), (255, 0, 255))


def squares(seed: int, labels: np.ndarray, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Noise with a 16 px square of colour number `labels`, at a random place of a 4 px grid."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 160, (len(labels), 32, 32, 3), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        row, col = 4 * rng.integers(0, 5, 2)
        image[row : row + 16, col : col + 16] = colours[label]
    return pixels


def tinted(pixels: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """The background 40 brighter in channel number `tint`; squares are 0 or 255 and keep their colour."""
    lighter = np.eye(3, dtype=np.uint8)[tint][:, None, None] * np.uint8(40)
    background = ((pixels >= 90) & (pixels < 160)).all(axis=3, keepdims=True)
    return pixels + lighter * background


@pytest.fixture(scope="module")
def toy() -> TrialData:
    rng = np.random.default_rng(0)
    labels, test_labels, tint, test_tint = rng.integers(0, 3, (4, 300))
    spurious = np.where(rng.random(300) < 0.4, labels, tint)
    known = samples(tinted(squares(1, labels, COLOURS), spurious), labels)
    tested = samples(tinted(squares(2, test_labels, COLOURS), test_tint), test_labels)
    unlabelled = np.full(300, UNKNOWN)
    unknown = samples(tinted(squares(3, test_labels, UNKNOWN_COLOURS), test_tint), unlabelled)
    outliers = samples(tinted(rng.integers(90, 160, (300, 32, 32, 3), dtype=np.uint8), tint), unlabelled)
    return TrialData((0, 1, 2), 32, True, known, test={"known": tested, "unknown": unknown}, outliers=outliers)


FOR_THE_TOY: dict[str, dict[str, object]] = {
    "cssr": {"gamma": 0.4},  # an error is a sum over channels: WRN-10-1 has 64, and WRN-40-4 256
    # Distances are means over channels: small at first, and four epochs are few to change it.
    "gcpl": {"temperature": 0.02},
    "rpl": {"temperature": 0.02},
    "openmix": {"openmixup": 1, "opencutmix": 0, "epochs": 2},  # of four images for each known one
    "arpl-cs": {"gan_width": 8, "epochs": 2},  # of two passes each
}


def solve(toy: TrialData, method: str, teacher: Path | None = None) -> Trainer:
    base: dict[str, object] = {"backbone": "wrn10-1", "epochs": 4, "batch_size": 25, "cut_size": 0.1}
    config = trial(method, **{**base, **FOR_THE_TOY.get(method, {})})
    trainer = Trainer(config, toy, CPU, teacher)
    for _ in range(config.epochs):
        trainer.epoch()
    return trainer


def judge(toy: TrialData, trainer: Trainer) -> tuple[float, float]:
    """Accuracy among the known, and AUROC by the method's own score, in the test."""
    own, score = trainer.config.objective_settings.own_scores, trainer.config.score
    fit_head(trainer.model, toy.train, CPU, "fp32")
    table = score_samples(trainer.model, "test", toy.test, CPU, "fp32", own_scores=own)
    metrics = metrics_of(table, "test", 3, score)
    return metrics["test/accuracy"], metrics["test/auroc"]


@pytest.fixture(scope="module")
def teacher(toy: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "weights.pt"
    torch.save(solve(toy, "plain").model.state_dict(), path)
    return path


# Towers that nobody trained solve nothing: `test_prompts` has some that are.
@pytest.mark.parametrize("method", [method for method in METHODS if method not in IMAGE_TEXT])
def test_a_method_solves_the_toy(method: str, toy: TrialData, teacher: Path) -> None:
    accuracy, auroc = judge(toy, solve(toy, method, teacher))
    assert accuracy > 0.95
    assert auroc > 0.7  # CutMix has least: its mixes teach it to be unsure
