"""RandAugment of AGC's and the asymmetric paper's code, against the same operations of Pillow on each image alone.

What is expected of an operation is written here from `data/augmentations/randaugment.py` of the former.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from tests.helpers.pixels import HEIGHT, WIDTH, generator, images, moved
from tests.helpers.reads import NothingReadBack
from tests.helpers.references import pool, training_images
from trainables.data.augment import normalise
from trainables.data.augmentations import AGC, NOT_OF_DIGITS, agc_rand_augment
from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer

ROTATED = ("Rotate", "ShearX", "ShearY")  # read between pixels: half-way, either of the two by a float's last bit
FLOATS = (
    "AutoContrast",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
)  # rounded down: a whole level, or the one below it


def solarize_add(image: Image.Image, added: float) -> Image.Image:
    lighter = np.clip(np.asarray(image).astype(int) + added, 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(lighter), 128)


# Of each operation: what it does to an image with a value, and the values for magnitudes 0 and 30. What turns, shears
# and translates takes the value with a coin for its sign.
PILLOW: dict[str, tuple[Callable[[Image.Image, float], Image.Image], float, float]] = {
    "AutoContrast": (lambda i, _: ImageOps.autocontrast(i), 0, 1),
    "Equalize": (lambda i, _: ImageOps.equalize(i), 0, 1),
    "Invert": (lambda i, _: ImageOps.invert(i), 0, 1),
    "Rotate": (lambda i, v: i.rotate(v), 0, 30),
    "Posterize": (lambda i, v: ImageOps.posterize(i, max(1, int(v))), 0, 4),
    "Solarize": (lambda i, v: ImageOps.solarize(i, v), 0, 256),
    "SolarizeAdd": (solarize_add, 0, 110),
    "Color": (lambda i, v: ImageEnhance.Color(i).enhance(v), 0.1, 1.9),
    "Contrast": (lambda i, v: ImageEnhance.Contrast(i).enhance(v), 0.1, 1.9),
    "Brightness": (lambda i, v: ImageEnhance.Brightness(i).enhance(v), 0.1, 1.9),
    "Sharpness": (lambda i, v: ImageEnhance.Sharpness(i).enhance(v), 0.1, 1.9),
    "ShearX": (lambda i, v: moved(i, (1, v, 0, 0, 1, 0)), 0, 0.3),
    "ShearY": (lambda i, v: moved(i, (1, 0, 0, v, 1, 0)), 0, 0.3),
    "TranslateX": (lambda i, v: moved(i, (1, 0, v, 0, 1, 0)), 0, 100),
    "TranslateY": (lambda i, v: moved(i, (1, 0, 0, 0, 1, v)), 0, 100),
}
SIGNED = {"Rotate": 1, "ShearX": 1, "ShearY": 1, "TranslateX": -1, "TranslateY": -1}  # and which of our signs is theirs


def value(name: str, magnitude: int) -> float:
    _, low, high = PILLOW[name]
    return magnitude / 30 * (high - low) + low


def of_pillow(image_HWC: torch.Tensor, name: str, magnitude: int, sign: int) -> torch.Tensor:
    v = value(name, magnitude) * (sign * SIGNED[name] if name in SIGNED else 1)
    return torch.from_numpy(np.array(PILLOW[name][0](Image.fromarray(image_HWC.numpy()), v)))


def apply(name: str, stored: torch.Tensor, level_B: torch.Tensor) -> torch.Tensor:
    operation, strength = AGC[name]
    return operation(stored, strength(level_B, *stored.shape[1:3]))


def test_the_operations_are_those_of_the_code() -> None:
    assert set(AGC) == {*PILLOW, "CutoutAbs"}
    assert len(AGC) == 16
    assert len(set(AGC) - set(NOT_OF_DIGITS)) == 13


@pytest.mark.parametrize("name", PILLOW)
@pytest.mark.parametrize("magnitude", [0, 1, 6, 9, 18, 30])
def test_each_operation_equals_pillows_on_each_image_alone(name: str, magnitude: int) -> None:
    stored = images()
    sign = torch.tensor([1, -1]).repeat(len(stored))[: len(stored)]
    ours = apply(name, stored, sign * (magnitude / 30))
    one_by_one = [of_pillow(image, name, magnitude, int(s)) for image, s in zip(stored, sign, strict=True)]
    difference = (ours.int() - torch.stack(one_by_one).int()).abs()
    if name in ROTATED:
        assert (difference > 0).float().mean() <= 0.005
    elif name in FLOATS:
        # Pillow rounds what is grey to the nearest level, ours rounds it down: at most one level after a blend.
        assert difference.max() <= 1
    else:
        assert difference.max() == 0


@pytest.mark.parametrize("magnitude", range(31))
def test_whole_strengths_are_those_of_the_code_at_every_magnitude(magnitude: int) -> None:
    level = torch.tensor([magnitude / 30])
    whole = {name: float(AGC[name][1](level, 32, 32)) for name in ("Posterize", "SolarizeAdd", "TranslateX")}
    assert whole["Posterize"] == max(1, int(value("Posterize", magnitude)))
    assert whole["SolarizeAdd"] == int(value("SolarizeAdd", magnitude))
    assert whole["TranslateX"] == math.floor(value("TranslateX", magnitude) + 0.5)
    # Which levels are inverted: whole numbers of at least the threshold.
    assert math.ceil(float(AGC["Solarize"][1](level, 32, 32))) == math.ceil(value("Solarize", magnitude))


def test_at_magnitude_9_an_image_moves_30_px_and_keeps_one_bit() -> None:
    stored = torch.full((1, 32, 32, 3), 200, dtype=torch.uint8)
    level = torch.tensor([9 / 30])
    assert (apply("TranslateX", stored, level) > 0).sum() == 2 * 32 * 3
    assert apply("Posterize", stored, level).unique().tolist() == [128]


@pytest.mark.parametrize("magnitude", [0, 1, 9, 30])
def test_a_box_is_where_the_code_draws_one_around_the_same_point(magnitude: int) -> None:
    stored = images().repeat(8, 1, 1, 1)
    operation, strength = AGC["CutoutAbs"]
    level = torch.full((len(stored),), magnitude / 30)
    ours = operation(stored, strength(level, HEIGHT, WIDTH), generator=generator(5))
    u, v = torch.rand(2, len(stored), generator=generator(5)), magnitude / 30 * 40
    for image, out, u_y, u_x in zip(stored, ours, *u.tolist(), strict=True):
        x, y = WIDTH + (1 - WIDTH) * u_x, HEIGHT + (1 - HEIGHT) * u_y  # numpy.random.uniform(WIDTH), of HEIGHT
        x, y = int(max(0, x - v / 2)), int(max(0, y - v / 2))
        drawn = Image.fromarray(image.numpy())
        ImageDraw.Draw(drawn).rectangle((x, y, min(WIDTH, x + v), min(HEIGHT, y + v)), (125, 123, 114))
        assert torch.equal(out, torch.from_numpy(np.array(drawn)))


def test_a_batch_may_hold_many_strengths_and_none_at_all() -> None:
    stored = images(9, 12)
    level = torch.linspace(-1, 1, len(stored))
    for name in PILLOW:
        alone = [apply(name, stored[i : i + 1], level[i : i + 1]) for i in range(len(stored))]
        assert torch.equal(apply(name, stored, level), torch.cat(alone)), name
        assert apply(name, stored[:0], level[:0]).shape == (0, 9, 12, 3)


def drawn(stored: torch.Tensor, digits: bool, seed: int = 0) -> torch.Tensor:
    return agc_rand_augment(stored, 1, 9, digits, generator(seed), generator(seed + 1))


@pytest.mark.parametrize("digits", [False, True])
def test_each_operation_is_drawn_evenly_for_each_sample(digits: bool) -> None:
    one = torch.randint(20, 230, (1, 32, 32, 3), dtype=torch.uint8, generator=generator())
    samples = 3000
    out = drawn(one.expand(samples, -1, -1, -1), digits)
    names = [name for name in PILLOW if not (digits and name in NOT_OF_DIGITS)]
    counts = []
    for name in names:
        signed = [apply(name, one, torch.tensor([sign * 9 / 30])) for sign in (1.0, -1.0)]
        by_sign = [int((out == candidate).all(dim=(1, 2, 3)).sum()) for candidate in signed]
        counts.append(by_sign[0] if torch.equal(*signed) else sum(by_sign))
        if name in SIGNED:
            assert abs(by_sign[0] - by_sign[1]) < 4 * math.sqrt(sum(by_sign))
    box = (out == torch.tensor([125, 123, 114], dtype=torch.uint8)).all(-1).flatten(1).sum(1) > 30
    counts.append(int(box.sum()))  # the box's place is another one each time
    expected = samples / (len(names) + 1)
    assert sum(counts) == samples  # every sample is one of the operations' outputs, and identity is none of them
    assert sum((n - expected) ** 2 / expected for n in counts) < (32.9 if digits else 37.7)  # chi-square, 0.1 %


def test_same_seeds_same_result_and_other_seeds_another() -> None:
    stored = images()
    assert torch.equal(drawn(stored, False), drawn(stored, False))
    assert not torch.equal(drawn(stored, False), drawn(stored, False, seed=7))
    assert torch.equal(stored, images())  # the originals stay


def test_nothing_is_read_back_from_the_device() -> None:
    with NothingReadBack():
        drawn(images(), False)


def test_it_comes_before_crop_and_flip() -> None:
    """What is beyond the border is black after an image was inverted, not white."""
    known = pool(torch.zeros(64, dtype=torch.int64), size=8)
    known.images.zero_()  # type: ignore[attr-defined]
    inverted = partial(torch.sub, torch.tensor(255, dtype=torch.uint8))
    before, _ = training_images(known, 2, crop_fill="black", augmentation_first=inverted).augment(
        known[torch.arange(64)]
    )
    after, _ = training_images(known, 2, crop_fill="black", augmentation=inverted).augment(known[torch.arange(64)])
    black, white = (float(normalise(torch.full((1, 1, 1, 3), v, dtype=torch.uint8)).mean()) for v in (0, 255))
    assert set(before.unique().tolist()) == {black, white}
    assert after.unique().tolist() == [white]


@pytest.mark.parametrize(("protocol", "digits"), [("cifar10", False), ("svhn", True), ("mnist", True)])
def test_a_trial_has_the_list_of_its_set_and_its_n_and_m(protocol: str, digits: bool) -> None:
    settings = {"backbone": "wrn10-1", "batch_size": 8, "augment_first": "agc-randaugment", "randaugment_ops": 2}
    settings |= {"method": "plain", "randaugment_magnitude": 20, "protocol": protocol}
    config = resolve({**settings, "split_family": "agc"})
    pixels, rows = images(32, 32).numpy(), np.arange(17)
    source = ImageSet("noise", pixels, rows % 3, rows, "noise", 0, "drawn here")
    data = TrialData((0, 1, 2), 32, True, Samples(source, rows, rows % 3))
    trainer = Trainer(config, data, torch.device("cpu"))
    first = trainer.mix.images.augmentation_first
    assert first is not None
    device, host = (torch.Generator() for _ in range(2))
    device.set_state(trainer.generator.get_state())
    host.set_state(trainer.host.get_state())
    assert torch.equal(first(images(32, 32)), agc_rand_augment(images(32, 32), 2, 20, digits, device, host))
