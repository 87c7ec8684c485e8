"""What `examples/` shows of one's own parts, beside its formulas."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from tests.objectives.test_methods import CPU, noise
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer

COIN, NORM = "examples.coin_backmix:CoinBackMix", "examples.logit_norm:LogitNorm"


def trainer(**settings: Any) -> Trainer:
    config = resolve({"objective": "ce", "backbone": "wrn10-1", "batch_size": 8, "split": 1, **settings})
    return Trainer(config, noise(8), CPU)


def test_logit_norm_is_cross_entropy_of_logits_of_one_norm() -> None:
    one = trainer(objective=NORM, norm_temperature=0.2)
    state = one.generator.get_state()
    found = one.objective.loss(one.model, torch.arange(8)).item()
    one.generator.set_state(state)
    batch = one.objective.mix.batch(torch.arange(8))
    with torch.no_grad():
        logits = one.model(batch.images_BCHW).logits_BK.numpy().astype(np.float64)
    scaled = logits / np.sqrt((logits**2).sum(axis=1, keepdims=True)) / 0.2
    assert found == pytest.approx(-log_softmax(scaled, axis=1)[np.arange(8), batch.labels_B].mean(), rel=1e-5)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_backmix_by_a_coin_changes_images_when_the_coin_says_so(probability: float) -> None:
    one, raw = trainer(mix=COIN, mix_probability=probability), trainer(mix="none")
    batches = [each.objective.mix.batch(torch.arange(8)) for each in (one, raw)]
    mixed, plain = (batch.images_BCHW for batch in batches)
    assert torch.equal(batches[0].labels_B, batches[1].labels_B)
    assert torch.equal(mixed, plain) == (probability == 0)


def test_its_box_is_another_for_each_batch() -> None:
    mix = trainer(mix=COIN, mix_probability=1.0).objective.mix
    sides = [mix.batch(torch.arange(8)) and mix.side for _ in range(5)]  # type: ignore[attr-defined]
    assert len(set(sides)) > 1
    assert all(0 <= side <= 32 for side in sides)


def test_both_together_take_a_step() -> None:
    one = trainer(objective=NORM, mix=COIN, mix_probability=1.0)
    before = one.objective.mix.bank_Nhw.clone()  # type: ignore[attr-defined, operator]
    assert torch.isfinite(one.step(torch.arange(8)))
    assert not torch.equal(one.objective.mix.bank_Nhw, before)  # type: ignore[attr-defined, arg-type]
