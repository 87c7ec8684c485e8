"""Objectives that learn a point for each class, and their own settings: GCPL, RPL, ARPL and ARPL+CS.

Every default is that of ARPL's released code (iCGY96/ARPL, commit 3ede8b38), which has them all. The BackMix paper's
sentence on training (WRN-40-4, lr 0.1, cosine) is how a trial trains where nothing is said; `recipe: original` and
`original-ood` are how that code does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from trainables.reading.values import Positive, Range, Weight
from trainables.settings.base import ObjectiveSettings
from trainables.settings.mixes import MIXES, BackMixSettings, MixSettings, Recipes

# How ARPL's code trains all of them, and its baseline: osr.py on the benchmark of open-set recognition.
ORIGINAL: dict[str, Any] = {
    "backbone": "vgg32",  # its classifier32
    "epochs": 100,
    "batch_size": 64,
    "optimizer": "sgd",  # on Tiny-ImageNet Adam, with an lr of 0.001 and no weight decay
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 1e-4,  # on points and radius, too
    "schedule": "multistep",
    "milestones": [30, 60, 90],  # and 120, which 100 epochs do not reach
    "lr_factor": 0.1,
    "crop_padding": 4,  # not on MNIST
    "crop_fill": "black",
    "flip": True,  # SVHN's digits too, not MNIST's
    "normalisation": "none",  # as its generator's images, which end in a sigmoid
}
# The same of ood.py, on CIFAR-10 against other sets.
ORIGINAL_OOD = {
    **ORIGINAL,
    "backbone": "resnet34",
    "batch_size": 128,
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 0.0,
}


@dataclass(frozen=True)
class PointSettings(ObjectiveSettings):
    """What all of them have."""

    recipes: ClassVar[Recipes] = {"paper": {}, "official": {}, "original": ORIGINAL, "original-ood": ORIGINAL_OOD}
    own_head: ClassVar[bool] = True

    temperature: Positive = 1.0  # logits are divided by it in the loss, not in a test
    weight_pl: Weight = 0.1  # of the term on the distance to the true class's point; GCPL's own code has 0.001
    cam: Literal["pixel", "gradient"] = "pixel"  # BackMix's foreground: softmax of each position's logits, or Grad-CAM

    def idle(self, mix: MixSettings) -> set[str]:
        blind = type(mix) in MIXES.values() and not isinstance(mix, BackMixSettings)
        return {"cam"} if blind else set()


@dataclass(frozen=True)
class GcplSettings(PointSettings):
    """Convolutional prototypes (GCPL, Yang et al., CVPR 2018): an image is of the class whose prototype is near."""


@dataclass(frozen=True)
class RplSettings(PointSettings):
    """Reciprocal points (RPL, Chen et al., ECCV 2020): an image is of the class whose point is far, for the point
    stands for all that is not of it."""

    radius: Literal["shared", "per-class"] = "shared"  # R: the code has one for all classes, the paper one of each

    def idle(self, mix: MixSettings) -> set[str]:
        return super().idle(mix) | (set() if self.weight_pl else {"radius"})


@dataclass(frozen=True)
class ArplSettings(RplSettings):
    """Adversarial reciprocal points (ARPL, Chen et al., TPAMI 2021): reciprocal points that an image is far from in
    distance and in direction, at a bounded distance from its own."""

    defaults: ClassVar[dict[str, Any]] = {"score": "mls"}  # code, core/test.py: the largest logit, without a softmax

    margin: Weight = 1.0  # distances are drawn under R - margin; 0 for the equation of the paper, which has none

    def idle(self, mix: MixSettings) -> set[str]:
        return super().idle(mix) | (set() if self.weight_pl else {"margin"})


@dataclass(frozen=True)
class ArplCsSettings(ArplSettings):
    """ARPL+CS (Chen et al., TPAMI 2021): ARPL that also learns to be unsure of confusing samples, which a generator
    makes against a discriminator. Each epoch is two passes over the images: with them, and without."""

    passes: ClassVar[int] = 2

    confusing_weight: Weight = 0.1  # beta: of the certainty on confusing samples, for the classifier and the generator
    gan_lr: Positive = 2e-4  # of Adam, for generator and discriminator; no schedule
    gan_width: Annotated[int, Range(1, 512)] = 64  # their channels are multiples of it; the code's ngf and ndf

    @property
    def images_a_sample(self) -> int:
        return 2  # and a confusing one
