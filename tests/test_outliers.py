"""Outlier exposure, CatImg and FtAvg: what the network is shown, and their losses from its logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from references import SIZE, Small, cross_entropy, pool, training, watching

from trainables.data.augment import normalise
from trainables.data.pools import MemoryPool
from trainables.learners import LEARNERS
from trainables.learners.base import Learner, Training
from trainables.learners.outliers import CatImg, FtAvg, OutlierExposure, draw_outliers
from trainables.models import build_model
from trainables.settings.methods import METHODS, CatImgSettings, FtAvgSettings, OutlierExposureSettings

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


def given(size: int = SIZE, **changes: object) -> Training:
    """Dark known images and bright outliers, neither cropped nor mirrored."""
    known = pool(LABELS, 20, 120, size=size)
    return training(known, K, **{"outliers": outliers(size), "crop_padding": 0, "flip": False, **changes})


def known_images(t: Training) -> torch.Tensor:
    return normalise(t.pool[IDS])


def which(images_BCHW: torch.Tensor, t: Training) -> list[int]:
    """The row among the outliers of each image; an image that is none of them is an error."""
    assert t.outliers is not None
    every = normalise(t.outliers[torch.arange(len(t.outliers))])
    return [int((every == image).all(dim=(1, 2, 3)).nonzero().item()) for image in images_BCHW]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_outlier_exposure_shows_known_images_and_so_many_outliers_for_each(times: int) -> None:
    t, student = given(), Small(1, K)
    with watching(student) as passes:
        OutlierExposure(OutlierExposureSettings(outliers_per_image=times), t).loss(student, IDS)
    (images, _), *more = passes
    assert not more
    assert torch.equal(images[:B], known_images(t))
    assert len(which(images[B:], t)) == times * B


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_the_loss_of_outlier_exposure_is_eq_2(alpha: float) -> None:
    t, student = given(), Small(1, K)
    with watching(student) as passes:
        loss = OutlierExposure(OutlierExposureSettings(outlier_weight=alpha), t).loss(student, IDS)
    z = passes[0][1].logits_BK.detach().numpy()
    known = cross_entropy(z[:B], np.eye(K)[LABELS[IDS]])
    uniform = cross_entropy(z[B:], np.full((2 * B, K), 1 / K))
    assert loss.item() == pytest.approx(known.mean() + alpha * uniform.mean(), rel=1e-9)


def test_catimg_shows_each_known_image_above_an_outlier() -> None:
    t = given(size=32)
    wide = build_model("wrn10-1", K, 32)
    with watching(wide) as passes:
        loss = CatImg(CatImgSettings(), t).loss(wide, IDS)
    ((images, output),) = passes
    assert images.shape == (B, 3, 64, 32)
    assert torch.equal(images[:, :, :32], known_images(t))
    assert len(which(images[:, :, 32:], t)) == B
    expected = cross_entropy(output.logits_BK.detach().double().numpy(), np.eye(K)[LABELS[IDS]])
    assert loss.item() == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.2, 1.0])
def test_ftavg_classifies_the_mean_of_both_features(share: float) -> None:
    t, student = given(), Small(1, K)
    torch.nn.init.normal_(student.head.bias)
    with watching(student) as passes:
        loss = FtAvg(FtAvgSettings(foreground_share=share), t).loss(student, IDS)
    ((images, output),) = passes
    assert torch.equal(images[:B], known_images(t))
    assert len(which(images[B:], t)) == B
    z_f, z_b = output.features_BC[:B], output.features_BC[B:]
    logits = student.head(share * z_f + (1 - share) * z_b).detach().numpy()
    assert loss.item() == pytest.approx(cross_entropy(logits, np.eye(K)[LABELS[IDS]]).mean(), rel=1e-9)


@pytest.mark.parametrize("backbone", ["wrn10-1", "vgg32"])
def test_the_head_of_a_network_gives_ftavg_of_its_pooled_features(backbone: str) -> None:
    t, network = given(size=32), build_model(backbone, K, 32)
    head = network.head
    assert isinstance(head, torch.nn.Conv2d)
    torch.nn.init.normal_(head.bias)  # type: ignore[arg-type]
    with watching(network) as passes:
        loss = FtAvg(FtAvgSettings(), t).loss(network, IDS)
    features = passes[0][1].features_BC
    mean = (features[:B] + features[B:]) / 2
    logits = head(mean[:, :, None, None])[:, :, 0, 0].detach().double().numpy()
    assert loss.item() == pytest.approx(cross_entropy(logits, np.eye(K)[LABELS[IDS]]).mean(), rel=1e-5)


def test_every_outlier_is_drawn_about_as_often_as_the_others() -> None:
    t = given()
    counts = np.bincount(which(draw_outliers(t, 2000), t), minlength=20)
    assert len(counts) == 20
    assert counts.min() > 60  # of 100 expected, four standard deviations below
    assert counts.max() < 140


def test_outliers_are_cropped_and_mirrored_each_in_its_own_way() -> None:
    t = given(crop_padding=2, flip=True, crop_fill="black")
    assert t.outliers is not None
    one = MemoryPool(t.outliers.images, t.outliers.rows[:1], UNKNOWN[:1])
    seen = draw_outliers(given(crop_padding=2, flip=True, crop_fill="black", outliers=one), 200)
    assert 40 < len(torch.unique(seen, dim=0)) <= 5 * 5 * 2


@pytest.mark.parametrize("method", ["oe", "catimg", "ftavg"])
def test_without_outliers_a_method_says_so(method: str) -> None:
    learner: Learner = LEARNERS[method](METHODS[method](), given(outliers=None))
    with pytest.raises(RuntimeError, match="outliers"):
        learner.loss(Small(1, K), IDS)
