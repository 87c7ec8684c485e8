"""Objectives and their own settings: each field is a setting, its annotation the values that it may take.

A default is the paper's; a recipe is a named bundle of what else is done. What an objective does with its settings is
the file of its name in `trainables.objectives`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from trainables.reading.values import Positive, Range, Share, Weight
from trainables.settings.base import ObjectiveSettings
from trainables.settings.distillation import CutMixPickSettings
from trainables.settings.dummies import OpenMixSettings, ProserSettings
from trainables.settings.image_text import A2PtSettings, ClipSettings, CoOpSettings, LoCoOpSettings, VptSettings
from trainables.settings.mixes import MixSettings, Recipes
from trainables.settings.points import ArplCsSettings, ArplSettings, GcplSettings, RplSettings
from trainables.settings.reconstruction import CSSRSettings, RCSSRSettings

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


@dataclass(frozen=True)
class CrossEntropySettings(ObjectiveSettings):
    """Cross-entropy with the labels that the mix gives: the baseline of every table, and BackMix."""

    recipes: ClassVar[Recipes] = {"paper": {}, "official": {}}

    label_smoothing: Share = 0.0  # AGC's recipe has 0.9 on Tiny-ImageNet
    smoothing_over: Literal["all", "others"] = "all"  # classes that share it; others: without the true one, as AGC's
    head_bias: bool = (
        True  # false: the head of CSSR's `linear`, and of ARPL's and AGC's code, which begins otherwise too
    )

    def idle(self, mix: MixSettings) -> set[str]:
        return set() if self.label_smoothing else {"smoothing_over"}


@dataclass(frozen=True)
class DistillSettings(ObjectiveSettings):
    """Symmetric distillation, raw or mixed: student and teacher see the same images (Asymmetric paper, section 2.3).

    `teacher` is what its trial changes of this one's settings; the images and their division stay the same.
    """

    recipes: ClassVar[Recipes] = {"paper": {}, "official": {}}
    defaults: ClassVar[dict[str, Any]] = {"mix": "none", "mix_probability": 0.5}  # "randomly trained using either"

    teacher: Mapping[str, Any] = field(default_factory=dict)
    distillation: Literal["dist", "kl"] = "dist"  # L_Distill: DIST (Huang et al., 2022) or Hinton's
    # The paper gives none of these: the asymmetric code's. DIST's own configs have weights 2 and, on CIFAR-100, tau 4.
    temperature: Positive = 1.0  # tau of the softmax, for teacher and student
    inter_weight: Weight = 1.0  # DIST's beta: relations between classes, a sample at a time
    intra_weight: Weight = 1.0  # DIST's gamma: relations between samples, a class at a time
    ce_weight: Weight = 1.0  # of cross-entropy with the labels; the official MobileNet file has 0.95
    distill_weight: Weight = 1.0

    def idle(self, mix: MixSettings) -> set[str]:
        if not self.distill_weight:
            return {"distillation", "temperature", "inter_weight", "intra_weight"}
        return {"inter_weight", "intra_weight"} if self.distillation == "kl" else set()


@dataclass(frozen=True)
class AsymmetricSettings(DistillSettings):
    """Asymmetric distillation (Jia et al., IJCAI 2024, section 3). Defaults are the paper's; `recipe: official`
    sets what the released code does in a step (commit 514e6d2), repaired where it cannot run. What it does to all
    of training (lr 0.025, one epoch of warm-up, `augment_first: agc-randaugment`) belongs to `base`, so that baselines
    share it: the profile `official` of search_spaces/asymmetric.yaml."""

    recipes: ClassVar[Recipes] = {
        "paper": {},
        "official": {
            "distill_target": "raw",
            "distill_samples": "accepted",
            "relabel": "hard",
            "relabel_mean": "rejected",
            "raw_pass": True,
        },
    }
    defaults: ClassVar[dict[str, Any]] = {**DistillSettings.defaults, "mix": "cutmix"}

    cmi_weight: Weight = 1.0  # mu of Eq. 8; with cutout only the mutual information is used (App. D.1)
    relabel_weight: Weight = 1.0  # eta of Eq. 8
    relabel_ratio: Share = 0.5  # share of the uniform label in the two-hot target
    cmi: Literal["cross", "single"] = "cross"  # Table 13: both raw images, or only the one with the larger part
    cmi_on: Literal["logits", "features"] = "logits"  # Eq. 6 has features; the code softmaxed logits
    distill_on: Literal["logits", "features"] = "logits"  # Fig. 3's caption has features; 2.3 and the code outputs
    verification: Literal["relaxed", "exact"] = "relaxed"  # Table 13: either class will do, or the larger one
    distill_target: Literal["mixed", "raw"] = "mixed"  # Fig. 3 shows the teacher the mix; the code the raw image
    distill_samples: Literal["all", "accepted"] = "all"  # the code distils only what the verification accepted
    relabel: Literal["two-hot", "hard"] = "two-hot"  # the code smooths the target by 0
    relabel_mean: Literal["batch", "rejected"] = "batch"  # Eq. 7's indicator; the code averages the rejected alone
    raw_pass: bool = False  # the code's unused raw pass moves batch statistics on mixed steps, too

    def refuses(self, mix: MixSettings) -> str:
        return (
            ""
            if mix.seen
            else "compares mixed images with the raw ones that they are made of: take a mix that has both"
        )

    def idle(self, mix: MixSettings) -> set[str]:
        of_relabel = {"relabel_ratio", "relabel", "relabel_mean"}
        of_logits = self.distill_on == "logits" or (self.cmi_on == "logits" and self.cmi_weight)
        idle = set() if of_logits else {"temperature"}
        if not mix.pairs:  # one image: the verification and what follows from it are about two
            return idle | {"relabel_weight", "verification", "distill_target", "distill_samples", *of_relabel}
        if not self.relabel_weight:
            return idle | of_relabel
        return idle | ({"relabel_ratio"} if self.relabel == "hard" else set())


@dataclass(frozen=True)
class TeacherFreeSettings(ObjectiveSettings):
    """The teacher-free edition (Asymmetric paper, App. C, Eq. 9 to 11)."""

    defaults: ClassVar[dict[str, Any]] = {"mix": "cutmix"}

    mi_weight: Weight = 1.0  # mu of Eq. 11
    uniform_weight: Weight = 1.0  # eta of Eq. 11
    tau_upper: Share = 0.8  # the text sets 0.95, but Tables 10 and 11 and the text's optimum are 0.8 and 0.5
    tau_lower: Share = 0.5
    inter_weight: Weight = 1.0
    intra_weight: Weight = 1.0

    def refuses(self, mix: MixSettings) -> str:
        return "" if mix.pairs else "compares a mix with the two images that it is made of: take a mix of two"

    @property
    def images_a_sample(self) -> int:
        return 3  # raw, and mixed twice

    def idle(self, mix: MixSettings) -> set[str]:
        return {"mix_probability"}  # every batch is seen raw and mixed


@dataclass(frozen=True)
class CatImgSettings(ObjectiveSettings):
    """CatImg (BackMix paper, section III-B): each known image with an outlier below it, in one picture."""

    outlier_set: OutlierSet = "tiny-imagenet"  # its training images, of 20 classes; the paper has 80M Tiny Images

    @property
    def images_a_sample(self) -> int:
        return 2


@dataclass(frozen=True)
class FtAvgSettings(CatImgSettings):
    """FtAvg (BackMix paper, section III-B): features of a known image and of an outlier, averaged (Eq. 1)."""

    foreground_share: Share = 0.5  # lambda of Eq. 1


@dataclass(frozen=True)
class OutlierExposureSettings(CatImgSettings):
    """Outlier exposure (Hendrycks et al., 2019; BackMix paper, Eq. 2)."""

    outlier_weight: Weight = 0.5  # alpha of Eq. 2, which the BackMix paper leaves open; Hendrycks' value
    outliers_per_image: Annotated[int, Range(1, 8)] = 2  # Hendrycks' outlier batch is 256 beside 128

    @property
    def images_a_sample(self) -> int:
        return 1 + self.outliers_per_image


OBJECTIVES: dict[str, type[ObjectiveSettings]] = {
    "ce": CrossEntropySettings,
    "distill": DistillSettings,
    "asymmetric": AsymmetricSettings,
    "cmpkd": CutMixPickSettings,
    "proser": ProserSettings,
    "openmix": OpenMixSettings,
    "teacher-free": TeacherFreeSettings,
    "oe": OutlierExposureSettings,
    "catimg": CatImgSettings,
    "ftavg": FtAvgSettings,
    "cssr": CSSRSettings,
    "rcssr": RCSSRSettings,
    "gcpl": GcplSettings,
    "rpl": RplSettings,
    "arpl": ArplSettings,
    "arpl-cs": ArplCsSettings,
    "clip": ClipSettings,
    "coop": CoOpSettings,
    "locoop": LoCoOpSettings,
    "a2pt": A2PtSettings,
    "vpt": VptSettings,
}
