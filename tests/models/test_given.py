"""Networks that others trained: read from every common layout, refused where they are not what they should be."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from tests.helpers.paths import SHARED
from trainables.data.trial_data import build
from trainables.evaluating import evaluate_given, misordered
from trainables.models.given import load_given
from trainables.objectives import network_of
from trainables.one_trial import Trial, run_trial
from trainables.reading.yaml_file import ConfigError
from trainables.scoring.evaluation import score_samples
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of, weights_fingerprints
from trainables.settings.resolving import resolve
from trainables.storage.folder import Folder
from trainables.storage.weights import WeightsError
from trainables.training.checkpoint import Checkpoints
from trainables.training.loop import Trainer

CPU = torch.device("cpu")
PUBLISHED = SHARED / "weights"
AGC = {"protocol": "tiny-imagenet", "split_family": "agc", "backbone": "vgg32", "normalisation": "cifar10"}
ACCURACY = {0: 0.851, 1: 0.812, 2: 0.825, 3: 0.821, 4: 0.899}  # of their 1,000 known images each
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published weights are not on this machine")


def given(weights: Path | str, **settings: Any) -> TrialConfig:
    return resolve({"method": "plain", "weights": str(weights), "train": "none", **settings})


# Published networks


@needs_published
@pytest.mark.shared_cache
def test_a_published_network_has_the_accuracy_that_its_authors_measured(tmp_path: Path) -> None:
    config = given(PUBLISHED / "agc_tinyimagenet_{split}.pth", split=4, evaluate=[], **AGC)
    metrics = evaluate_given(config, build(config, SHARED), CPU, tmp_path)
    assert metrics["test/accuracy"] == ACCURACY[4]


@pytest.mark.slow
@needs_published
@pytest.mark.shared_cache
def test_the_five_published_networks_have_the_accuracy_and_auroc_that_their_authors_say(tmp_path: Path) -> None:
    config = given(PUBLISHED / "agc_tinyimagenet_{split}.pth", score="mls", **AGC)
    found = [evaluate_given(c, build(c, SHARED), CPU, tmp_path) for c in (config.at(split, 0) for split in range(5))]
    assert {split: metrics["test/accuracy"] for split, metrics in enumerate(found)} == ACCURACY
    assert np.mean(list(ACCURACY.values())) == pytest.approx(0.842, abs=5e-4)
    assert np.mean([metrics["test/auroc"] for metrics in found]) == pytest.approx(0.830, abs=0.003)


@needs_published
@pytest.mark.shared_cache
@pytest.mark.parametrize(("name", "right"), [("resnet20-12fca82f", 274), ("resnet56-4bfd9763", 282)])
def test_a_published_residual_network_of_cifar_knows_its_ten_classes(name: str, right: int) -> None:
    settings = {"protocol": "cifar10", "split_family": "full", "backbone": name.partition("-")[0], "evaluate": []}
    config = given(PUBLISHED / f"{name}.th", normalisation="imagenet", **settings)
    model = network_of(config, 10, 32)
    load_given(model, config, range(10))
    known = build(config, SHARED).test["known"]
    few = replace(known, rows=known.rows[:300], labels=known.labels[:300])
    found = score_samples(model, "test", {"known": few}, CPU, "fp32")
    assert (found["prediction"] == found["label"]).sum() == right


# Layouts


def theirs(name: str) -> nn.Module:
    torch.manual_seed(3)
    if name == "vit-ti16":
        return torchvision.models.VisionTransformer(96, 16, 12, 3, 192, 768, num_classes=5)
    return torchvision.models.get_model({"mobilenetv2": "mobilenet_v2"}.get(name, name), num_classes=5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2", "vit-ti16"])
def test_a_network_in_torchvisions_layout_says_what_torchvisions_says(name: str, tmp_path: Path) -> None:
    network = theirs(name).eval()
    torch.save(network.state_dict(), tmp_path / "theirs.pt")
    config = given(tmp_path / "theirs.pt", backbone=name, image_size=96)
    ours = network_of(config, 5, 96)
    load_given(ours, config, range(5))
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images).logits_BK, network(images), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def small() -> tuple[TrialConfig, dict[str, torch.Tensor]]:
    """A network of six classes, and its state dict."""
    torch.manual_seed(5)
    config = resolve({"method": "plain", "backbone": "wrn10-1"})
    return config, network_of(config, 6, 32).state_dict()


WRAPPED: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "as it is": lambda state: state,
    "of DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "beside an epoch": lambda state: {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}},
    "in half precision": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_state_dict_is_found_in_what_it_is_wrapped_in(name: str, small: Any, tmp_path: Path) -> None:
    _, state = small
    torch.save(WRAPPED[name](state), tmp_path / "wrapped.pt")
    config = given(tmp_path / "wrapped.pt", backbone="wrn10-1")
    model = network_of(config, 6, 32)
    load_given(model, config, range(6))
    tolerance = 1e-3 if name == "in half precision" else 0
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=tolerance, atol=tolerance)


def test_a_head_sorted_by_class_id_is_put_in_the_splits_order(small: Any, tmp_path: Path) -> None:
    _, state = small
    torch.save(state, tmp_path / "sorted.pt")
    config = given(tmp_path / "sorted.pt", backbone="wrn10-1", head="sorted")
    model = network_of(config, 6, 32)
    load_given(model, config, [7, 2, 9, 0, 4, 1])
    assert torch.equal(model.state_dict()["head.weight"], state["head.weight"][[4, 2, 5, 0, 3, 1]])
    assert torch.equal(model.state_dict()["head.bias"], state["head.bias"][[4, 2, 5, 0, 3, 1]])


def test_a_new_head_is_drawn_and_the_rest_is_given(small: Any, tmp_path: Path) -> None:
    _, state = small
    torch.save(state, tmp_path / "six.pt")
    config = given(tmp_path / "six.pt", backbone="wrn10-1", head="new", train="all")
    model = network_of(config, 4, 32)
    drawn = model.state_dict()["head.weight"].clone()
    load_given(model, config, range(4))
    assert torch.equal(model.state_dict()["head.weight"], drawn)
    assert torch.equal(model.state_dict()["stem.weight"], state["stem.weight"])


# What is no network of the trial's


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code of a file has run",))


def without(state: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if k != key}


WRONG: dict[str, tuple[Callable[[dict[str, torch.Tensor], Path], object], str]] = {
    "code": (lambda s, p: torch.save({"state_dict": s, "hook": Harmful()}, p), "holds something else than tensors"),
    "a pickle": (lambda s, p: p.write_bytes(pickle.dumps(Harmful())), "holds something else than tensors"),
    "no tensors": (lambda s, p: torch.save([1, 2], p), "holds no state dict"),
    "a text": (lambda s, p: p.write_text("weights"), "holds something else than tensors, or is damaged"),
    "another layout": (
        lambda s, p: torch.save(theirs("resnet18").state_dict(), p),
        r"missing stem.weight, .* and \d+ more; left over conv1.weight, .* and \d+ more",
    ),
    "a part": (lambda s, p: torch.save(without(s, "stem.weight"), p), "missing stem.weight$"),
    "more": (lambda s, p: torch.save({**s, "extra": s["head.bias"]}, p), "left over extra$"),
    "other classes": (
        lambda s, p: torch.save({**s, "head.weight": s["head.weight"][:4], "head.bias": s["head.bias"][:4]}, p),
        r"head.weight \(4 x 64 x 1 x 1, not 6 x 64 x 1 x 1\).*its head is not of 6 classes: `head: new`",
    ),
    "not finite": (
        lambda s, p: torch.save({**s, "head.bias": s["head.bias"] / 0}, p),
        "has values that are not finite",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_clear_error(
    name: str, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, said = WRONG[name]
    write(small[1], tmp_path / "wrong.pt")
    config = given(tmp_path / "wrong.pt", backbone="wrn10-1")
    with pytest.raises(WeightsError, match=said) as caught:
        load_given(network_of(config, 6, 32), config, range(6))
    assert "\n" not in str(caught.value)
    assert "wrong.pt" in str(caught.value)
    assert "code of a file has run" not in capsys.readouterr().out


def test_a_truncated_file_is_refused(small: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    torch.save(small[1], path)
    path.write_bytes(path.read_bytes()[:-3000])
    config = given(path, backbone="wrn10-1")
    with pytest.raises(WeightsError, match=r"cut.pt is no file of weights, or is damaged"):
        load_given(network_of(config, 6, 32), config, range(6))


def test_a_name_that_torchvision_lacks_is_told_with_those_that_it_has() -> None:
    config = given("torchvision:resnet18/IMAGENET", backbone="resnet18", image_size=96, normalisation="imagenet")
    with pytest.raises(WeightsError, match="torchvision has no IMAGENET of resnet18; it has IMAGENET1K_V1"):
        load_given(network_of(config, 6, 96), config, range(6))


def test_a_head_of_another_order_is_told_by_what_it_says_of_known_images() -> None:
    labels = np.repeat(np.arange(4), 25)
    places = np.array([2, 0, 3, 1])  # class 0 is said at place 2
    assert misordered(labels, places[labels], 4) == [1, 3, 0, 2]
    assert misordered(labels, labels, 4) == []
    assert misordered(labels, np.random.default_rng(0).integers(0, 4, 100), 4) == []  # a network that knows nothing


# What is trained of them, and what they are called by


def state_of(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "weights.pt", weights_only=True)


def test_a_frozen_backbone_is_bit_equal_after_training_and_its_head_is_not(small: Any, tmp_path: Path) -> None:
    torch.save(small[1], tmp_path / "six.pt")
    settings = {"backbone": "wrn10-1", "epochs": 2, "images_per_class": 30, "test": False}
    config = given(tmp_path / "six.pt", train="head", **settings)
    data = build(config, Path())
    list(run_trial(config, data, CPU, tmp_path / "whole"))
    trained = state_of(tmp_path / "whole")
    assert {key for key, value in trained.items() if not torch.equal(value, small[1][key])} == {
        "head.weight",
        "head.bias",
    }
    kept = Checkpoints(Folder.at(tmp_path / "kept"))
    next(Trial(config, data, CPU, checkpoints=kept).reports(tmp_path / "resumed"))
    again = Trial(config, data, CPU, checkpoints=kept)
    assert again.resumed_epoch == 1
    list(again.reports(tmp_path / "resumed"))
    assert all(torch.equal(value, trained[key]) for key, value in state_of(tmp_path / "resumed").items())


def test_fine_tuning_begins_with_the_weights_that_are_given(small: Any, tmp_path: Path) -> None:
    torch.save(small[1], tmp_path / "six.pt")
    settings = {"backbone": "wrn10-1", "epochs": 1, "lr": 1e-12, "weight_decay": 0, "images_per_class": 5}
    config = given(tmp_path / "six.pt", train="all", **settings, test=False)
    list(run_trial(config, build(config, Path()), CPU, tmp_path))
    learnt = [key for key in small[1] if "running" not in key and "num_batches" not in key]
    for key in learnt:
        torch.testing.assert_close(state_of(tmp_path)[key], small[1][key], rtol=0, atol=1e-8)


def test_the_content_of_a_file_makes_the_identity_and_not_its_name(small: Any, tmp_path: Path) -> None:
    torch.save(small[1], tmp_path / "one.pt")
    (tmp_path / "copy.pt").write_bytes((tmp_path / "one.pt").read_bytes())
    torch.save(without(small[1], "head.bias"), tmp_path / "other.pt")

    def identity(name: str, **settings: Any) -> str:
        config = given(tmp_path / name, **settings)
        return identity_of(config, {"digits": "fingerprint", **weights_fingerprints(config)})

    assert identity("one.pt") == identity("copy.pt") != identity("other.pt")
    assert identity("one.pt", train="all") != identity("one.pt", train="head") != identity("one.pt")
    assert identity("one.pt", train="all") != identity_of(resolve({"method": "plain"}), {"digits": "fingerprint"})


def test_nothing_of_training_is_in_the_identity_of_weights_that_are_evaluated_as_they_are() -> None:
    base, *others = (
        identity_of(given("net_{split}.pt", **settings), {"net_0.pt": "digest"})
        for settings in ({}, {"epochs": 3}, {"lr": 0.5, "batch_size": 7}, {"seed": 4}, {"flip": True}, {"score": "mls"})
    )
    assert set(others) == {base}
    assert identity_of(given("net_{split}.pt", normalisation="cifar10"), {"net_0.pt": "digest"}) != base


def test_a_missing_file_is_told_with_where_it_was_looked_for() -> None:
    with pytest.raises(ConfigError, match=r"weights: there is no file nowhere.pt: name it by its path from here"):
        weights_fingerprints(given("nowhere.pt"))


@pytest.mark.parametrize("fitted", ["mahalanobis", "knn"])
def test_what_is_evaluated_as_it_is_needs_no_training_images_but_for_a_score_that_is_fitted(fitted: str) -> None:
    digits = given("net.pt", backbone="wrn10-1")
    assert len(build(digits, Path()).train) == 0
    assert build(digits, Path()).fingerprints == {}
    asked = given("net.pt", backbone="wrn10-1", extra_scores=[fitted])
    assert len(build(asked, Path()).train) > 0


def test_a_teacher_may_be_given(small: Any, tmp_path: Path) -> None:
    torch.save(small[1], tmp_path / "six.pt")
    told = {"backbone": "wrn10-1", "weights": str(tmp_path / "six.pt"), "train": "none"}
    settings = {"backbone": "wrn10-1", "epochs": 1, "images_per_class": 10, "test": False}
    student = resolve({"method": "distill", "teacher": told, **settings})
    assert student.teacher is not None
    assert student.weights is None
    evaluate_given(student.teacher, build(student.teacher, Path()), CPU, tmp_path / "teacher")
    trainer = Trainer(student, build(student, Path()), CPU, tmp_path / "teacher" / "weights.pt")
    assert trainer.objective.given.teacher is not None
    assert torch.equal(trainer.objective.given.teacher.state_dict()["stem.weight"], small[1]["stem.weight"])
