"""Losses beside references written from their equations: float64, one sample and one class at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.mixes.cutmix import decoupled_cross_entropy
from trainables.objectives.losses import (
    dist,
    kl_divergence,
    mixed_cross_entropy,
    pearson_distance,
    relation_distance,
    soft_cross_entropy,
    two_hot,
    uniform_cross_entropy,
    weighted_mean,
)

B, K = 7, 5


def logits(seed: int, batch: int = B, classes: int = K) -> torch.Tensor:
    return 2 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1])
PARTNERS = torch.tensor([1, 1, 0, 2, 3, 4, 0])  # sample 1 has a partner of its own class
SHARE = torch.tensor([0.0, 0.3, 0.5, 0.9, 1.0, 0.2, 0.7], dtype=torch.float64)
WEIGHT = torch.tensor([0.1, 0.0, 1.0, 0.4, 0.0, 0.7, 0.2], dtype=torch.float64)


def pearson(a: np.ndarray, b: np.ndarray, w: np.ndarray) -> float:
    """Weighted correlation of two rows, from its definition."""
    w = w / w.sum()
    da, db = a - (w * a).sum(), b - (w * b).sum()
    return float((w * da * db).sum() / math.sqrt((w * da * da).sum() * (w * db * db).sum()))


def dist_by_hand(s: np.ndarray, t: np.ndarray, tau: float, beta: float, gamma: float, w: np.ndarray) -> float:
    ps, pt = (np.stack([softmax(row / tau) for row in z]) for z in (s, t))
    equal = np.ones(s.shape[1])
    inter = sum(w[b] * (1 - pearson(ps[b], pt[b], equal)) for b in range(len(s))) / w.sum()
    intra = np.mean([1 - pearson(ps[:, k], pt[:, k], w) for k in range(s.shape[1])])
    return float(tau**2 * (beta * inter + gamma * intra))


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["all", "weighted"])
def test_dist_is_one_minus_correlation_of_rows_and_of_columns(tau: float, weight: torch.Tensor | None) -> None:
    s, t = logits(1), logits(2)
    found = dist(s, t, temperature=tau, inter_weight=0.7, intra_weight=1.3, weight_B=weight)
    w = np.ones(B) if weight is None else weight.numpy()
    assert found.item() == pytest.approx(dist_by_hand(s.numpy(), t.numpy(), tau, 0.7, 1.3, w), rel=1e-6)


def test_weights_of_zero_and_one_leave_samples_out() -> None:
    s, t = logits(1), logits(2)
    keep = torch.tensor([0, 2, 5])
    weight = torch.zeros(B, dtype=torch.float64).index_fill(0, keep, 1)
    assert dist(s, t, weight_B=weight).item() == pytest.approx(dist(s[keep], t[keep]).item(), abs=1e-7)
    found = kl_divergence(s, t, weight_B=weight)
    assert found.item() == pytest.approx(kl_divergence(s[keep], t[keep]).item(), abs=1e-12)


def test_equal_weights_change_nothing() -> None:
    s, t = logits(1), logits(2)
    weight = torch.full((B,), 0.3, dtype=torch.float64)
    assert dist(s, t, weight_B=weight).item() == pytest.approx(dist(s, t).item(), abs=1e-12)


def test_dist_of_equal_predictions_is_nothing_and_of_opposite_ones_two() -> None:
    s = logits(1)
    assert dist(s, s).item() == pytest.approx(0, abs=1e-6)
    p = s.softmax(dim=1)
    assert pearson_distance(p, 1 - p).tolist() == pytest.approx([2.0] * B, abs=1e-6)


def test_kl_divergence_is_that_of_the_teacher_from_the_student() -> None:
    s, t, tau = logits(1), logits(2), 4.0
    expected = 0.0
    for row_s, row_t in zip(s.numpy(), t.numpy(), strict=True):
        ps, pt = softmax(row_s / tau), softmax(row_t / tau)
        expected += tau**2 * float((pt * np.log(pt / ps)).sum()) / B
    assert kl_divergence(s, t, temperature=tau).item() == pytest.approx(expected, abs=1e-9)


def test_mixed_cross_entropy_is_that_of_both_labels_by_their_shares() -> None:
    z = logits(1)
    log_p = np.log(np.stack([softmax(row) for row in z.numpy()]))
    expected = [
        -(SHARE[b].item() * log_p[b, LABELS[b]] + (1 - SHARE[b].item()) * log_p[b, PARTNERS[b]]) for b in range(B)
    ]
    assert mixed_cross_entropy(z, LABELS, PARTNERS, SHARE).tolist() == pytest.approx(expected, abs=1e-9)


def test_label_smoothing_of_a_mixed_label_smooths_both() -> None:
    z, smoothing = logits(1), 0.3
    log_p = np.log(np.stack([softmax(row) for row in z.numpy()]))
    target = smoothing / K + (1 - smoothing) * two_hot(LABELS, PARTNERS, SHARE, K).numpy()
    expected = -(target * log_p).sum(axis=1)
    assert mixed_cross_entropy(z, LABELS, PARTNERS, SHARE, smoothing).tolist() == pytest.approx(expected, abs=1e-9)


def test_cross_entropy_with_the_two_hot_label_is_the_mixed_one() -> None:
    z = logits(1)
    target = two_hot(LABELS, PARTNERS, SHARE, K)
    assert target.sum(dim=1).tolist() == pytest.approx([1.0] * B)
    expected = mixed_cross_entropy(z, LABELS, PARTNERS, SHARE)
    assert soft_cross_entropy(z, target).tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_uniform_cross_entropy_is_that_with_the_uniform_label() -> None:
    z = logits(1)
    expected = [-float(np.log(softmax(row)).mean()) for row in z.numpy()]
    assert uniform_cross_entropy(z).tolist() == pytest.approx(expected, abs=1e-9)
    assert uniform_cross_entropy(torch.zeros(1, K)).item() == pytest.approx(math.log(K))


def test_the_decoupled_loss_leaves_the_other_class_out_of_each_denominator() -> None:
    z = logits(1)
    expected = []
    for b, row in enumerate(np.exp(z.numpy())):
        i, j = int(LABELS[b]), int(PARTNERS[b])
        if i == j or not 0 < SHARE[b] < 1:
            expected.append(0.0)
        else:
            total = row.sum()
            expected.append(-math.log(row[i] / (total - row[j])) - math.log(row[j] / (total - row[i])))
    assert decoupled_cross_entropy(z, LABELS, PARTNERS, SHARE).tolist() == pytest.approx(expected, abs=1e-9)


SMOOTH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "dist": lambda z: dist(z, logits(2), temperature=2.0),
    "dist, weighted": lambda z: dist(z, logits(2), weight_B=WEIGHT),
    "both sides": lambda z: dist(z, z.flip(0), weight_B=WEIGHT),
    "relations of features": lambda z: relation_distance(z, logits(2), 1.0, 1.0),
    "kl": lambda z: kl_divergence(z, logits(2), temperature=2.0),
    "mixed": lambda z: mixed_cross_entropy(z, LABELS, PARTNERS, SHARE),
    "decoupled": lambda z: decoupled_cross_entropy(z, LABELS, PARTNERS, SHARE),
    "uniform": uniform_cross_entropy,
    "soft": lambda z: soft_cross_entropy(z, two_hot(LABELS, PARTNERS, SHARE, K)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_the_loss(name: str) -> None:
    assert torch.autograd.gradcheck(SMOOTH[name], (logits(1).requires_grad_(),))


@pytest.mark.parametrize("shape", [(1, K), (B, 1), (1, 1)], ids=["a batch of one", "one class", "both"])
@pytest.mark.parametrize("weight", [None, 1.0, 0.0], ids=["no weights", "weights of one", "none accepted"])
def test_degenerate_batches_give_finite_losses_and_gradients(shape: tuple[int, int], weight: float | None) -> None:
    z, t = logits(1, *shape).requires_grad_(), logits(2, *shape)
    batch, classes = shape
    labels = torch.zeros(batch, dtype=torch.long)
    partners = torch.full((batch,), classes - 1)
    share = torch.full((batch,), 0.5, dtype=torch.float64)
    w = None if weight is None else torch.full((batch,), weight, dtype=torch.float64)
    total = dist(z, t, weight_B=w) + kl_divergence(z, t, weight_B=w) + weighted_mean(uniform_cross_entropy(z), w)
    total = total + decoupled_cross_entropy(z, labels, partners, share).sum()
    total = total + mixed_cross_entropy(z, labels, partners, share).sum()
    total.backward()
    assert total.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_nothing_accepted_is_no_loss() -> None:
    z, nobody = logits(1), torch.zeros(B, dtype=torch.float64)
    assert dist(z, logits(2), weight_B=nobody).item() == 0
    assert kl_divergence(z, logits(2), weight_B=nobody).item() == 0


def test_identical_images_give_finite_relations() -> None:
    z = logits(1, batch=1).expand(B, K).clone().requires_grad_()
    loss = dist(z, logits(2), weight_B=WEIGHT) + dist(z, logits(2))
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()
