"""PROSER beside references written from its formulas, in float64, and how its second stage begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import beta
from torch import nn

from tests.objectives.test_methods import CPU, noise, trial
from trainables.models import build_model
from trainables.models.dummies import proser_score
from trainables.models.output import ConvolutionalNetwork
from trainables.objectives.proser import Proser, changed, hidden_cross_entropy, rows
from trainables.reading.yaml_file import ConfigError
from trainables.training.loop import Trainer
from trainables.training.teacher import untrained_weights


def start(tmp_path: Path, **settings: object) -> Trainer:
    config, data = trial("proser", backbone="wrn10-1", batch_size=8, **settings), noise(8)
    return Trainer(config, data, CPU, untrained_weights(config, data, tmp_path))


def test_the_score_is_the_best_known_probability_less_that_of_the_largest_dummy() -> None:
    rng = np.random.default_rng(0)
    known, dummies = rng.normal(0, 9, (50, 4)), rng.normal(0, 9, (50, 3))
    p = softmax(np.hstack([known, dummies.max(axis=1, keepdims=True)]) / 1024, axis=1)
    found = proser_score(torch.from_numpy(known), torch.from_numpy(dummies))
    np.testing.assert_allclose(found.numpy(), p[:, :-1].max(axis=1) - p[:, -1], rtol=1e-9)


def test_the_hidden_class_is_left_out_and_the_largest_dummy_is_the_answer() -> None:
    rng = np.random.default_rng(1)
    known, dummies, labels = rng.normal(0, 3, (20, 4)), rng.normal(0, 3, (20, 2)), rng.integers(0, 4, 20)
    wide = np.hstack([known, dummies.max(axis=1, keepdims=True)])
    wide[np.arange(20), labels] = -1e9  # as the code has it
    found = hidden_cross_entropy(*(torch.from_numpy(a) for a in (known, dummies, labels)))
    np.testing.assert_allclose(found.numpy(), -log_softmax(wide, axis=1)[:, -1], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_logits_give_finite_losses_gradients_and_scores(dtype: torch.dtype) -> None:
    known = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], dtype=dtype, requires_grad=True)
    dummies = torch.tensor([[1e4], [-1e4]], dtype=dtype, requires_grad=True)
    loss = hidden_cross_entropy(known, dummies, torch.tensor([0, 1])).sum()
    loss.backward()
    assert loss.isfinite()
    assert known.grad is not None
    assert known.grad.isfinite().all()
    assert proser_score(known, dummies).isfinite().all()


def test_the_loss_is_its_formula_with_features_mixed_after_the_second_group(tmp_path: Path) -> None:
    trainer = start(tmp_path, dummies=2, manifold_weight=2.0, hidden_weight=0.3, manifold_alpha=50.0)
    model, objective = trainer.model, trainer.objective
    assert isinstance(objective, Proser)
    assert isinstance(model, ConvolutionalNetwork)
    ids, state = torch.arange(8), (trainer.generator.get_state(), trainer.host.get_state())
    found = objective.loss(model, ids).item()
    trainer.generator.set_state(state[0])
    trainer.host.set_state(state[1])
    batch = objective.mix.batch(ids)
    partners = torch.randperm(4, generator=trainer.generator)
    lam = beta.ppf(torch.rand(1, generator=trainer.host, dtype=torch.float64).item(), 50, 50)
    assert 0.3 < lam < 0.7  # so that both images of a pair count
    groups = list(model.groups)  # type: ignore[arg-type]
    with torch.no_grad():
        middle = nn.Sequential(model.stem, *groups[:2])(batch.images_BCHW[:4])  # type: ignore[arg-type]
        late = groups[2](lam * middle + (1 - lam) * middle[partners])
        mixed = model.head(torch.relu(model.bn(late)))  # type: ignore[operator]
        seen = model(batch.images_BCHW[4:])
    wide_mixed, wide = (np.hstack([o.logits_BK, o.more["dummies"]]).astype(np.float64) for o in (mixed, seen))
    labels = batch.labels_B[4:].numpy()
    hidden = np.hstack([wide[:, :3], wide[:, 3:].max(axis=1, keepdims=True)])
    hidden[np.arange(4), labels] = -1e9
    expected = -2.0 * log_softmax(wide_mixed, axis=1)[:, 3].mean()
    expected -= log_softmax(wide, axis=1)[np.arange(4), labels].mean()
    expected -= 0.3 * log_softmax(hidden, axis=1)[:, -1].mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_the_hidden_class_divides_logits_by_the_temperature_of_the_epoch(tmp_path: Path) -> None:
    wave = {"temperature_period": 4, "temperature_low": 0.25}
    trainer = start(tmp_path, dummies=2, manifold_weight=0, known_weight=0, **wave)
    trainer.epoch()  # the first, in which the wave is low
    ids, state = torch.arange(8), trainer.generator.get_state()
    found = trainer.objective.loss(trainer.model, ids).item()
    trainer.generator.set_state(state)
    batch = trainer.mix.batch(ids)
    with torch.no_grad():
        seen = trainer.model(batch.images_BCHW[4:])
    known, dummies = (of.numpy().astype(np.float64) / 0.25 for of in (seen.logits_BK, seen.more["dummies"]))
    wide = np.hstack([known, dummies.max(axis=1, keepdims=True)])
    wide[np.arange(4), batch.labels_B[4:].numpy()] = -1e9
    assert found == pytest.approx(-log_softmax(wide, axis=1)[:, -1].mean(), rel=1e-5)


def test_a_mix_that_gives_probabilities_for_labels_is_refused(tmp_path: Path) -> None:
    batch = start(tmp_path).objective.mix.batch(torch.arange(4))
    assert rows(batch, slice(None, 2)).labels_B.tolist() == batch.labels_B[:2].tolist()
    with pytest.raises(ValueError, match="needs a mix that gives each one label"):
        rows(batch._replace(targets_BK=torch.full((4, 3), 1 / 3)), slice(None, 2))


def test_the_second_stage_begins_with_the_weights_of_the_first(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    first, own = torch.load(tmp_path / "untrained.pt", weights_only=True), trainer.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in first.items())
    assert own.keys() - first.keys() == {"head.dummy_weight_DC", "head.dummy_bias_D"}
    assert trainer.objective.given.teacher is None


@pytest.mark.parametrize(
    ("teacher", "message"),
    [({"backbone": "wrn16-1"}, "both are of one backbone"), ({"method": "cssr"}, "goes on from a linear head")],
)
def test_a_first_stage_that_cannot_be_gone_on_from_is_refused(teacher: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trial("proser", backbone="wrn10-1", teacher=teacher)


@pytest.mark.parametrize(
    ("backbone", "shape"),
    [
        ("wrn10-1", (32, 16, 16)),
        ("resnet18", (128, 16, 16)),
        ("resnet20", (32, 16, 16)),
        ("vgg13", (128, 8, 8)),
        ("vgg32", (128, 8, 8)),
        ("mobilenetv2", (32, 16, 16)),
    ],
)
def test_the_middle_of_a_network_is_after_its_second_group(backbone: str, shape: tuple[int, ...]) -> None:
    model, seen = build_model(backbone, 3, 32).eval(), []
    assert isinstance(model, ConvolutionalNetwork)
    with changed(model.middle, lambda middle: seen.append(middle.shape) or middle), torch.no_grad():
        model(torch.zeros(2, 3, 32, 32))
    assert seen == [(2, *shape)]
