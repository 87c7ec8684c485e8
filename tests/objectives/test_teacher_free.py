"""The teacher-free edition beside Eq. 9 to 11: float64, one mix at a time."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers.references import (
    Small,
    cross_entropy,
    dist,
    objective,
    pearson,
    pool,
    resolved,
    softmax,
    training_images,
    watching,
)
from trainables.objectives.teacher_free import TeacherFree
from trainables.settings.objectives import TeacherFreeSettings

B, K = 16, 4
LABELS = torch.arange(B) % K
IDS = torch.randperm(B, generator=torch.Generator().manual_seed(9))


def settings(**changes: object) -> SimpleNamespace:
    return resolved(**{"method": "teacher-free", **changes})


def learner(s: SimpleNamespace, seed: int = 0) -> TeacherFree:
    found = objective(s, training_images(pool(LABELS), K, seed))
    assert isinstance(found, TeacherFree)
    return found


def eq_9(s: SimpleNamespace, raw: np.ndarray, mixed: np.ndarray, pairs: list[tuple[int, int]]) -> float:
    """-I as DIST, of each mix with each raw image of which the network is sure, averaged over the mixes.

    `pairs` are (i, j) of each mix: positions of its two images among the raw ones.
    """
    p_raw, p_mixed, equal, total = softmax(raw), softmax(mixed), np.ones(K), 0.0
    labels = LABELS[IDS].tolist()
    for side in (0, 1):
        sure = [m for m, pair in enumerate(pairs) if p_mixed[m][labels[pair[side]]] > s.tau_upper]
        if not sure:
            continue
        shown = [pairs[m][side] for m in sure]
        for m, i in zip(sure, shown, strict=True):
            total += s.inter_weight * (1 - pearson(p_mixed[m], p_raw[i], equal)) / len(pairs)
        columns = [1 - pearson(p_mixed[sure, k], p_raw[shown, k], np.ones(len(sure))) for k in range(K)]
        total += s.intra_weight * len(sure) / len(pairs) * float(np.mean(columns))
    return total


def eq_10(s: SimpleNamespace, mixed: np.ndarray) -> float:
    total = 0.0
    for z in mixed:
        if softmax(z[None]).max() < s.tau_lower:
            total += float(cross_entropy(z[None], np.full((1, K), 1 / K))[0])
    return total / len(mixed)


def step(s: SimpleNamespace, seed: int = 0) -> tuple[float, dict[str, float], list[tuple[int, int, float]]]:
    """The loss of a batch; the terms of Eq. 11 without weights, by the same draws; and the mixes: i, j and lambda."""
    student, one, twin = Small(1, K), learner(s, seed), learner(s, seed)
    untouched = copy.deepcopy(student)
    loss = one.loss(student, IDS).item()
    batch = twin.mix.raw(IDS)
    mixes = [twin.mix.mix(batch) for _ in range(2)]
    everything = torch.cat([batch.images_BCHW, mixes[0].images_BCHW, mixes[1].images_BCHW])
    z = untouched(everything).logits_BK.detach().numpy()
    raw, mixed = z[:B], z[B:]
    of = [(i, int(m.partners_B[i]), float(m.lam_B[i])) for m in mixes for i in range(B)]
    pairs = [(i, j) for i, j, _ in of]
    extra, labels = 0.0, LABELS[IDS].tolist()
    for e, (i, j, lam) in zip(np.exp(mixed), of, strict=True):
        a, b = labels[i], labels[j]
        if a != b and 0 < lam < 1:
            extra -= float(np.log(e[a] / (e.sum() - e[b])) + np.log(e[b] / (e.sum() - e[a])))
    found = {
        "ce": float(cross_entropy(raw, np.eye(K)[LABELS[IDS]]).mean()),
        "mi": eq_9(s, raw, mixed, pairs),
        "uniform": eq_10(s, mixed),
        "decoupled": extra / len(of),
    }
    return loss, found, of


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["cutmix", "mixup"])
def test_the_loss_is_eq_11(name: str, seed: int) -> None:
    s = settings(mix=name, tau_upper=0.6, mi_weight=0.7, uniform_weight=1.3, inter_weight=0.8, intra_weight=1.2)
    loss, found, _ = step(s, seed)
    assert found["mi"] > 0.01
    assert found["uniform"] > 0.01
    assert loss == pytest.approx(found["ce"] + 0.7 * found["mi"] + 1.3 * found["uniform"], rel=1e-6)


@pytest.mark.parametrize("tau_upper", [0.2, 0.4, 0.6])
def test_a_mix_is_drawn_towards_both_images_where_both_classes_are_above_the_threshold(tau_upper: float) -> None:
    s = settings(tau_upper=tau_upper, tau_lower=0.0)
    loss, found, _ = step(s)
    assert loss == pytest.approx(found["ce"] + found["mi"], rel=1e-6)


def test_the_terms_of_both_images_add_up_where_the_network_is_sure_of_all() -> None:
    s = settings(tau_upper=0.0, tau_lower=0.0)
    one = learner(s)
    raw, mixed = Small(3, K), Small(4, K)
    raw_z, mixed_z = (m(torch.randn(n * B, 3, 8, 8)).logits_BK.detach() for m, n in ((raw, 1), (mixed, 2)))
    partners = torch.cat([(torch.arange(B) + 3) % B, (torch.arange(B) + 5) % B])
    twice, m = np.concatenate([raw_z.numpy()] * 2), mixed_z.numpy()
    expected = dist(m, twice) + dist(m, raw_z.numpy()[partners])
    assert one.mutual_information(raw_z, mixed_z, LABELS, partners).item() == pytest.approx(expected, rel=1e-6)


def test_where_the_network_is_sure_of_no_mix_there_is_no_mutual_information() -> None:
    loss, found, _ = step(settings(tau_upper=1.0))
    assert found["mi"] == 0
    assert loss == pytest.approx(found["ce"] + found["uniform"], rel=1e-6)


def test_where_no_mix_is_uncertain_none_is_drawn_to_the_uniform_label() -> None:
    loss, found, _ = step(settings(tau_upper=0.3, tau_lower=0.0))
    assert found["uniform"] == 0
    assert loss == pytest.approx(found["ce"] + found["mi"], rel=1e-6)


def test_where_every_mix_is_uncertain_all_are_drawn_to_the_uniform_label() -> None:
    s = settings(tau_upper=1.0, tau_lower=1.0)
    z = torch.randn(2 * B, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = cross_entropy(z.numpy(), np.full((2 * B, K), 1 / K)).mean()
    assert learner(s).uncertain(z).item() == pytest.approx(expected)
    loss, found, _ = step(s)
    assert loss == pytest.approx(found["ce"] + found["uniform"], rel=1e-6)


def test_both_thresholds_are_strict() -> None:
    even = torch.zeros(2 * B, K, dtype=torch.float64)  # every probability is 1/4
    raw, partners = torch.eye(K, dtype=torch.float64)[LABELS], torch.arange(B).repeat(2)
    at = learner(settings(tau_upper=0.25, tau_lower=0.25))
    assert at.uncertain(even).item() == 0
    assert at.mutual_information(raw, even, LABELS, partners).item() == 0
    around = learner(settings())
    around.settings = TeacherFreeSettings(tau_upper=0.24, tau_lower=0.26)  # no file may say that
    assert around.uncertain(even).item() == pytest.approx(np.log(K))
    assert around.mutual_information(raw, even, LABELS, partners).item() > 0


@pytest.mark.parametrize("name", ["mi", "uniform"])
def test_a_weight_of_0_takes_exactly_its_term_away(name: str) -> None:
    loss, found, _ = step(settings(tau_upper=0.5))
    without, _, _ = step(settings(tau_upper=0.5, **{f"{name}_weight": 0.0}))
    assert found[name] > 0.01
    assert loss - without == pytest.approx(found[name], rel=1e-6)


def test_decoupled_cutmix_adds_its_regulariser_to_eq_11() -> None:
    loss, found, _ = step(settings(mix="decoupled-cutmix", decoupled_weight=0.3, tau_upper=0.5))
    expected = found["ce"] + found["mi"] + found["uniform"] + 0.3 * found["decoupled"]
    assert loss == pytest.approx(expected, rel=1e-6)


def test_one_pass_sees_the_raw_batch_and_two_mixes_of_it() -> None:
    student, one = Small(1, K), learner(settings())
    with watching(student) as passes:
        one.loss(student, IDS)
    assert [len(images) for images, _ in passes] == [3 * B]


def test_each_of_the_two_mixes_has_coefficients_of_its_own() -> None:
    for draw in ("sample", "batch"):
        _, _, of = step(settings(mix_draw=draw))
        first, second = ([lam for _, _, lam in part] for part in (of[:B], of[B:]))
        assert first != second


def test_raw_samples_move_towards_mixes_too() -> None:
    one = learner(settings(tau_upper=0.0, tau_lower=0.0))
    raw, mixed = (
        torch.randn(n, K, dtype=torch.float64, generator=torch.Generator().manual_seed(n)).requires_grad_()
        for n in (B, 2 * B)
    )
    partners = torch.cat([(torch.arange(B) + 3) % B, (torch.arange(B) + 5) % B])
    one.mutual_information(raw, mixed, LABELS, partners).backward()
    for z in (raw, mixed):
        assert z.grad is not None
        assert (z.grad.abs().sum(dim=1) > 0).all()
