"""RandAugment, AugMix, CSSR's and randomized quantization of whole batches, drawn anew for every sample.

torchvision's v2 transforms draw ONE operation for all of a batch; here each sample draws its own, as if it were
transformed alone. Nothing is read back from the device: how many samples take each operation is drawn on the host,
and which samples those are, as a random permutation, on the device. Together that is one even, independent draw for
each sample, and each operation runs on its own samples only.

Random numbers come from `generator`, on the images' device, and `host`, on the CPU (on a CPU the two may be one).

Shapes: B batch, H W image, C channels, R regions, N chains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from trainables.data import image_ops as ops

Operation = Callable[..., torch.Tensor]  # of (images_BHWC, strength_B)
Strength = Callable[[torch.Tensor, int, int], torch.Tensor]  # of (level_B in -1..1, H, W); the sign is a coin's

# torchvision's RandAugment._AUGMENTATION_SPACE
RAND_AUGMENT: Mapping[str, tuple[Operation, Strength]] = {
    "Identity": (ops.identity, lambda level, H, W: level),
    "ShearX": (ops.shear_x, lambda level, H, W: 0.3 * level),
    "ShearY": (ops.shear_y, lambda level, H, W: 0.3 * level),
    "TranslateX": (ops.translate_x, lambda level, H, W: (150 / 331 * W * level).trunc()),
    "TranslateY": (ops.translate_y, lambda level, H, W: (150 / 331 * H * level).trunc()),
    "Rotate": (ops.rotate, lambda level, H, W: 30 * level),
    "Brightness": (ops.brightness, lambda level, H, W: 0.9 * level),
    "Color": (ops.color, lambda level, H, W: 0.9 * level),
    "Contrast": (ops.contrast, lambda level, H, W: 0.9 * level),
    "Sharpness": (ops.sharpness, lambda level, H, W: 0.9 * level),
    "Posterize": (ops.posterize, lambda level, H, W: (8 - 4 * level.abs()).round()),
    "Solarize": (ops.solarize, lambda level, H, W: 255 * (1 - level.abs())),
    "AutoContrast": (ops.autocontrast, lambda level, H, W: level),
    "Equalize": (ops.equalize, lambda level, H, W: level),
}

# augment_list of AGC's data/augmentations/randaugment.py, which the asymmetric code takes over. Its ranges are those of
# AutoAugment on ImageNet: pixels of a translation and of a box do not depend on the image's size, and Solarize is
# weaker with a higher level. Colours, brightness, contrast and sharpness go one way: the code has a coin for none.
AGC: Mapping[str, tuple[Operation, Strength]] = {
    "AutoContrast": (ops.autocontrast, lambda level, H, W: level),
    "Equalize": (ops.equalize, lambda level, H, W: level),
    "Invert": (ops.invert, lambda level, H, W: level),
    "Rotate": (ops.rotate, lambda level, H, W: 30 * level),
    "Posterize": (ops.posterize, lambda level, H, W: (4 * level.abs()).trunc().clamp(min=1)),
    "Solarize": (ops.solarize, lambda level, H, W: 256 * level.abs()),
    "SolarizeAdd": (ops.solarize_add, lambda level, H, W: (110 * level.abs()).trunc()),
    "Color": (ops.color, lambda level, H, W: 1.8 * level.abs() - 0.9),
    "Contrast": (ops.contrast, lambda level, H, W: 1.8 * level.abs() - 0.9),
    "Brightness": (ops.brightness, lambda level, H, W: 1.8 * level.abs() - 0.9),
    "Sharpness": (ops.sharpness, lambda level, H, W: 1.8 * level.abs() - 0.9),
    "ShearX": (ops.shear_x, lambda level, H, W: 0.3 * level),
    "ShearY": (ops.shear_y, lambda level, H, W: 0.3 * level),
    "CutoutAbs": (ops.cutout_abs, lambda level, H, W: 40 * level.abs()),
    "TranslateX": (ops.translate_x, lambda level, H, W: (100 * level).round()),
    "TranslateY": (ops.translate_y, lambda level, H, W: (100 * level).round()),
}
NOT_OF_DIGITS = ("Rotate", "TranslateX", "TranslateY")  # the code's list for SVHN and MNIST lacks them
OF_DIGITS = ("svhn", "mnist", "digits", "cut-digits")  # image sets with that list; the code knows the first two

# augmentations.py of google-research/augmix: the list without those that overlap with the test corruptions
AUGMIX: Mapping[str, tuple[Operation, Strength]] = {
    "AutoContrast": (ops.autocontrast, lambda level, H, W: level),
    "Equalize": (ops.equalize, lambda level, H, W: level),
    "Posterize": (ops.posterize, lambda level, H, W: 4 - (4 * level.abs()).trunc()),
    "Rotate": (partial(ops.rotate, mode="bilinear"), lambda level, H, W: (30 * level).trunc()),
    "Solarize": (ops.solarize, lambda level, H, W: 256 - (256 * level.abs()).trunc()),
    "ShearX": (partial(ops.shear_x, mode="bilinear"), lambda level, H, W: 0.3 * level),
    "ShearY": (partial(ops.shear_y, mode="bilinear"), lambda level, H, W: 0.3 * level),
    "TranslateX": (ops.translate_x, lambda level, H, W: (W / 3 * level).trunc()),
    "TranslateY": (ops.translate_y, lambda level, H, W: (H / 3 * level).trunc()),
}
MAX_DEPTH = 3  # of AugMix's chains

# What configs/basic.json of CSSR's code chooses from methods/augtools.py, for whole levels of 1 to 9. Its grey versions
# of an image are rounded as Pillow does, ours rounded down.
CSSR: Mapping[str, tuple[Operation, Strength]] = {
    "Brightness": (ops.brightness, lambda level, H, W: 1.8 * level.abs() / 10 - 0.9),
    "Color": (ops.color, lambda level, H, W: 0.9 * level.abs() / 10 - 0.95),
    "Equalize": (ops.equalize, lambda level, H, W: level),
    "Identity": (ops.identity, lambda level, H, W: level),
    "Posterize": (ops.posterize, lambda level, H, W: 4 + (4 * level.abs() / 10).trunc()),
    "Rotate": (ops.rotate, lambda level, H, W: (15 * level / 10).trunc()),
    "Sharpness": (ops.sharpness, lambda level, H, W: 1.8 * level.abs() / 10 - 0.95),
    "ShearX": (ops.shear_x, lambda level, H, W: 0.3 * level / 10),
    "ShearY": (ops.shear_y, lambda level, H, W: 0.3 * level / 10),
    "Solarize": (ops.solarize, lambda level, H, W: 256 - (256 * level.abs() / 10).trunc()),
}
# An operation is drawn evenly, and then a coin whether to apply it: as if there were as many that change nothing.
_CSSR_OR_NONE = {**CSSR, **{f"not {name}": CSSR["Identity"] for name in CSSR}}


def rand_augment(
    images_BHWC: torch.Tensor, num_ops: int, magnitude: int, generator: torch.Generator, host: torch.Generator
) -> torch.Tensor:
    """RandAugment (Cubuk et al. 2020, arXiv:1909.13719, Fig. 2) with torchvision's operations and ranges.

    Args:
        images_BHWC: uint8, 3 channels.
        num_ops: operations one after the other, each drawn evenly from the 14 (the paper's N).
        magnitude: 0..30, the same for all (the paper's M on torchvision's 31 bins). Directions are coins.

    Returns: uint8 B,H,W,C. Geometric operations read the nearest pixel and fill with black.
    """
    for _ in range(num_ops):
        level_B = _random_sign(len(images_BHWC), generator) * (magnitude / 30)
        images_BHWC = _one_operation_each(images_BHWC, level_B, RAND_AUGMENT, generator, host)
    return images_BHWC


def agc_rand_augment(
    images_BHWC: torch.Tensor,
    num_ops: int,
    magnitude: int,
    digits: bool,
    generator: torch.Generator,
    host: torch.Generator,
) -> torch.Tensor:
    """RandAugment as the code of AGC (Vaze et al. 2022) and of the asymmetric paper has it: other operations, other
    ranges. They apply it to an image as it is stored, before crop and flip.

    Args:
        images_BHWC: uint8, 3 channels.
        num_ops: operations one after the other, each drawn evenly from the 16, or from 13 for `digits`.
        magnitude: 0..30, the same for all. Directions of turns, shears and translations are coins.

    Returns: uint8 B,H,W,C. Geometric operations read the nearest pixel and fill with black.
    """
    space = {name: entry for name, entry in AGC.items() if not (digits and name in NOT_OF_DIGITS)}
    box, size = AGC["CutoutAbs"]
    space["CutoutAbs"] = (partial(box, generator=generator), size)
    for _ in range(num_ops):
        level_B = _random_sign(len(images_BHWC), generator) * (magnitude / 30)
        images_BHWC = _one_operation_each(images_BHWC, level_B, space, generator, host)
    return images_BHWC


def cssr_augment(images_BHWC: torch.Tensor, generator: torch.Generator, host: torch.Generator) -> torch.Tensor:
    """What CSSR's code calls strong augmentation CUST, after crop and flip: two operations, each drawn evenly from the
    10, applied with probability 1/2, at a level of 1 to 9 with a coin for its direction. Then always a grey box, half
    of the image's side. uint8 B,H,W,C; geometric operations read the nearest pixel and fill with black.

    `random_contrast` belongs to it, once the images are normalised.
    """
    for _ in range(2):
        level_B = torch.randint(1, 10, (len(images_BHWC),), generator=generator, device=generator.device)
        signed_B = _random_sign(len(images_BHWC), generator) * level_B
        images_BHWC = _one_operation_each(images_BHWC, signed_B, _CSSR_OR_NONE, generator, host)
    return ops.cutout_grey(images_BHWC, images_BHWC.shape[1] // 2, generator)


def random_contrast(images_BCHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normalised images times U(0.1, 2), a number each: CSSR's `manual_contrast`. Float B,C,H,W."""
    u_B = torch.rand(len(images_BCHW), generator=generator, device=generator.device)
    return images_BCHW * (0.1 + 1.9 * u_B)[:, None, None, None]


def augmix(
    images_BHWC: torch.Tensor, generator: torch.Generator, host: torch.Generator, severity: float = 3, width: int = 3
) -> torch.Tensor:
    """AugMix's mixing (Hendrycks et al. 2020, arXiv:1912.02781, Algorithm 1), with its alpha of 1.

    x_augmix = (1 - m) x + m * sum_i w_i chain_i(x), with w ~ Dirichlet(1, ..., 1) and m ~ Beta(1, 1). Each of the
    `width` chains is 1 to 3 operations at levels drawn from 0.1 to `severity` of 10. The Jensen-Shannon consistency
    loss that the paper trains with is not part of this; it needs two such views of a batch.

    Args:
        images_BHWC: uint8, 3 channels.
        severity: 0.1..10.

    Returns: uint8 B,H,W,C, rounded; the official code mixes after normalisation and does not round. Beyond the
    border is black, which blends into the bilinear reads next to it as in torchvision, unlike in Pillow.
    """
    B, N = len(images_BHWC), width * len(images_BHWC)
    device = images_BHWC.device
    depths = torch.randint(1, MAX_DEPTH + 1, (N,), generator=host).tolist()
    # In random order, the chains that still go on can always be the first ones.
    order_N = torch.randperm(N, generator=generator, device=device)
    chains = images_BHWC.index_select(0, order_N % B)
    for step in range(1, MAX_DEPTH + 1):
        going = sum(depth >= step for depth in depths)
        level = torch.rand(going, generator=generator, device=device) * (severity - 0.1) + 0.1
        level = _random_sign(going, generator) * level / 10
        chains[:going] = _one_operation_each(chains[:going], level, AUGMIX, generator, host)
    chains = chains.index_select(0, order_N.argsort())
    weights = mixing_weights(B, width, generator)[..., None, None, None]
    mixed = images_BHWC * weights[0]
    for chain, weight in zip(chains.split(B), weights[1:], strict=True):
        mixed += chain * weight
    return mixed.round_().to(torch.uint8)


def mixing_weights(batch: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """AugMix's weights of the original (1 - m) and of the chains (m * w), each sample's summing to 1. width + 1, B."""
    # Normalised exponentials are Dirichlet(1, ..., 1), and Beta(1, 1) is even over 0..1.
    w = torch.empty(width, batch, device=generator.device).exponential_(generator=generator)
    m = torch.rand(1, batch, generator=generator, device=generator.device)
    return torch.cat([1 - m, m * w / w.sum(0)])


def randomized_quantization(images_BHWC: torch.Tensor, regions: int, generator: torch.Generator) -> torch.Tensor:
    """Randomized quantization (Wu et al. 2023, arXiv:2212.08663); the official code's examples have 8 regions.

    For each channel of each sample, `regions` - 1 edges drawn evenly between its lowest and highest value divide
    this range; all values of a region become one value drawn evenly inside it.

    Args:
        images_BHWC: uint8.
        regions: at least 1.

    Returns: uint8 B,H,W,C; at most `regions` values in a channel, in the order of those they replace.
    """
    # As microsoft/random_quantize's spacing="random" and collapse_to_val="inside_random", on every sample. There,
    # images are float and stay so; here the new values are rounded. Its two epsilons above the highest value only
    # close the last region, which counting edges does without.
    B, C = len(images_BHWC), images_BHWC.shape[-1]
    device = images_BHWC.device
    low, high = (x.to(torch.float32)[:, None] for x in (images_BHWC.amin((1, 2)), images_BHWC.amax((1, 2))))
    edges_BRC = low + (high - low) * torch.rand(B, regions - 1, C, generator=generator, device=device).sort(1).values
    left, right = torch.cat([low, edges_BRC], 1), torch.cat([edges_BRC, high], 1)
    value_BRC = left + (right - left) * torch.rand(B, regions, C, generator=generator, device=device)
    level = torch.arange(256, device=device)[:, None, None]
    region_B256C = (level >= edges_BRC[:, None]).sum(2)
    return ops.look_up(images_BHWC, value_BRC.gather(1, region_B256C).round_().to(torch.uint8))


def _random_sign(batch: int, generator: torch.Generator) -> torch.Tensor:
    return 1 - 2 * torch.randint(2, (batch,), generator=generator, device=generator.device).to(torch.float32)


def _one_operation_each(
    images_BHWC: torch.Tensor,
    level_B: torch.Tensor,
    space: Mapping[str, tuple[Operation, Strength]],
    generator: torch.Generator,
    host: torch.Generator,
) -> torch.Tensor:
    """Each sample after one operation of `space`, drawn evenly, at its own level."""
    B, H, W, _ = images_BHWC.shape
    sizes = torch.bincount(torch.randint(len(space), (B,), generator=host), minlength=len(space)).tolist()
    order_B = torch.randperm(B, generator=generator, device=images_BHWC.device)
    groups = zip(space.values(), images_BHWC.index_select(0, order_B).split(sizes), level_B.split(sizes), strict=True)
    changed = torch.cat([operation(images, strength(level, H, W)) for (operation, strength), images, level in groups])
    return changed.index_select(0, order_B.argsort())
