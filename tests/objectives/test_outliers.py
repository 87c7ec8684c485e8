"""Outlier exposure, CatImg and FtAvg: what the network is shown, and their losses from its logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.references import SIZE, Small, cross_entropy, objective, pool, resolved, training_images, watching
from trainables.data.augment import normalise
from trainables.data.pools import MemoryPool
from trainables.mixes.base import TrainingImages
from trainables.models import build_model
from trainables.models.head import LinearHead
from trainables.objectives.base import Objective
from trainables.objectives.outliers import WithOutliers

B, K = 10, 4
LABELS = torch.arange(B) % K
IDS = torch.randperm(B, generator=torch.Generator().manual_seed(9))
UNKNOWN = torch.full((40,), -1)


def outliers(size: int = SIZE) -> MemoryPool:
    """Bright images that are rows 1, 3, 5 … of their store; those between, darker than any, belong to nobody."""
    store = pool(UNKNOWN, 150, 256, seed=1, size=size)
    store.images[::2] = 5
    rows = torch.arange(1, 40, 2)
    return MemoryPool(store.images, rows, UNKNOWN[: len(rows)])


def images(size: int = SIZE, **changes: object) -> TrainingImages:
    """Dark known images, neither cropped nor mirrored."""
    return training_images(pool(LABELS, 20, 120, size=size), K, **{"crop_padding": 0, "flip": False, **changes})


def learner(method: str, size: int = SIZE, **settings: object) -> Objective:
    """It is given bright outliers."""
    return objective(resolved(method=method, **settings), images(size), outliers=outliers(size))


def known_images(one: Objective) -> torch.Tensor:
    return normalise(one.mix.images.pool[IDS])


def which(images_BCHW: torch.Tensor, one: Objective) -> list[int]:
    """The row among the outliers of each image; an image that is none of them is an error."""
    pool_of_outliers = one.given.outliers
    assert pool_of_outliers is not None
    every = normalise(pool_of_outliers[torch.arange(len(pool_of_outliers))])
    return [int((every == image).all(dim=(1, 2, 3)).nonzero().item()) for image in images_BCHW]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_outlier_exposure_shows_known_images_and_so_many_outliers_for_each(times: int) -> None:
    one, student = learner("oe", outliers_per_image=times), Small(1, K)
    with watching(student) as passes:
        one.loss(student, IDS)
    (shown, _), *more = passes
    assert not more
    assert torch.equal(shown[:B], known_images(one))
    assert len(which(shown[B:], one)) == times * B


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_the_loss_of_outlier_exposure_is_eq_2(alpha: float) -> None:
    student = Small(1, K)
    with watching(student) as passes:
        loss = learner("oe", outlier_weight=alpha).loss(student, IDS)
    z = passes[0][1].logits_BK.detach().numpy()
    known = cross_entropy(z[:B], np.eye(K)[LABELS[IDS]])
    uniform = cross_entropy(z[B:], np.full((2 * B, K), 1 / K))
    assert loss.item() == pytest.approx(known.mean() + alpha * uniform.mean(), rel=1e-9)


def test_catimg_shows_each_known_image_above_an_outlier() -> None:
    one = learner("catimg", size=32)
    wide = build_model("wrn10-1", K, 32)
    with watching(wide) as passes:
        loss = one.loss(wide, IDS)
    ((shown, output),) = passes
    assert shown.shape == (B, 3, 64, 32)
    assert torch.equal(shown[:, :, :32], known_images(one))
    assert len(which(shown[:, :, 32:], one)) == B
    expected = cross_entropy(output.logits_BK.detach().double().numpy(), np.eye(K)[LABELS[IDS]])
    assert loss.item() == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.2, 1.0])
def test_ftavg_classifies_the_mean_of_both_features(share: float) -> None:
    one, student = learner("ftavg", foreground_share=share), Small(1, K)
    torch.nn.init.normal_(student.head.bias)
    with watching(student) as passes:
        loss = one.loss(student, IDS)
    ((shown, output),) = passes
    assert torch.equal(shown[:B], known_images(one))
    assert len(which(shown[B:], one)) == B
    z_f, z_b = output.features_BC[:B], output.features_BC[B:]
    logits = student.head(share * z_f + (1 - share) * z_b).detach().numpy()
    assert loss.item() == pytest.approx(cross_entropy(logits, np.eye(K)[LABELS[IDS]]).mean(), rel=1e-9)


@pytest.mark.parametrize("backbone", ["wrn10-1", "vgg32"])
def test_the_head_of_a_network_gives_ftavg_of_its_pooled_features(backbone: str) -> None:
    network = build_model(backbone, K, 32)
    head = network.head
    assert isinstance(head, LinearHead)
    torch.nn.init.normal_(head.bias)  # type: ignore[arg-type]
    with watching(network) as passes:
        loss = learner("ftavg", size=32).loss(network, IDS)
    features = passes[0][1].features_BC
    mean = (features[:B] + features[B:]) / 2
    logits = head(mean[:, :, None, None]).logits_BK.detach().double().numpy()
    assert loss.item() == pytest.approx(cross_entropy(logits, np.eye(K)[LABELS[IDS]]).mean(), rel=1e-5)


def test_every_outlier_is_drawn_about_as_often_as_the_others() -> None:
    one = learner("oe")
    assert isinstance(one, WithOutliers)
    counts = np.bincount(which(one.outliers(2000), one), minlength=20)
    assert len(counts) == 20
    assert counts.min() > 60  # of 100 expected, four standard deviations below
    assert counts.max() < 140


def test_outliers_are_cropped_and_mirrored_each_in_its_own_way() -> None:
    every = outliers()
    alone = MemoryPool(every.images, every.rows[:1], UNKNOWN[:1])
    one = objective(resolved(method="oe"), images(crop_padding=2, flip=True, crop_fill="black"), outliers=alone)
    assert isinstance(one, WithOutliers)
    seen = one.outliers(200)
    assert 40 < len(torch.unique(seen, dim=0)) <= 5 * 5 * 2


@pytest.mark.parametrize("method", ["oe", "catimg", "ftavg"])
def test_without_outliers_a_method_says_so(method: str) -> None:
    with pytest.raises(RuntimeError, match="outliers"):
        objective(resolved(method=method), images()).loss(Small(1, K), IDS)
