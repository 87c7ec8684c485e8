"""Methods and their own settings: each field is a setting, its annotation the values it may take.

Nothing here imports torch. A default is the paper's; a recipe is a named bundle of what else is done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal


@dataclass(frozen=True)
class Range:
    """Bounds of a number; `open_low` excludes the lower one."""

    low: float
    high: float = float("inf")
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return above and value <= self.high and (isinstance(value, int) or math.isfinite(value))

    def __str__(self) -> str:
        below = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        return below if self.high == float("inf") else f"{below} and at most {self.high:g}"


Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, open_low=True)]
MixName = Literal["none", "cutout", "mixup", "cutmix", "decoupled-cutmix"]
OutlierSet = Literal[
    "digits",
    "photos",
    "cifar10",
    "cifar100",
    "svhn",
    "tiny-imagenet",
    "tinyimages",
    "textures",
    "lsun-fix",
    "imagenet-fix",
    "flower102",
    "places",
]

Recipes = dict[str, dict[str, Any]]
# What both official codes do to every image stays in their baselines, so that rows differ in the method alone.
_OFFICIAL_IMAGES = {"crop_fill": "black"}
_OFFICIAL_MIX = {**_OFFICIAL_IMAGES, "mix_draw": "batch"}  # the released asymmetric code: one lambda and box a batch


@dataclass(frozen=True)
class MethodSettings:
    """What every method declares. `version` goes up when the learner's mathematics changes."""

    version: ClassVar[int] = 1
    recipes: ClassVar[Recipes] = {"paper": {}}


@dataclass(frozen=True)
class PlainSettings(MethodSettings):
    """Cross-entropy on raw images: the baseline of every table."""

    recipes: ClassVar[Recipes] = {"paper": {}, "official": _OFFICIAL_IMAGES}

    label_smoothing: Share = 0.0  # AGC's recipe has 0.9 on Tiny-ImageNet


@dataclass(frozen=True)
class BackMixSettings(MethodSettings):
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
            **_OFFICIAL_IMAGES,
        },
    }

    mask_ratio: Share = 0.25  # k: share of the bank's cells masked as foreground
    cut_size: Share = 0.25  # s: area of the box over the image's; the file uses 0.25 as a *side*, area 0.0625
    bank_decay: Annotated[float, Range(0, 1, open_low=True)] = 0.1  # beta: weight of the new CAM (Eq. 4)
    background: Literal["batch", "dataset"] = "batch"  # Alg. 1 picks within the batch, the file from all images
    background_class: Literal["any", "other"] = "any"  # supplement, Table I: "Random" and "Different"
    cam_from: Literal["mixed", "raw"] = "mixed"  # Alg. 1 takes the CAM of the mixed image; the file returns both views
    bank_init: Literal["constant", "random"] = "constant"  # "uniform distribution": equal cells, or U(0, 1) noise
    box_pair: Literal["same", "independent"] = "same"  # Eq. 3 has one M for both images; the file draws two boxes
    box_range: Literal["full", "inner"] = "full"  # the file's randint never reaches the last row and column
    ties: Literal["random", "first"] = "random"  # the file's argsort masks the same first cells of every fresh row
    bank_read: Literal["keep", "normalise"] = "keep"  # the file divides a row by its sum, in place, on each read
    bank_refresh: Literal["step", "epoch"] = "step"  # the file's loader workers see the bank of the last epoch


@dataclass(frozen=True)
class CutOutSettings(MethodSettings):
    """CutOut (DeVries and Taylor, 2017): a grey box, its centre anywhere, cut off at the border."""

    recipes: ClassVar[Recipes] = {"paper": {}, "official": _OFFICIAL_IMAGES}
    mix: ClassVar[str] = "cutout"

    mix_probability: Share = 1.0  # of a batch being mixed: always, as its authors and the asymmetric code have it
    cutout_size: Share = 0.25  # area of the box over the image's: 16 of 32 px, its authors on CIFAR-10 and that code
    mix_draw: Literal["sample", "batch"] = "sample"  # a box for each image, or one for a whole batch


@dataclass(frozen=True)
class MixUpSettings(MethodSettings):
    """MixUp (Zhang et al., 2018): a convex combination of two images and of their labels."""

    recipes: ClassVar[Recipes] = {"paper": {}, "official": _OFFICIAL_MIX}
    mix: ClassVar[str] = "mixup"

    mix_probability: Share = 0.5
    mix_alpha: Positive = 1.0  # lambda ~ Beta(alpha, alpha)
    mix_draw: Literal["sample", "batch"] = "sample"  # the papers write one lambda a sample; code draws one a batch


@dataclass(frozen=True)
class CutMixSettings(MixUpSettings):
    """CutMix (Yun et al., 2019): a box of one image pasted into another, labels weighted by area."""

    mix: ClassVar[str] = "cutmix"


@dataclass(frozen=True)
class DecoupledCutMixSettings(CutMixSettings):
    """CutMix with the decoupled regulariser of Liu et al. (2022)."""

    mix: ClassVar[str] = "decoupled-cutmix"

    decoupled_weight: Weight = 0.1  # eta of Liu et al.


@dataclass(frozen=True)
class AnyMixSettings(MethodSettings):
    """For methods that take any mix: its name, and what the mixes have."""

    mix: MixName = "cutmix"
    mix_alpha: Positive = 1.0
    mix_draw: Literal["sample", "batch"] = "sample"
    cutout_size: Share = 0.25
    decoupled_weight: Weight = 0.1


@dataclass(frozen=True)
class DistillSettings(AnyMixSettings):
    """Symmetric distillation, raw or mixed: student and teacher see the same images (Asymmetric paper, section 2.3).

    `teacher` is what its trial changes of this one's settings; the images and their division stay the same.
    """

    recipes: ClassVar[Recipes] = {"paper": {}, "official": _OFFICIAL_MIX}

    teacher: Mapping[str, Any] = field(default_factory=dict)
    mix: MixName = "none"
    mix_probability: Share = 0.5
    distillation: Literal["dist", "kl"] = "dist"  # L_Distill: DIST (Huang et al., 2022) or Hinton's
    # The paper gives none of these: the asymmetric code's. DIST's own configs have weights 2 and, on CIFAR-100, tau 4.
    temperature: Positive = 1.0  # tau of the softmax, for teacher and student
    inter_weight: Weight = 1.0  # DIST's beta: relations between classes, a sample at a time
    intra_weight: Weight = 1.0  # DIST's gamma: relations between samples, a class at a time
    ce_weight: Weight = 1.0  # of cross-entropy with the labels; the official MobileNet file has 0.95
    distill_weight: Weight = 1.0


@dataclass(frozen=True)
class AsymmetricSettings(DistillSettings):
    """Asymmetric distillation (Jia et al., IJCAI 2024, section 3). Defaults are the paper's; `recipe: official`
    sets what the released code does in a step (commit 514e6d2), repaired where it cannot run. What it does to all
    of training (lr 0.025, one epoch of warm-up, `augment_first: agc-randaugment`) belongs to `base`, so that baselines
    share it: the profile `official` of search_spaces/asymmetric.yaml."""

    recipes: ClassVar[Recipes] = {
        "paper": {},
        "official": {
            **_OFFICIAL_MIX,
            "distill_target": "raw",
            "distill_samples": "accepted",
            "relabel": "hard",
            "relabel_mean": "rejected",
            "raw_pass": True,
        },
    }

    mix: MixName = "cutmix"  # with cutout only the mutual information is used (App. D.1)
    cmi_weight: Weight = 1.0  # mu of Eq. 8
    relabel_weight: Weight = 1.0  # eta of Eq. 8
    relabel_ratio: Share = 0.5  # share of the uniform label in the two-hot target
    cmi: Literal["cross", "single"] = "cross"  # Table 13: both raw images, or only the one with the larger share
    cmi_on: Literal["logits", "features"] = "logits"  # Eq. 6 has features; the code softmaxed logits
    distill_on: Literal["logits", "features"] = "logits"  # Fig. 3's caption has features; 2.3 and the code outputs
    verification: Literal["relaxed", "exact"] = "relaxed"  # Table 13: either class will do, or the larger one
    distill_target: Literal["mixed", "raw"] = "mixed"  # Fig. 3 shows the teacher the mix; the code the raw image
    distill_samples: Literal["all", "accepted"] = "all"  # the code distils only what the verification accepted
    relabel: Literal["two-hot", "hard"] = "two-hot"  # the code smooths the target by 0
    relabel_mean: Literal["batch", "rejected"] = "batch"  # Eq. 7's indicator; the code averages the rejected alone
    raw_pass: bool = False  # the code's unused raw pass moves batch statistics on mixed steps, too


@dataclass(frozen=True)
class TeacherFreeSettings(AnyMixSettings):
    """The teacher-free edition (Asymmetric paper, App. C, Eq. 9 to 11)."""

    mi_weight: Weight = 1.0  # mu of Eq. 11
    uniform_weight: Weight = 1.0  # eta of Eq. 11
    tau_upper: Share = 0.8  # the text sets 0.95, but Tables 10 and 11 and the text's optimum are 0.8 and 0.5
    tau_lower: Share = 0.5
    inter_weight: Weight = 1.0
    intra_weight: Weight = 1.0


@dataclass(frozen=True)
class CatImgSettings(MethodSettings):
    """CatImg (BackMix paper, section III-B): each known image with an outlier below it, in one picture."""

    outlier_set: OutlierSet = "tiny-imagenet"  # its training images, of 20 classes; the paper has 80M Tiny Images


@dataclass(frozen=True)
class FtAvgSettings(CatImgSettings):
    """FtAvg (BackMix paper, section III-B): features of a known image and of an outlier, averaged (Eq. 1)."""

    foreground_share: Share = 0.5  # lambda of Eq. 1


@dataclass(frozen=True)
class OutlierExposureSettings(CatImgSettings):
    """Outlier exposure (Hendrycks et al., 2019; BackMix paper, Eq. 2)."""

    outlier_weight: Weight = 0.5  # alpha of Eq. 2, which the BackMix paper leaves open; Hendrycks' value
    outliers_per_image: Annotated[int, Range(1, 8)] = 2  # Hendrycks' outlier batch is 256 beside 128


METHODS: dict[str, type[MethodSettings]] = {
    "plain": PlainSettings,
    "cutout": CutOutSettings,
    "mixup": MixUpSettings,
    "cutmix": CutMixSettings,
    "decoupled-cutmix": DecoupledCutMixSettings,
    "backmix": BackMixSettings,
    "distill": DistillSettings,
    "asymmetric": AsymmetricSettings,
    "teacher-free": TeacherFreeSettings,
    "oe": OutlierExposureSettings,
    "catimg": CatImgSettings,
    "ftavg": FtAvgSettings,
}
