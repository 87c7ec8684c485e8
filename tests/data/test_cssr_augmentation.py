"""CSSR's strong augmentation against the same operations of Pillow on each image alone.

What is expected of an operation is written here from `methods/augtools.py` of its code (commit d5a99e9).
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from tests.helpers.pixels import HEIGHT, WIDTH, generator, images, moved
from tests.helpers.reads import NothingReadBack
from trainables.data import image_ops as ops
from trainables.data.augmentations import CSSR, cssr_augment, random_contrast
from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer

# Of each operation: what it does to an image with level v of 1 to 9; a level below 0 is the other direction.
PILLOW: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "Brightness": lambda i, v: ImageEnhance.Brightness(i).enhance(abs(v) * 1.8 / 10 + 0.1),
    "Color": lambda i, v: ImageEnhance.Color(i).enhance(abs(v) * 0.9 / 10 + 0.05),
    "Equalize": lambda i, v: ImageOps.equalize(i),
    "Identity": lambda i, v: i,
    "Posterize": lambda i, v: ImageOps.posterize(i, int(abs(v) * 4 / 10) + 4),
    "Rotate": lambda i, v: i.rotate(int(abs(v) * 15 / 10) * (1 if v > 0 else -1)),
    "Sharpness": lambda i, v: ImageEnhance.Sharpness(i).enhance(abs(v) * 1.8 / 10 + 0.05),
    "ShearX": lambda i, v: moved(i, (1, v * 0.3 / 10, 0, 0, 1, 0)),
    "ShearY": lambda i, v: moved(i, (1, 0, 0, v * 0.3 / 10, 1, 0)),
    "Solarize": lambda i, v: ImageOps.solarize(i, 256 - int(abs(v) * 256 / 10)),
}
FLOATS = ("Brightness", "Color", "Sharpness")  # rounded down: a whole level, or the one below it


def apply(name: str, stored: torch.Tensor, level_B: torch.Tensor) -> torch.Tensor:
    operation, strength = CSSR[name]
    return operation(stored, strength(level_B, *stored.shape[1:3]))


def test_the_operations_are_those_that_the_code_chooses() -> None:
    assert set(CSSR) == set(PILLOW)


@pytest.mark.parametrize("name", PILLOW)
def test_each_operation_equals_pillows_on_each_image_alone(name: str) -> None:
    stored = images()
    for level in range(1, 10):
        signed = torch.tensor([level, -level]).repeat(len(stored))[: len(stored)]
        ours = apply(name, stored, signed.float())
        alone = [PILLOW[name](Image.fromarray(i.numpy()), int(v)) for i, v in zip(stored, signed, strict=True)]
        difference = (ours.int() - torch.stack([torch.from_numpy(np.array(i)) for i in alone]).int()).abs()
        # Half-way between two pixels, a float's last bit decides which of them is read.
        if name == "Rotate":
            assert (difference > 0).float().mean() <= 0.005
        elif name in ("ShearX", "ShearY"):
            lines = difference.amax(dim=(0, 2, 3) if name == "ShearX" else (0, 1, 3))
            moved_by = level * 0.3 / 10 * (torch.arange(len(lines)) + 0.5)
            assert not lines[(moved_by % 1 - 0.5).abs() > 1e-5].any()
        else:
            assert difference.max() <= (1 if name in FLOATS else 0)


def test_a_box_is_where_the_code_draws_one_around_the_same_point() -> None:
    stored, side = images().repeat(8, 1, 1, 1), HEIGHT // 2
    ours = ops.cutout_grey(stored, side, generator(5))
    u = torch.rand(2, len(stored), generator=generator(5))
    for image, out, u_y, u_x in zip(stored, ours, *u.tolist(), strict=True):
        x, y = int(max(0, WIDTH * u_x - side / 2)), int(max(0, HEIGHT * u_y - side / 2))
        drawn = Image.fromarray(image.numpy())
        box = (x, y, int(min(WIDTH, x + side)), int(min(HEIGHT, y + side)))
        ImageDraw.Draw(drawn).rectangle(box, (127, 127, 127))
        assert torch.equal(out, torch.from_numpy(np.array(drawn)))


def test_two_operations_each_by_a_coin_at_levels_1_to_9(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that counts its calls in base 10 shows what was drawn for each sample."""

    def note(stored: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        return (stored.int() * 10 + strength[:, None, None, None].int()).to(torch.uint8)

    noted = {name: (note, lambda level, H, W: level.abs()) for name in CSSR}
    noted |= {f"not {name}": (ops.identity, lambda level, H, W: level) for name in CSSR}
    monkeypatch.setattr("trainables.data.augmentations._CSSR_OR_NONE", noted)
    monkeypatch.setattr(ops, "cutout_grey", lambda stored, side, generator: stored)
    samples = 20_000
    out = cssr_augment(torch.zeros(samples, 1, 1, 3, dtype=torch.uint8), generator(), generator(1))[:, 0, 0, 0]
    counts = torch.bincount(out.int(), minlength=100).double()
    expected = torch.zeros(100, dtype=torch.float64)
    expected[0] = 1 / 4  # neither
    expected[1:10] = 2 / 4 / 9  # one of the two, at an even level
    expected[[10 * a + b for a in range(1, 10) for b in range(1, 10)]] = 1 / 4 / 81  # both
    assert counts.sum() == samples
    wanted = samples * expected
    assert ((counts - wanted)[wanted > 0].square() / wanted[wanted > 0]).sum() < 137.2  # chi-square(90) at 0.1 %


def test_each_operation_is_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "cutout_grey", lambda stored, side, generator: stored)
    numbered = {
        name: (lambda stored, strength, i=i: stored + i, lambda level, H, W: level) for i, name in enumerate(CSSR, 1)
    }
    monkeypatch.setattr(
        "trainables.data.augmentations._CSSR_OR_NONE",
        {**numbered, **{f"not {name}": CSSR["Identity"] for name in CSSR}},
    )
    samples = 20_000
    out = cssr_augment(torch.zeros(samples, 1, 1, 3, dtype=torch.uint8), generator(), generator(1))[:, 0, 0, 0]
    one = np.array([0.5, *[0.05] * 10])  # none, or number 1 to 10
    wanted = samples * np.convolve(one, one)
    counts = np.bincount(out.numpy(), minlength=21)
    assert ((counts - wanted) ** 2 / wanted).sum() < 45.3  # chi-square(20) at 0.1 %


def test_contrast_is_a_factor_of_each_normalised_image() -> None:
    normalised = torch.randn(5000, 3, 2, 2, generator=generator())
    factor = random_contrast(normalised, generator(1)) / normalised
    assert torch.allclose(factor, factor[:, :1, :1, :1].expand_as(factor), rtol=1e-4)
    u = (factor[:, 0, 0, 0] - 0.1) / 1.9
    gap = u.sort().values - torch.linspace(0, 1, len(u))
    assert gap.abs().max() < 1.95 / math.sqrt(len(u))  # Kolmogorov-Smirnov at 0.1 %


def test_nothing_is_read_back_from_the_device() -> None:
    stored = images()
    with NothingReadBack():
        cssr_augment(stored, generator(), generator(1))
    assert torch.equal(stored, images())  # the originals stay


def test_a_trial_applies_it_after_crop_and_flip_and_the_contrast_to_what_is_normalised() -> None:
    config = resolve({"method": "plain", "backbone": "wrn10-1", "batch_size": 8, "augment": "cssr"})
    pixels, rows = images(32, 32).numpy(), np.arange(17)
    data = TrialData(
        (0, 1, 2), 32, True, Samples(ImageSet("noise", pixels, rows % 3, rows, "noise", 0, ""), rows, rows % 3)
    )
    seen = Trainer(config, data, torch.device("cpu")).mix.images
    assert seen.augmentation is not None
    assert seen.augmentation_last is not None
    state = seen.generator.get_state(), seen.host.get_state()
    ours = seen.augmentation(images(32, 32)), seen.augmentation_last(torch.ones(4, 3, 2, 2))
    device, host = (torch.Generator() for _ in range(2))
    device.set_state(state[0])
    host.set_state(state[1])
    assert torch.equal(ours[0], cssr_augment(images(32, 32), device, host))
    assert torch.equal(ours[1], random_contrast(torch.ones(4, 3, 2, 2), device))
    batch, _ = seen.augment(images(32, 32))
    assert batch.amax() > 2  # further from grey than any pixel: nothing was cut
