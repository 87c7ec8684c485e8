"""OpenMix beside references written from its formulas: its images, its objects, its loss and its score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import multivariate_normal
from torchvision.transforms.v2.functional import rotate

from tests.objectives.test_methods import CPU, noise, trial
from trainables.data.pools import MemoryPool
from trainables.mixes.openmix import (
    draw_places,
    kaleidoscope,
    objects,
    of_right_size,
    opencutmix,
    opencutout,
    openmixup,
    trivial_masks,
)
from trainables.models.dummies import openmix_score
from trainables.objectives.openmix import OpenMix
from trainables.reading.yaml_file import ConfigError
from trainables.training.loop import Trainer

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
MASKS = RNG.random((3, 32, 32)) < 0.02


def test_openmixup_is_half_the_image_and_half_the_image_turned() -> None:
    angles = [0.0, 37.0, -290.0]
    found = openmixup(torch.from_numpy(IMAGES), torch.tensor(angles)).numpy()
    for image, angle, mixed in zip(IMAGES, angles, found, strict=True):
        turned = rotate(torch.from_numpy(image).permute(2, 0, 1), angle).permute(1, 2, 0).numpy()
        assert np.abs(mixed - (image / 2 + turned / 2)).max() <= 0.5
    assert (found[0] == IMAGES[0]).all()


def test_what_is_hidden_is_black_or_filled_at_half_the_brightness() -> None:
    images, masks = torch.from_numpy(IMAGES), torch.from_numpy(MASKS)
    np.testing.assert_array_equal(opencutout(images, masks).numpy(), IMAGES * ~MASKS[..., None])
    filled = opencutmix(images, images.flip(0), masks).numpy()
    exact = 0.5 * IMAGES * ~MASKS[..., None] + 0.5 * IMAGES[::-1] * MASKS[..., None]
    assert (exact - filled).min() >= 0
    assert (exact - filled).max() <= 0.5


@pytest.mark.parametrize(("mirrored", "upside_down"), [(False, False), (True, False), (False, True)])
def test_the_filler_is_one_quarter_of_the_image_mirrored_into_the_others(mirrored: bool, upside_down: bool) -> None:
    coins = (torch.tensor([coin]) for coin in (mirrored, upside_down))
    (found,) = kaleidoscope(torch.from_numpy(IMAGES[:1]), *coins, torch.zeros(1)).numpy()
    image = IMAGES[0, ::-1] if upside_down else IMAGES[0]
    image = image[:, ::-1] if mirrored else image
    quarter = image[16:, :16]  # the lower left
    left = np.concatenate([quarter, quarter[::-1]])
    np.testing.assert_array_equal(found, np.concatenate([left[:, ::-1], left], axis=1))


def test_a_trivial_mask_is_half_as_large_and_cut_off_at_the_border() -> None:
    top, left = [-8, 3, 24], [24, -5, 0]
    found = trivial_masks(torch.from_numpy(MASKS), torch.tensor(top), torch.tensor(left)).numpy()
    expected = np.zeros_like(MASKS)
    for b, y, x in np.argwhere(MASKS):
        row, column = y // 2 + top[b], x // 2 + left[b]
        if 0 <= row < 32 and 0 <= column < 32:
            expected[b, row, column] = True
    np.testing.assert_array_equal(found, expected)


def test_trivial_masks_have_their_centre_anywhere_in_the_image() -> None:
    top, left = draw_places(2000, 32, torch.Generator().manual_seed(0))
    assert {(top + 8).min().item(), (left + 8).min().item()} == {0}
    assert {(top + 8).max().item(), (left + 8).max().item()} == {32}


def test_an_objects_colours_are_more_likely_inside_than_in_the_frame() -> None:
    image = RNG.normal((90, 120, 60), (20, 15, 25), (32, 32, 3))
    image[10:22, 8:20] = RNG.normal((200, 60, 70), (10, 20, 20), (12, 12, 3))
    image = image.clip(0, 255).astype(np.uint8)
    (found,) = objects(torch.from_numpy(image)[None]).numpy()

    frame = np.ones((32, 32), dtype=bool)
    frame[1:-1, 1:-1] = False
    colours = image.astype(np.float64)

    def log_density(chosen: np.ndarray) -> np.ndarray:
        of = colours[chosen]
        covariance = np.cov(of.T, bias=True) + 16 * np.eye(3)
        return multivariate_normal.logpdf(colours, of.mean(axis=0), covariance)

    ratio = np.pad(log_density(~frame) - log_density(frame), 1, constant_values=np.nan)
    smooth = np.nanmean([ratio[y : y + 32, x : x + 32] for y in range(3) for x in range(3)], axis=0)
    assert np.abs(smooth - 1).min() > 1e-4  # nothing that rounding decides
    np.testing.assert_array_equal(found, (smooth > 1) & ~frame)
    assert found[10:22, 8:20].mean() > 0.95
    assert found.sum() < 200


def test_an_object_of_the_right_size_takes_more_than_a_tenth_and_less_than_four_fifths() -> None:
    masks = torch.zeros(4, 10, 10, dtype=torch.bool)
    for mask, pixels in zip(masks, (10, 11, 79, 80), strict=True):
        mask.view(-1)[:pixels] = True
    assert of_right_size(masks).tolist() == [False, True, True, False]


def test_an_image_of_one_colour_has_no_object() -> None:
    assert not objects(torch.full((1, 32, 32, 3), 77, dtype=torch.uint8)).any()


@pytest.mark.parametrize("negatives", ["separate", "one"])
def test_the_loss_is_the_mean_over_known_images_and_those_that_have_a_part_in_it(negatives: str) -> None:
    config, data = trial("openmix", backbone="wrn10-1", batch_size=8, openmixup=2, negatives=negatives), noise(8)
    trainer = Trainer(config, data, CPU)
    objective, images, ids = trainer.objective, trainer.mix.images, torch.arange(8)
    assert isinstance(objective, OpenMix)
    trainer.model.train()
    before = trainer.generator.get_state()
    loss = objective.loss(trainer.model, ids).item()

    trainer.generator.set_state(before)
    batch = trainer.mix.batch(ids)
    stored, classes, part = objective.others(ids)
    seen = torch.cat([batch.images_BCHW, images.through(images.draw_view(len(classes)), stored)])
    output = trainer.model(seen)
    logits = torch.cat([output.logits_BK, output.more["dummies"]], dim=1).detach().numpy().astype(np.float64)
    every = np.concatenate([batch.labels_B.numpy(), classes.numpy()])
    counted = np.concatenate([np.ones(8, dtype=bool), part.numpy()])
    own = -log_softmax(logits, axis=1)[np.arange(len(every)), every]
    assert loss == pytest.approx(own[counted].mean(), rel=1e-5)

    labels, none = batch.labels_B.tolist(), [[3] * 8, [4] * 8, [5] * 8] if negatives == "separate" else [[3] * 8] * 3
    assert classes.tolist() == none[0] * 2 + none[1] + labels + none[2] + labels
    assert logits.shape == (8 * 7, 6 if negatives == "separate" else 4)


def test_the_loss_of_the_other_images_divides_logits_by_the_temperature_of_the_epoch() -> None:
    wave = {"epochs": 4, "temperature_period": 4, "temperature_low": 0.25}
    trainer = Trainer(trial("openmix", backbone="wrn10-1", batch_size=8, openmixup=1, **wave), noise(8), CPU)
    trainer.epoch()  # the first, in which the wave is low
    objective, images, ids = trainer.objective, trainer.mix.images, torch.arange(8)
    assert isinstance(objective, OpenMix)
    before = trainer.generator.get_state()
    loss = objective.loss(trainer.model, ids).item()

    trainer.generator.set_state(before)
    batch = trainer.mix.batch(ids)
    stored, classes, part = objective.others(ids)
    with torch.no_grad():
        seen = images.through(images.draw_view(len(classes)), stored)
        output = trainer.model(torch.cat([batch.images_BCHW, seen]))
    logits = torch.cat([output.logits_BK, output.more["dummies"]], dim=1).numpy().astype(np.float64) / 0.25
    own = -log_softmax(logits, axis=1)[np.arange(len(logits)), torch.cat([batch.labels_B, classes])]
    counted = np.concatenate([np.ones(8, dtype=bool), part.numpy()])
    assert loss == pytest.approx(own[counted].mean(), rel=1e-5)


def test_a_trivial_mask_that_touches_the_object_has_no_part_in_the_loss() -> None:
    trainer = Trainer(trial("openmix", backbone="wrn10-1", batch_size=8, openmixup=0, opencutmix=0), noise(8), CPU)
    assert isinstance(trainer.objective, OpenMix)
    assert isinstance(trainer.pool, MemoryPool)
    trainer.pool.images[:, 8:24, 8:24] = torch.tensor([250, 5, 5], dtype=torch.uint8)
    stored = trainer.pool[torch.arange(8)]
    images, _, part = trainer.objective.others(torch.arange(8))
    found, hidden = objects(stored), (images[8:] != stored).any(dim=3)
    assert part[:8].all()
    assert part[8:].tolist() == (~(hidden & found).flatten(1).any(dim=1)).tolist()
    assert len(set(part[8:].tolist())) == 2


def test_an_image_whose_partners_object_has_the_wrong_size_has_no_trivial_mask_in_the_loss() -> None:
    trainer = Trainer(trial("openmix", backbone="wrn10-1", batch_size=24, openmixup=0, opencutmix=0), noise(24), CPU)
    assert isinstance(trainer.objective, OpenMix)
    assert isinstance(trainer.pool, MemoryPool)
    trainer.pool.images[:12, 8:24, 8:24] = torch.tensor([250, 5, 5], dtype=torch.uint8)
    trainer.pool.images[12:] = 77  # of one colour: no object
    before = trainer.generator.get_state()
    part = trainer.objective.others(torch.arange(24))[2][24:]
    trainer.generator.set_state(before)
    without = torch.randperm(24, generator=trainer.generator) >= 12
    assert without[:12].any()
    assert not part[without].any()
    assert part[~without].any()


def test_angles_are_drawn_evenly_from_a_whole_turn_back_to_a_whole_turn_on() -> None:
    objective = Trainer(trial("openmix", backbone="wrn10-1", batch_size=8), noise(8), CPU).objective
    assert isinstance(objective, OpenMix)
    counts, _ = np.histogram(objective.angles(7200), bins=36, range=(-360, 360))
    assert counts.sum() == 7200
    assert counts.min() > 200 - 5 * 14  # five standard deviations
    assert counts.max() < 200 + 5 * 14


def test_a_mix_that_says_labels_as_probabilities_has_none_for_the_classes_beside_the_known_ones() -> None:
    mixed = {
        "objective": "openmix",
        "mix": "examples.noise_mix:NoiseMix",
        "noise": 1.0,
        "openmixup": 0,
        "opencutmix": 0,
    }
    trainer = Trainer(trial("openmix", backbone="wrn10-1", batch_size=8, **mixed), noise(8), CPU)
    assert torch.isfinite(trainer.step(torch.arange(8)))


def test_the_score_ranks_as_the_largest_known_probability_and_is_finite_where_that_is_1() -> None:
    known, dummies = RNG.normal(size=(50, 4)), RNG.normal(size=(50, 3))
    p = softmax(np.concatenate([known, dummies], axis=1), axis=1)[:, :4].max(axis=1)
    found = openmix_score(torch.from_numpy(known), torch.from_numpy(dummies))
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-12)
    for dtype in (torch.float32, torch.bfloat16):
        large = torch.tensor([[1e4, -1e4], [-1e4, 2e4]], dtype=dtype)
        score = openmix_score(large, torch.tensor([[0.0], [1e4]], dtype=dtype))
        assert score.isfinite().all()
        assert score[0].item() == pytest.approx(1e4, rel=0.01)
    smooth = [torch.from_numpy(of[:3]).requires_grad_() for of in (known, dummies)]
    assert torch.autograd.gradcheck(openmix_score, smooth)


def test_a_trial_that_makes_no_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="openmixup: makes no image"):
        trial("openmix", openmixup=0, opencutout=0, opencutmix=0)
