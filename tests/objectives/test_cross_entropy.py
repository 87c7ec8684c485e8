"""Smoothed labels of cross-entropy, as torch has them and as AGC's code has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.references import Small, cross_entropy, objective, pool, resolved, training_images, watching

B, K = 12, 6  # digits' known classes
LABELS = torch.arange(B) % K
IDS = torch.randperm(B, generator=torch.Generator().manual_seed(9))


def loss_and_logits(**settings: object) -> tuple[float, np.ndarray]:
    images = training_images(pool(LABELS), K)
    one, student = objective(resolved(method="plain", **settings), images), Small(1, K)
    with watching(student) as passes:
        loss = one.loss(student, IDS)
    return loss.item(), passes[0][1].logits_BK.detach().numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 0.83, 5 / 6])
def test_smoothing_over_the_others_is_agcs(smoothing: float) -> None:
    loss, z = loss_and_logits(label_smoothing=smoothing, smoothing_over="others")
    target = np.where(np.eye(K)[LABELS[IDS]] == 1, 1 - smoothing, smoothing / (K - 1))
    assert loss == pytest.approx(cross_entropy(z, target).mean(), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9, 1.0])
def test_smoothing_over_all_gives_the_true_class_its_share_too(smoothing: float) -> None:
    loss, z = loss_and_logits(label_smoothing=smoothing)
    target = (1 - smoothing) * np.eye(K)[LABELS[IDS]] + smoothing / K
    assert loss == pytest.approx(cross_entropy(z, target).mean(), rel=1e-12)


def test_smoothing_of_a_mixes_probabilities_gives_every_class_its_share_too() -> None:
    settings = resolved(objective="ce", mix="examples.noise_mix:NoiseMix", noise=0.8, label_smoothing=0.3)
    one, same = (objective(settings, training_images(pool(LABELS), K)) for _ in range(2))
    student, said = Small(1, K), same.mix.batch(IDS).targets_BK
    assert said is not None
    with watching(student) as passes:
        loss = one.loss(student, IDS)
    target = 0.7 * said.double().numpy() + 0.3 / K
    expected = cross_entropy(passes[0][1].logits_BK.detach().numpy(), target).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-6)  # the mix gives its labels in float32
