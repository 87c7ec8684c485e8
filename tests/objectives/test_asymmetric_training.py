"""The asymmetric distiller in training: its teacher stays as it was, and its projection learns with the student."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.references import (
    CPU,
)
from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.models import build_model
from trainables.objectives.asymmetric import Asymmetric
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer
from trainables.training.teacher import TeacherError, load_teacher


def data() -> TrialData:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(16) % 3
    source = ImageSet("noise", pixels, labels, np.arange(16), "noise", 0, "drawn here")
    return TrialData((0, 1, 2), 32, True, Samples(source, np.arange(16), labels))


def trainer(tmp_path: Path, **changes: object) -> Trainer:
    """A narrow student of a wide teacher, whose weights are drawn at random."""
    base = {"method": "asymmetric", "backbone": "wrn10-1", "teacher": {"backbone": "wrn10-2"}, "batch_size": 8}
    config = resolve({**base, "epochs": 2, "mix_probability": 1.0, **changes})
    torch.manual_seed(1)
    torch.save(build_model("wrn10-2", 3, 32).state_dict(), tmp_path / "teacher.pt")
    return Trainer(config, data(), CPU, tmp_path / "teacher.pt")


@pytest.mark.parametrize("recipe", ["paper", "official"])
def test_training_leaves_the_teacher_as_it_was(recipe: str, tmp_path: Path) -> None:
    t = trainer(tmp_path, recipe=recipe)
    frozen_teacher = t.objective.given.teacher
    assert frozen_teacher is not None
    before, start = copy.deepcopy(frozen_teacher.state_dict()), copy.deepcopy(t.model.state_dict())
    t.epoch()
    assert any(not torch.equal(start[name], value) for name, value in t.model.state_dict().items())
    after = frozen_teacher.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(module.training for module in frozen_teacher.modules())
    assert not any(p.requires_grad or p.grad is not None for p in frozen_teacher.parameters())


def test_the_teacher_has_the_weights_of_its_file(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    saved = torch.load(tmp_path / "teacher.pt", weights_only=True)
    loaded = t.objective.given.teacher
    assert loaded is not None
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    torch.save(build_model("wrn10-1", 3, 32).state_dict(), tmp_path / "narrow.pt")
    with pytest.raises(TeacherError, match=r"narrow\.pt does not hold the weights of wrn10-2"):
        load_teacher(t.config, data(), tmp_path / "narrow.pt", CPU)
    with pytest.raises(TeacherError, match="needs the weights of its teacher"):
        load_teacher(t.config, data(), None, CPU)


def test_features_of_a_wider_teacher_train_their_projection_beside_the_student(tmp_path: Path) -> None:
    t = trainer(tmp_path, cmi_on="features", distill_weight=0.0, relabel_weight=0.0)
    assert isinstance(t.objective, Asymmetric)
    assert t.objective.projection is not None
    weight = t.objective.projection.weight
    assert weight.shape == (128, 64)
    trained = [id(p) for group in t.optimizer.param_groups for p in group["params"]]
    assert all(trained.count(id(p)) == 1 for p in t.objective.parameters())
    before = weight.detach().clone()
    t.step(torch.arange(8))
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    assert not torch.equal(weight.detach(), before)


@pytest.mark.parametrize("backbone", ["wrn10-1", "vit-ti8"])
def test_a_student_that_begins_from_nothing_has_gradients_of_an_ordinary_size(backbone: str, tmp_path: Path) -> None:
    t = trainer(tmp_path, backbone=backbone)
    t.objective.loss(t.trained, torch.arange(8)).backward()
    norm = torch.stack([p.grad.norm() for p in t.model.parameters() if p.grad is not None]).norm()
    assert 0.1 < norm < 1000  # a head of equal logits made it 1e8
