"""Batched augmentations against torchvision's on each image alone, and what their authors' definitions imply."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

from tests.helpers.reads import NothingReadBack
from trainables.data import augmentations, image_ops
from trainables.data.augmentations import (
    AUGMIX,
    RAND_AUGMENT,
    augmix,
    mixing_weights,
    rand_augment,
    randomized_quantization,
)

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
BLENDS = ("Color", "Contrast", "Sharpness")
REFERENCE = v2.RandAugment()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(height: int = 32, width: int = 32) -> torch.Tensor:
    """Noise, smooth pictures in colour, narrow ranges, two levels and single levels."""
    noise = torch.randint(0, 256, (4, height, width, 3), dtype=torch.uint8, generator=generator())
    coarse = torch.rand(8, 3, 5, 5, generator=generator(1)) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)
    smooth = smooth.permute(0, 2, 3, 1).to(torch.uint8)
    two_levels = torch.where(noise[:2] < 100, 30, 201).to(torch.uint8)
    constant = torch.tensor([0, 96, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, height, width, 3)
    return torch.cat([noise, smooth, smooth[:2] // 4 + 90, two_levels, constant])


def distinct() -> torch.Tensor:
    """One image that every operation turns into another: not of full range, and with pixels enough to equalize."""
    return torch.randint(20, 230, (1, 18, 18, 3), dtype=torch.uint8, generator=generator())


def of_torchvision(image_HWC: torch.Tensor, name: str, magnitude: float, mode: str = "nearest") -> torch.Tensor:
    out = REFERENCE._apply_image_or_video_transform(
        image_HWC.permute(2, 0, 1), name, magnitude, InterpolationMode(mode), {}
    )
    return out.permute(1, 2, 0)


def magnitude_of_torchvision(name: str, magnitude: int, sign: int, height: int, width: int) -> float:
    values, signed = REFERENCE._AUGMENTATION_SPACE[name]
    bins = values(31, height, width)
    return 0.0 if bins is None else float(bins[magnitude]) * (sign if signed else 1)


def assert_same(name: str, ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert ours.dtype == torch.uint8
    assert ours.shape == expected.shape
    difference = (ours.int() - expected.int()).abs()
    if name in GEOMETRIC:
        # A read half-way between two pixels takes either, by the last bit of its coordinate.
        assert (difference > 0).float().mean() <= 0.002
    elif name in BLENDS:
        # Blends are rounded down: where one is a whole number, its last bit decides between that and the level below.
        assert difference.max() <= 1
        assert (difference > 0).float().mean() <= 0.02
    else:
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("name", RAND_AUGMENT)
@pytest.mark.parametrize("magnitude", [0, 1, 9, 17, 30])
def test_each_operation_equals_torchvisions_on_each_image_alone(name: str, magnitude: int) -> None:
    stored = images(32, 28)
    # One batch holds both signs: the strength is each sample's own.
    sign = torch.tensor([1, -1]).repeat(len(stored))[: len(stored)]
    operation, strength = RAND_AUGMENT[name]
    ours = operation(stored, strength(sign * (magnitude / 30), 32, 28))
    one_by_one = [
        of_torchvision(image, name, magnitude_of_torchvision(name, magnitude, int(s), 32, 28))
        for image, s in zip(stored, sign, strict=True)
    ]
    assert_same(name, ours, torch.stack(one_by_one))


@pytest.mark.parametrize("name", RAND_AUGMENT)
def test_a_batch_may_hold_many_strengths_and_none_at_all(name: str) -> None:
    stored = images(9, 12)
    operation, strength = RAND_AUGMENT[name]
    level = torch.linspace(-1, 1, len(stored))
    together = operation(stored, strength(level, 9, 12))
    alone = [operation(stored[i : i + 1], strength(level[i : i + 1], 9, 12)) for i in range(len(stored))]
    assert torch.equal(together, torch.cat(alone))
    assert operation(stored[:0], level[:0]).shape == (0, 9, 12, 3)


@pytest.mark.parametrize("name", ["Rotate", "ShearX", "ShearY"])
def test_bilinear_operations_of_augmix_equal_torchvisions(name: str) -> None:
    stored, values = images(), torch.linspace(-0.3, 0.3, 19)
    ours = AUGMIX[name][0](stored, values * (100 if name == "Rotate" else 1))
    for i, value in enumerate(values):
        expected = of_torchvision(stored[i], name, float(value) * (100 if name == "Rotate" else 1), "bilinear")
        difference = (ours[i].int() - expected.int()).abs()
        assert difference.max() <= 1  # a weight's last bit, where the blend is half-way between two levels
        assert (difference > 0).float().mean() <= 0.02


def test_augmix_strengths_are_those_of_the_official_code() -> None:
    level = torch.tensor([0.1, 0.9, 1.7, 2.6, 2.99])
    expected = {
        "Posterize": lambda x: 4 - int(x * 4 / 10),
        "Rotate": lambda x: int(x * 30 / 10),
        "Solarize": lambda x: 256 - int(x * 256 / 10),
        "ShearX": lambda x: x * 0.3 / 10,
        "ShearY": lambda x: x * 0.3 / 10,
        "TranslateX": lambda x: int(x * (48 / 3) / 10),
        "TranslateY": lambda x: int(x * (32 / 3) / 10),
    }
    for name, official in expected.items():
        ours = AUGMIX[name][1](level / 10, 32, 48)
        assert torch.allclose(ours, torch.tensor([float(official(float(x))) for x in level])), name


def test_magnitude_0_changes_only_what_has_no_magnitude() -> None:
    stored = images()[:8]  # with 255, which solarize at its highest threshold inverts, as in torchvision
    stored[0, 0, 0] = 255
    for name, (operation, strength) in RAND_AUGMENT.items():
        out = operation(stored, strength(torch.zeros(8), 32, 32))
        if name == "Solarize":
            assert torch.equal(out, stored.masked_fill(stored == 255, 0))
        else:
            assert torch.equal(out, stored) == (name not in ("AutoContrast", "Equalize")), name


def test_rand_augment_draws_each_operation_and_sign_evenly_for_each_sample() -> None:
    one = distinct()
    samples = 7000
    out = rand_augment(one.expand(samples, -1, -1, -1), 1, 20, generator(), generator(1))
    counts = []
    for operation, strength in RAND_AUGMENT.values():
        signed = [operation(one, strength(torch.tensor([sign * 20 / 30]), 18, 18)) for sign in (1.0, -1.0)]
        by_sign = [int((out == candidate).all(dim=(1, 2, 3)).sum()) for candidate in signed]
        if torch.equal(*signed):
            counts.append(by_sign[0])
        else:
            counts.append(sum(by_sign))
            assert abs(by_sign[0] - by_sign[1]) < 4 * math.sqrt(sum(by_sign))
    assert sum(counts) == samples  # every sample is one of the 14 operations' outputs
    assert sum((n - samples / 14) ** 2 / (samples / 14) for n in counts) < 34.5  # chi-square(13) at 0.1 %


def test_which_sample_takes_which_operation_does_not_depend_on_its_place() -> None:
    one = distinct()
    unchanged = torch.zeros(16)
    for seed in range(300):
        out = rand_augment(one.expand(16, -1, -1, -1), 1, 20, generator(seed), generator(seed + 1000))
        unchanged += (out == one).all(dim=(1, 2, 3))
    expected = 300 / 14  # of identity alone
    assert ((unchanged - expected).abs() < 4.5 * math.sqrt(expected)).all()


Augmentation = Any
AUGMENTATIONS: dict[str, Augmentation] = {
    "rand_augment": lambda x, g, host: rand_augment(x, 2, 9, g, host),
    "augmix": augmix,
    "randomized_quantization": lambda x, g, host: randomized_quantization(x, 8, g),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_same_seeds_same_result_and_other_seeds_another(name: str) -> None:
    stored, augment = images(), AUGMENTATIONS[name]
    first = augment(stored, generator(), generator(1))
    assert torch.equal(first, augment(stored, generator(), generator(1)))
    assert not torch.equal(first, augment(stored, generator(2), generator(1)))
    assert first.dtype == torch.uint8
    assert torch.equal(stored, images())  # the originals stay


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (5, 16, 24, 3)])
def test_small_and_oblong_batches_keep_their_shape(name: str, shape: tuple[int, ...]) -> None:
    stored = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator())
    for seed in range(10):
        out = AUGMENTATIONS[name](stored, generator(seed), generator(seed + 1))
        assert out.shape == stored.shape
        assert out.dtype == torch.uint8


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_identical_images_come_out_differently(name: str) -> None:
    copies = images()[5:6].expand(64, -1, -1, -1)
    out = AUGMENTATIONS[name](copies, generator(), generator(1))
    assert len(out.flatten(1).unique(dim=0)) > 48


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_nothing_is_read_back_from_the_device(name: str) -> None:
    stored = images()
    with NothingReadBack():
        AUGMENTATIONS[name](stored, generator(), generator(1))
    with pytest.raises(AssertionError), NothingReadBack():
        stored[stored > 100]


def test_augmix_weights_are_an_even_skip_and_an_even_point_of_the_simplex() -> None:
    weights = mixing_weights(20_000, 3, generator()).double()
    assert torch.allclose(weights.sum(0), torch.ones(20_000, dtype=torch.float64), atol=1e-6)
    assert (weights >= 0).all()
    skip, chains = weights[0], weights[1:] / weights[1:].sum(0)
    # Beta(1, 1) is even over 0..1; each coordinate of Dirichlet(1, 1, 1) is Beta(1, 2): P(w < t) = 1 - (1 - t)^2.
    for even in (skip, *(1 - (1 - chains) ** 2)):
        gap = even.sort().values - torch.linspace(0, 1, len(even), dtype=torch.float64)
        assert gap.abs().max() < 1.95 / math.sqrt(len(even))  # Kolmogorov-Smirnov at 0.1 %
    assert np.corrcoef(skip, chains[0])[0, 1] == pytest.approx(0, abs=0.03)


def test_augmix_of_chains_that_change_nothing_is_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentations, "AUGMIX", {"Identity": RAND_AUGMENT["Identity"]})
    assert torch.equal(augmix(images(), generator(), generator(1)), images())


def test_augmix_keeps_each_samples_chains_with_its_original(monkeypatch: pytest.MonkeyPatch) -> None:
    # Inverting an odd number of times out of 1 to 3: each sample stays on the line between itself and its inverse.
    monkeypatch.setattr(augmentations, "AUGMIX", {"Invert": (lambda x, strength: 255 - x, lambda level, H, W: level)})
    level = torch.arange(0, 256, dtype=torch.uint8)
    mixed = augmix(level[:, None, None, None].expand(-1, 4, 4, 3), generator(), generator(1))
    assert (mixed == mixed[:, :1, :1, :1]).all()
    low, high = torch.minimum(level, 255 - level), torch.maximum(level, 255 - level)
    assert ((low <= mixed[:, 0, 0, 0]) & (mixed[:, 0, 0, 0] <= high)).all()


def test_augmix_chains_have_one_to_three_operations_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentations, "AUGMIX", {"Add": (lambda x, strength: x + 40, lambda level, H, W: level)})
    monkeypatch.setattr(augmentations, "mixing_weights", lambda B, width, g: torch.tensor([[0.0], [1.0]]).expand(2, B))
    black = torch.zeros(3000, 2, 2, 3, dtype=torch.uint8)
    values, counts = augmix(black, generator(), generator(1), width=1)[:, 0, 0, 0].unique(return_counts=True)
    assert values.tolist() == [40, 80, 120]
    assert ((counts - 1000).abs() < 4 * math.sqrt(1000)).all()


def test_augmix_leaves_black_alone() -> None:
    # At the paper's severity no operation of its list changes it.
    black = torch.zeros(64, 32, 32, 3, dtype=torch.uint8)
    assert torch.equal(augmix(black, generator(), generator(1)), black)


def test_augmix_of_more_severity_changes_more() -> None:
    stored = images()[4:12].repeat(40, 1, 1, 1)

    def change(severity: float) -> float:
        mixed = augmix(stored, generator(), generator(1), severity=severity)
        return float((mixed.int() - stored.int()).abs().float().mean())

    assert 0 < change(0.2) < change(3) < change(10)


@pytest.mark.parametrize("regions", [1, 2, 8])
def test_randomized_quantization_has_few_values_in_order_and_in_range(regions: int) -> None:
    stored = images()
    out = randomized_quantization(stored, regions, generator())
    for before, after in zip(stored.flatten(1, 2).mT.flatten(0, 1), out.flatten(1, 2).mT.flatten(0, 1), strict=True):
        assert len(after.unique()) <= regions
        assert before.min() <= after.min()
        assert after.max() <= before.max()
        assert (after[before.argsort()].int().diff() >= 0).all()
        # One value for one value: those that were equal still are.
        assert all(len(after[before == level].unique()) == 1 for level in before.unique()[:5])


def test_randomized_quantization_draws_even_edges_and_values_for_each_channel() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(4000, -1, -1, 3)
    out = randomized_quantization(ramp, 2, generator()).flatten(1, 2)
    edge = (out == out[:, :1]).sum(1) / 255.0  # how many levels share the lowest's value
    assert torch.allclose(edge.mean(0), torch.full((3,), 0.5), atol=0.02)
    assert torch.allclose(edge.var(0), torch.full((3,), 1 / 12), atol=0.01)
    assert (torch.corrcoef(edge.T) - torch.eye(3)).abs().max() < 0.06
    # The mean of an even draw inside 0..edge, with the edge even itself.
    assert torch.allclose(out[:, 0].float().mean(0) / 255, torch.full((3,), 0.25), atol=0.02)


def test_look_up_reads_each_channels_own_table() -> None:
    stored = images()
    table = torch.randint(0, 256, (len(stored), 256, 3), dtype=torch.uint8, generator=generator())
    out = image_ops.look_up(stored, table)
    for i, c in ((0, 0), (3, 1), (12, 2)):
        assert torch.equal(out[i, ..., c], table[i, :, c][stored[i, ..., c].long()])
