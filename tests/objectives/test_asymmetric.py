"""The asymmetric distiller beside its equations: float64, one sample at a time, from the logits of both networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tests.helpers.references import (
    Small,
    cross_entropy,
    dist,
    frozen,
    objective,
    pool,
    relation,
    resolved,
    training_images,
    watching,
)
from trainables.mixes.base import SeenMix
from trainables.objectives.asymmetric import Asymmetric, accepted

B, K = 20, 5  # the last class has no image: it is what a teacher takes a rejected mix for
LABELS = torch.arange(B) % (K - 1)
IDS = torch.randperm(B, generator=torch.Generator().manual_seed(9))


def settings(**changes: object) -> SimpleNamespace:
    return resolved(**{"method": "asymmetric", "mix_probability": 1.0, **changes})


def official(**changes: object) -> SimpleNamespace:
    return settings(recipe="official", **changes)


def teacher(prefers: int | None = None, features: int = 6) -> Small:
    model = Small(2, K, features)
    if prefers is not None:
        torch.nn.init.constant_(model.head.bias[prefers], 1000.0)
    return frozen(model)  # type: ignore[return-value]


def learner(s: SimpleNamespace, seed: int = 0, labels: torch.Tensor = LABELS, **changes: object) -> Asymmetric:
    torch.manual_seed(0)  # a projection's weights
    given = {"teacher": teacher(), **changes}
    found = objective(s, training_images(pool(labels), K, seed), **given)
    assert isinstance(found, Asymmetric)
    return found


class InNumpy(NamedTuple):
    """A step as numpy: logits z and features f of the student on the mix, of the teacher on raw images and the mix."""

    student: np.ndarray
    raw_teacher: np.ndarray
    mixed_teacher: np.ndarray
    student_features: np.ndarray
    raw_teacher_features: np.ndarray
    mixed_teacher_features: np.ndarray
    own: list[int]
    other: list[int]
    partners: list[int]
    share: np.ndarray

    @property
    def mixed_labels(self) -> np.ndarray:
        y = np.zeros_like(self.student)
        for i, (c1, c2) in enumerate(zip(self.own, self.other, strict=True)):
            y[i, c1] += self.share[i]
            y[i, c2] += 1 - self.share[i]
        return y


def step(s: SimpleNamespace, seed: int = 0, **changes: object) -> tuple[float, InNumpy, Asymmetric, Small]:
    """The loss of one mixed batch, and what both networks said of it by the same draws."""
    student, one, twin = Small(1, K), learner(s, seed, **changes), learner(s, seed, **changes)
    untouched = copy.deepcopy(student).train()
    loss = one.loss(student.train(), IDS).item()

    assert isinstance(twin.mix, SeenMix)
    assert isinstance(twin.given.teacher, Small)
    batch = twin.mix.raw(IDS)
    assert twin.mix.images.coin(s.mix_probability)
    mixed = twin.mix.mix(batch)
    assert mixed.partners_B is not None
    assert mixed.lam_B is not None
    labels, watcher = batch.labels_B, twin.given.teacher
    out, raw, taught = untouched(mixed.images_BCHW), watcher(batch.images_BCHW), watcher(mixed.images_BCHW)
    found = (out.logits_BK, raw.logits_BK, taught.logits_BK, out.features_BC, raw.features_BC, taught.features_BC)
    arrays = [x.detach().numpy() for x in found]
    pair = labels.tolist(), labels[mixed.partners_B].tolist(), mixed.partners_B.tolist()
    return loss, InNumpy(*arrays, *pair, mixed.lam_B.double().numpy()), one, student  # type: ignore[arg-type]


def rejected(s: SimpleNamespace, seen: InNumpy) -> list[int]:
    """Samples that the verification of Eq. 7, or Table 13's exact one, refuses."""
    refused = []
    for i, scores in enumerate(seen.mixed_teacher):
        first = int(np.argmax(scores))
        allowed = {seen.own[i], seen.other[i]}
        if s.verification == "exact":
            allowed = {seen.own[i] if seen.share[i] >= 0.5 else seen.other[i]}
        if first not in allowed:
            refused.append(i)
    return refused


def terms(s: SimpleNamespace, seen: InNumpy) -> dict[str, float]:
    """Eq. 6 to 8 with DIST as -I, without their weights. A weight of each sample goes into both of DIST's relations."""
    share = (seen.share >= 0.5).astype(float) if s.cmi == "single" else seen.share
    partner = seen.raw_teacher[seen.partners]
    how = {"tau": s.temperature, "inter": s.inter_weight, "intra": s.intra_weight}
    cmi = share.mean() * dist(seen.student, seen.raw_teacher, share, **how)
    cmi += (1 - share).mean() * dist(seen.student, partner, 1 - share, **how)

    refused = rejected(s, seen)
    target = seen.mixed_teacher if s.distill_target == "mixed" else seen.raw_teacher
    keep = [i for i in range(B) if s.distill_samples == "all" or i not in refused]
    distill = dist(seen.student[keep], target[keep], None, **how) if keep else 0.0

    y = seen.mixed_labels
    if s.relabel == "two-hot":
        y = s.relabel_ratio * np.full((B, K), 1 / K) + (1 - s.relabel_ratio) * y
    each = cross_entropy(seen.student, y)[refused]
    relabel = each.sum() / (B if s.relabel_mean == "batch" else max(len(refused), 1))
    return {"distill": distill, "cmi": cmi, "relabel": float(relabel)}


def eq_8(s: SimpleNamespace, seen: InNumpy) -> float:
    t = terms(s, seen)
    return s.distill_weight * t["distill"] + s.cmi_weight * t["cmi"] + s.relabel_weight * t["relabel"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["cutmix", "mixup"])
def test_the_papers_mixed_loss_is_eq_8(name: str, seed: int) -> None:
    s = settings(mix=name)
    loss, seen, _, _ = step(s, seed)
    assert 0 < len(rejected(s, seen)) < B
    assert loss == pytest.approx(eq_8(s, seen), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_official_mixed_loss_is_that_of_the_released_file(seed: int) -> None:
    s = official()
    loss, seen, _, _ = step(s, seed)
    lam = float(seen.share[0])
    assert (seen.share == lam).all()
    firsts = seen.mixed_teacher.argmax(axis=1)
    learn = [i for i in range(B) if firsts[i] in (seen.own[i], seen.other[i])]
    relabel = [i for i in range(B) if i not in learn]
    assert learn
    assert relabel
    expected = dist(seen.student[learn], seen.raw_teacher[learn])
    expected += lam * dist(seen.student, seen.raw_teacher)
    expected += (1 - lam) * dist(seen.student, seen.raw_teacher[seen.partners])
    hot = np.eye(K)
    own = cross_entropy(seen.student, hot[seen.own])[relabel].mean()
    other = cross_entropy(seen.student, hot[seen.other])[relabel].mean()
    expected += lam * own + (1 - lam) * other
    assert loss == pytest.approx(expected, rel=1e-6)


OPTIONS: list[dict[str, object]] = [
    {"verification": "exact"},
    {"cmi": "single"},
    {"verification": "exact", "cmi": "single"},
    {"distill_target": "raw"},
    {"distill_samples": "accepted"},
    {"relabel": "hard"},
    {"relabel_mean": "rejected"},
    {"relabel_ratio": 0.2},
    {"mix_draw": "batch"},
    {"temperature": 4.0},
    {"inter_weight": 0.3, "intra_weight": 1.7},
    {"distill_weight": 0.5, "cmi_weight": 2.0, "relabel_weight": 0.7},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_option_changes_its_own_part_of_eq_8(options: dict[str, object]) -> None:
    s = settings(**options)
    loss, seen, _, _ = step(s)
    assert loss == pytest.approx(eq_8(s, seen), rel=1e-6)
    if "mix_draw" not in options:  # the draws are the same, so the paper's loss is another number
        assert loss != pytest.approx(eq_8(settings(), seen), rel=1e-4)


def test_exact_verification_rejects_more_than_the_relaxed_one() -> None:
    first = torch.eye(3)[[0, 1, 2, 0, 1]]  # what the teacher sees in each mix
    own, other = torch.tensor([0, 0, 0, 0, 0]), torch.tensor([1, 1, 1, 1, 1])
    share = torch.tensor([0.7, 0.7, 0.7, 0.3, 0.5])
    assert accepted(first, own, other, share, "relaxed").tolist() == [True, True, False, True, True]
    assert accepted(first, own, other, share, "exact").tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("recipe", [settings, official])
def test_where_the_teacher_rejects_every_mix_all_are_relabelled(recipe: type[SimpleNamespace]) -> None:
    s = recipe()
    loss, seen, _, _ = step(s, teacher=teacher(prefers=K - 1))
    assert rejected(s, seen) == list(range(B))
    assert loss == pytest.approx(eq_8(s, seen), rel=1e-6)
    assert (terms(s, seen)["distill"] == 0) == (s.distill_samples == "accepted")


@pytest.mark.parametrize("recipe", [settings, official])
def test_where_the_teacher_rejects_none_nothing_is_relabelled(recipe: type[SimpleNamespace]) -> None:
    labels = torch.full((B,), 1)
    s, without = recipe(), recipe(relabel_weight=0.0)
    changes: dict[str, object] = {"labels": labels, "teacher": teacher(prefers=1)}
    loss, seen, _, _ = step(s, **changes)
    assert rejected(s, seen) == []
    assert loss == pytest.approx(eq_8(s, seen), rel=1e-6)
    assert loss == step(without, **changes)[0]


@pytest.mark.parametrize("weight", ["distill", "cmi", "relabel"])
def test_a_weight_of_0_takes_exactly_its_term_away(weight: str) -> None:
    s = settings()
    loss, seen, _, _ = step(s)
    without, _, _, _ = step(settings(**{f"{weight}_weight": 0.0}))
    assert terms(s, seen)[weight] > 0.1
    assert loss - without == pytest.approx(terms(s, seen)[weight], rel=1e-6)


def test_a_mix_that_is_all_one_image_is_compared_with_that_image_alone() -> None:
    s = settings(mix="mixup", mix_alpha=1e-3)  # a Beta of which nearly all draws are 0 or 1
    loss, seen, _, _ = step(s)
    whole = [seen.share == 1, seen.share < 1e-30]
    assert all(part.any() for part in whole)
    assert (whole[0] | whole[1]).all()
    shown = np.where(seen.share[:, None] == 1, seen.raw_teacher, seen.raw_teacher[seen.partners])
    cmi = sum(part.mean() * dist(seen.student[part], shown[part]) for part in whole)
    assert terms(s, seen)["cmi"] == pytest.approx(cmi)
    assert loss == pytest.approx(eq_8(s, seen), rel=1e-6)


def test_cutout_has_the_mutual_information_of_its_one_image_and_nothing_else() -> None:
    s = settings(mix="cutout", cmi_weight=0.7, distill_weight=3.0, relabel_weight=5.0)
    loss, seen, _, _ = step(s)
    assert loss == pytest.approx(0.7 * dist(seen.student, seen.raw_teacher), rel=1e-6)
    assert step(settings(mix="cutout", cmi="single", cmi_weight=0.7))[0] == pytest.approx(loss)


def test_decoupled_cutmix_adds_its_regulariser_to_eq_8() -> None:
    s = settings(mix="decoupled-cutmix", decoupled_weight=0.3)
    loss, seen, _, _ = step(s)
    extra = 0.0
    for e, i, j, lam in zip(np.exp(seen.student), seen.own, seen.other, seen.share, strict=True):
        if i != j and 0 < lam < 1:
            extra -= np.log(e[i] / (e.sum() - e[j])) + np.log(e[j] / (e.sum() - e[i]))
    assert loss == pytest.approx(eq_8(s, seen) + 0.3 * extra / B, rel=1e-6)


@pytest.mark.parametrize("distillation", ["dist", "kl"])
def test_a_raw_step_is_cross_entropy_and_the_distance_to_the_teacher(distillation: str) -> None:
    s = settings(mix_probability=0.0, distillation=distillation, ce_weight=0.9, distill_weight=0.4, temperature=2.0)
    student, one, twin = Small(1, K), learner(s), learner(s)
    images = twin.mix.raw(IDS).images_BCHW
    assert twin.given.teacher is not None
    z, t = (model(images).logits_BK.detach().numpy() for model in (copy.deepcopy(student), twin.given.teacher))
    expected = 0.9 * cross_entropy(z, np.eye(K)[LABELS[IDS]]).mean()
    if distillation == "dist":
        expected += 0.4 * dist(z, t, tau=2.0)
    else:
        p = np.exp(t / 2) / np.exp(t / 2).sum(axis=1, keepdims=True)
        expected += 0.4 * 2.0**2 * (cross_entropy(z / 2, p) - cross_entropy(t / 2, p)).mean()
    assert one.loss(student, IDS).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.5, 8, 32), (1.0, 40, 40)])
def test_a_coin_decides_for_each_batch_whether_it_is_mixed(probability: float, low: int, high: int) -> None:
    one, student = learner(settings(mix_probability=probability)), Small(1, K)
    assert one.given.teacher is not None
    mixed = 0
    for _ in range(40):
        with watching(student) as student_saw, watching(one.given.teacher) as teacher_saw:
            one.loss(student, IDS)
        assert len(student_saw) == 1
        mixed += len(teacher_saw) == 2  # both raw images and the mix; a raw step shows it the raw batch alone
    assert low <= mixed <= high


@pytest.mark.parametrize(("recipe", "passes"), [(settings, 1), (official, 2)])
def test_only_the_official_recipe_moves_batch_statistics_by_raw_images_too(
    recipe: Callable[..., SimpleNamespace], passes: int
) -> None:
    _, _, _, student = step(recipe())
    assert int(student.norm.num_batches_tracked) == passes
    raw_step = Small(1, K)
    learner(recipe(mix_probability=0.0)).loss(raw_step, IDS)
    assert int(raw_step.norm.num_batches_tracked) == 1


def test_the_raw_pass_changes_nothing_but_batch_statistics() -> None:
    with_pass, _, _, one = step(settings(raw_pass=True))
    without, _, _, other = step(settings(raw_pass=False))
    assert with_pass == without
    assert not torch.equal(one.norm.running_mean, other.norm.running_mean)


def gradients(s: SimpleNamespace) -> Small:
    student = Small(1, K)
    learner(s).loss(student, IDS).backward()
    return student


def test_the_raw_pass_carries_no_gradient() -> None:
    one, other = gradients(settings(raw_pass=True)), gradients(settings(raw_pass=False))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert a.grad is not None
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]


def test_the_information_of_features_is_dist_of_their_projection() -> None:
    wide: dict[str, object] = {"teacher": teacher(features=9)}
    s = settings(cmi_on="features", distill_weight=0.0, relabel_weight=0.0, inter_weight=0.6)
    torch.set_default_dtype(torch.float64)  # a projection as wide as the networks here
    try:
        loss, seen, one, _ = step(s, **wide)
    finally:
        torch.set_default_dtype(torch.float32)
    assert one.projection is not None
    weight, bias = (p.detach().numpy() for p in one.projection.parameters())
    projected, share = seen.student_features @ weight.T + bias, seen.share
    expected = share.mean() * relation(projected, seen.raw_teacher_features, share, 0.6)
    partner = seen.raw_teacher_features[seen.partners]
    expected += (1 - share).mean() * relation(projected, partner, 1 - share, 0.6)
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("target", ["mixed", "raw"])
def test_features_that_are_distilled_are_dist_of_their_projection(target: str) -> None:
    wide: dict[str, object] = {"teacher": teacher(features=9)}
    off = {"cmi_weight": 0.0, "relabel_weight": 0.0, "distill_weight": 0.7, "inter_weight": 0.6}
    torch.set_default_dtype(torch.float64)  # a projection as wide as the networks here
    try:
        loss, seen, one, _ = step(settings(distill_on="features", distill_target=target, **off), **wide)
    finally:
        torch.set_default_dtype(torch.float32)
    assert one.projection is not None
    weight, bias = (p.detach().numpy() for p in one.projection.parameters())
    projected = seen.student_features @ weight.T + bias
    taught = seen.mixed_teacher_features if target == "mixed" else seen.raw_teacher_features
    assert loss == pytest.approx(0.7 * relation(projected, taught, np.ones(B), 0.6), rel=1e-6)


def test_a_raw_step_distils_features_too() -> None:
    s = settings(distill_on="features", mix_probability=0.0, ce_weight=0.0)
    student, one, twin = Small(1, K), learner(s), learner(s)
    images = twin.mix.raw(IDS).images_BCHW
    assert twin.given.teacher is not None
    assert one.projection is not None
    weight, bias = (p.detach().double().numpy() for p in one.projection.parameters())
    f, t = (m(images).features_BC.detach().double().numpy() for m in (copy.deepcopy(student), twin.given.teacher))
    one.projection.double()
    assert one.loss(student, IDS).item() == pytest.approx(relation(f @ weight.T + bias, t, np.ones(B)), rel=1e-5)


def test_logits_need_no_projection() -> None:
    assert list(learner(settings()).parameters()) == []


def test_without_a_teacher_the_objective_says_so() -> None:
    with pytest.raises(RuntimeError, match="teacher"):
        learner(settings(), teacher=None).loss(Small(1, K), IDS)
