"""Mixes and their own settings: each field is a setting, its annotation the values that it may take.

A default is the paper's; a recipe is a named bundle of what else is done. What a mix does with its settings is the file
of its name in `trainables.mixes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from trainables.reading.values import Positive, Range, Share, Weight

Recipes = dict[str, dict[str, Any]]
# What both official codes do to every image stays in their baselines, so that rows differ in the method alone.
OFFICIAL_IMAGES = {"crop_fill": "black"}


@dataclass(frozen=True)
class MixSettings:
    """What every mix declares. `version` goes up when its mathematics changes."""

    version: ClassVar[int] = 1
    recipes: ClassVar[Recipes] = {"paper": {}, "official": OFFICIAL_IMAGES}
    seen: ClassVar[bool] = (
        False  # whether it mixes images as the network sees them, so that these are there unmixed too
    )
    pairs: ClassVar[bool] = False  # whether its images show two, each with a label

    def idle(self) -> set[str]:
        """Settings that change nothing beside the others."""
        return set()


@dataclass(frozen=True)
class NoMixSettings(MixSettings):
    """Raw images."""


@dataclass(frozen=True)
class _SeenMixSettings(MixSettings):
    # One lambda and one box a batch: the released asymmetric code.
    recipes: ClassVar[Recipes] = {"paper": {}, "official": {**OFFICIAL_IMAGES, "mix_draw": "batch"}}
    seen: ClassVar[bool] = True

    mix_probability: Share = 0.5  # of a batch being mixed
    mix_draw: Literal["sample", "batch"] = "sample"  # the papers write one lambda a sample; code draws one a batch

    def idle(self) -> set[str]:
        return set() if self.mix_probability else set(vars(self)) - {"mix_probability"}


@dataclass(frozen=True)
class CutOutSettings(_SeenMixSettings):
    """CutOut (DeVries and Taylor, 2017): a grey box, its centre anywhere, cut off at the border."""

    recipes: ClassVar[Recipes] = {"paper": {}, "official": OFFICIAL_IMAGES}  # a box for each image there, too

    mix_probability: Share = 1.0  # always, as its authors and the asymmetric code have it
    cutout_size: Share = 0.25  # area of the box over the image's: 16 of 32 px, its authors on CIFAR-10 and that code


@dataclass(frozen=True)
class MixUpSettings(_SeenMixSettings):
    """MixUp (Zhang et al., 2018): a convex combination of two images and of their labels."""

    pairs: ClassVar[bool] = True

    mix_alpha: Positive = 1.0  # lambda ~ Beta(alpha, alpha)


@dataclass(frozen=True)
class CutMixSettings(MixUpSettings):
    """CutMix (Yun et al., 2019): a box of one image pasted into another, labels weighted by area."""


@dataclass(frozen=True)
class DecoupledCutMixSettings(CutMixSettings):
    """CutMix with the decoupled regulariser of Liu et al. (2022)."""

    decoupled_weight: Weight = 0.1  # eta of Liu et al.


@dataclass(frozen=True)
class BackMixSettings(MixSettings):
    """BackMix (Wang et al., TPAMI 2025, section IV). Each default is the paper's; `recipe: official`
    sets what the released file does instead (commit 7547199), wherever the two differ."""

    recipes: ClassVar[Recipes] = {
        "paper": {},
        "official": {
            "cut_size": 0.0625,
            "background": "dataset",
            "box_pair": "independent",
            "box_range": "inner",
            "ties": "first",
            "bank_read": "normalise",
            "bank_refresh": "epoch",
            "cam_from": "raw",
            **OFFICIAL_IMAGES,
        },
    }

    mask_ratio: Share = 0.25  # k: share of the bank's positions masked as foreground
    cut_size: Share = 0.25  # s: area of the box over the image's; the file uses 0.25 as a *side*, area 0.0625
    bank_decay: Annotated[float, Range(0, 1, open_low=True)] = 0.1  # beta: weight of the new CAM (Eq. 4)
    background: Literal["batch", "dataset"] = "batch"  # Alg. 1 picks within the batch, the file from all images
    background_class: Literal["any", "other"] = "any"  # supplement, Table I: "Random" and "Different"
    cam_from: Literal["mixed", "raw"] = "mixed"  # Alg. 1 takes the CAM of the mixed image; the file returns both views
    bank_init: Literal["constant", "random"] = "constant"  # "uniform distribution": equal positions, or U(0, 1) noise
    box_pair: Literal["same", "independent"] = "same"  # Eq. 3 has one M for both images; the file draws two boxes
    box_range: Literal["full", "inner"] = "full"  # the file's randint never reaches the last row and column
    ties: Literal["random", "first"] = "random"  # the file's argsort masks the same first positions of every fresh row
    bank_read: Literal["keep", "normalise"] = "keep"  # the file divides a row by its sum, in place, on each read
    bank_refresh: Literal["step", "epoch"] = "step"  # the file's loader workers see the bank of the last epoch

    def idle(self) -> set[str]:
        if self.cut_size:
            return set()
        return set(vars(self)) - {"cut_size", "bank_init"}  # a random bank draws numbers that others then do not get


MIXES: dict[str, type[MixSettings]] = {
    "none": NoMixSettings,
    "cutout": CutOutSettings,
    "mixup": MixUpSettings,
    "cutmix": CutMixSettings,
    "decoupled-cutmix": DecoupledCutMixSettings,
    "backmix": BackMixSettings,
}
