"""CMPKD beside references written from its formulas, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from tests.objectives.test_methods import CPU, noise, trial
from trainables.objectives.cutmixpick import CutMixPick, entropy, most_unsure
from trainables.training.loop import Trainer
from trainables.training.teacher import untrained_weights


def entropy_of(logits: np.ndarray) -> np.ndarray:
    p = softmax(logits, axis=1)
    return -(p * np.log(p)).sum(axis=1)


def divergence(teacher: np.ndarray, student: np.ndarray, tau: float) -> float:
    p, log_p, log_q = softmax(teacher / tau, axis=1), log_softmax(teacher / tau, axis=1), log_softmax(student / tau, 1)
    return float(tau**2 * (p * (log_p - log_q)).sum(axis=1).mean())


def test_entropy_is_that_of_the_softmax_and_finite_for_large_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 5))
    np.testing.assert_allclose(entropy(torch.from_numpy(logits)).numpy(), entropy_of(logits), rtol=1e-12)
    for dtype in (torch.float32, torch.bfloat16):
        large = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4]], dtype=dtype, requires_grad=True)
        found = entropy(large)
        found.sum().backward()
        assert found.tolist() == pytest.approx([0, np.log(2)], abs=1e-2)
        assert large.grad is not None
        assert large.grad.isfinite().all()


def test_the_most_unsure_are_picked_in_their_order() -> None:
    logits = torch.tensor([[9.0, 0], [0, 0], [5, 0], [1, 0]])
    assert most_unsure(logits, 2).tolist() == [1, 3]


@pytest.mark.parametrize("pick_by", ["teacher", "student"])
def test_the_loss_is_its_formula_on_raw_images_and_on_the_picked(pick_by: str, tmp_path: Path) -> None:
    config, data = trial("cmpkd", backbone="wrn10-1", batch_size=6, pick_by=pick_by), noise(12)
    trainer = Trainer(config, data, CPU, untrained_weights(config, data, tmp_path))
    objective, model, teacher = trainer.objective, trainer.model, trainer.objective.given.teacher
    assert isinstance(objective, CutMixPick)
    assert teacher is not None
    ids, state = torch.arange(6), (trainer.generator.get_state(), trainer.host.get_state())
    found = objective.loss(model, ids).item()
    trainer.generator.set_state(state[0])
    trainer.host.set_state(state[1])
    raw = objective.mix.raw(ids)
    candidates = torch.cat([objective.mix.mix(raw).images_BCHW for _ in range(2)])
    with torch.no_grad():
        taught = teacher(candidates).logits_BK.numpy().astype(np.float64)
        asked = taught if pick_by == "teacher" else model(candidates).logits_BK.numpy().astype(np.float64)
        chosen = np.sort(np.argsort(entropy_of(asked))[-6:])
        mixed = model(candidates[chosen]).logits_BK.numpy().astype(np.float64)
        student = model(raw.images_BCHW).logits_BK.numpy().astype(np.float64)
        of_raw = teacher(raw.images_BCHW).logits_BK.numpy().astype(np.float64)
    hard = -log_softmax(student, axis=1)[np.arange(6), raw.labels_B.numpy()].mean()
    expected = 0.1 * hard + 0.9 * (divergence(of_raw, student, 4) + divergence(taught[chosen], mixed, 4))
    assert found == pytest.approx(expected, rel=1e-5)
