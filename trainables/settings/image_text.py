"""Settings of methods on a model of images and texts (CLIP, Radford et al., 2021): zero-shot, prompts of words, prompts
in the image tower.

Both towers are frozen: what is trained are the prompts (`train: head`), or nothing. Defaults are those of the codes
named, but for what is not here: CoOp's warm-up at a constant lr of 1e-5, and its random resized crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from trainables.reading.values import Range, Share, Weight
from trainables.settings.base import ObjectiveSettings
from trainables.settings.mixes import MIXES, BackMixSettings, MixSettings, Recipes

# OpenAI's ViT-B/16, as BackMix's supplement V has it, which sees images by OpenAI's mean and standard deviation.
OF_OPENAI: dict[str, Any] = {
    "backbone": "open_clip:ViT-B-16-quickgelu",
    "weights": "open_clip:ViT-B-16-quickgelu/openai",
    "normalisation": "clip",
}
# KaiyangZhou/CoOp, commit ff61507: configs/trainers/CoOp and Dassl's defaults; LoCoOp's are the same.
OF_COOP: dict[str, Any] = {
    **OF_OPENAI,
    "train": "head",
    "epochs": 50,
    "batch_size": 32,
    "lr": 0.002,
    "nesterov": False,
    "warmup_epochs": 1,
    "score": "mcm",
}


@dataclass(frozen=True)
class ImageTextSettings(ObjectiveSettings):
    """What all of them have."""

    recipes: ClassVar[Recipes] = {"paper": {}, "official": {}}
    image_text: ClassVar[bool] = True


@dataclass(frozen=True)
class ClipSettings(ImageTextSettings):
    """CLIP as it is: an image is of the class whose prompt is nearest. Nothing is trained. `mcm` is the score of MCM
    (Ming et al., NeurIPS 2022), the largest softmax of cosines at temperature 1; `msp` is that of the scaled logits."""

    defaults: ClassVar[dict[str, Any]] = {**OF_OPENAI, "train": "none", "score": "mcm"}
    own_scores: ClassVar[tuple[str, ...]] = ("mcm",)

    templates: tuple[str, ...] = ("a photo of a {}",)  # MCM's; {} is the class. Of several, the mean of their features


@dataclass(frozen=True)
class PromptSettings(ImageTextSettings):
    """What methods that train prompts have."""

    raw_too: bool = True  # with BackMix, images are trained on mixed and as they are: supplement V, "both"

    @property
    def images_a_sample(self) -> int:
        return 2 if self.raw_too else 1

    def idle(self, mix: MixSettings) -> set[str]:
        blind = type(mix) in MIXES.values() and not isinstance(mix, BackMixSettings)
        return {"raw_too"} if blind else set()


@dataclass(frozen=True)
class CoOpSettings(PromptSettings):
    """CoOp (Zhou et al., IJCV 2022): the words before a class's name are vectors, and these are learnt by
    cross-entropy. The class's name and a full stop come last ("end")."""

    defaults: ClassVar[dict[str, Any]] = OF_COOP
    own_scores: ClassVar[tuple[str, ...]] = ("mcm",)

    context_tokens: Annotated[int, Range(1, 32)] = 16  # M: vectors before the name
    context_of: Literal["all", "class"] = "all"  # one context for all classes, or one of each (CSC)


@dataclass(frozen=True)
class LoCoOpSettings(CoOpSettings):
    """LoCoOp (Miyai et al., NeurIPS 2023): CoOp that also learns to be unsure of those patches of an image among whose
    likeliest classes its own is not. `gl_mcm` is the score of GL-MCM, that of the image and its surest patch."""

    own_scores: ClassVar[tuple[str, ...]] = ("mcm", "gl_mcm")

    local_weight: Weight = 0.25  # lambda: of the entropy of patches that show something else
    likeliest: Share = 0.2  # K as a share of the classes: 200 of ImageNet's 1,000, 20 of its 100

    def refuses(self, mix: MixSettings) -> str:
        return (
            "looks for patches without the one class that an image is of: take a mix with one label"
            if mix.pairs
            else ""
        )

    def idle(self, mix: MixSettings) -> set[str]:
        return super().idle(mix) | (set() if self.local_weight else {"likeliest"})


@dataclass(frozen=True)
class A2PtSettings(CoOpSettings):
    """A2Pt (Ren et al., 2023): CoOp on the foreground that attention to classes' texts finds in an image's embedding.
    What is left, the background, is trained to point away from it, and to be of no class. The term that opposes them,
    1 / -s of their mean cosine s, has a pole at 0: where -s is below `opposed_floor` it is constant."""

    # Hrren/A2Pt, commit f3f0a17: clip_double.py. There images have CIFAR-10's mean and standard deviation, dropout ends
    # with the test after 50 epochs, which leaves the network in eval mode, and what is tested is of epoch 100 of 150.
    defaults: ClassVar[dict[str, Any]] = {
        **OF_COOP,
        "backbone": "open_clip:ViT-B-32-quickgelu",
        "weights": "open_clip:ViT-B-32-quickgelu/openai",
        "epochs": 150,
        "batch_size": 100,
        "score": "mls",
    }

    opposed_weight: Weight = 1.0  # of 1 / -s
    opposed_floor: Share = 0.01  # the least -s that it is taken of; 0: any, as the code has it
    unsure_weight: Weight = 0.21  # of the background's sum of -log p over classes: 21 * 0.01 in the code
    attention_dropout: Annotated[float, Range(0, 0.9)] = 0.1  # of attention's weights, and of what it gives

    def idle(self, mix: MixSettings) -> set[str]:
        return super().idle(mix) | (set() if self.opposed_weight else {"opposed_floor"})


@dataclass(frozen=True)
class VptSettings(PromptSettings):
    """Visual prompt tuning (VPT, Jia et al., ECCV 2022): vectors beside the patches of each block of the image tower,
    and a linear head on its class token. No text is read."""

    # KMnP/vpt, commit 4410440: configs/base-prompt.yaml; lr and weight decay are one of those that it searches.
    defaults: ClassVar[dict[str, Any]] = {
        **OF_OPENAI,
        "train": "head",
        "epochs": 100,
        "batch_size": 128,
        "lr": 0.25,
        "nesterov": False,
        "weight_decay": 1e-4,
        "warmup_epochs": 10,
    }

    visual_tokens: Annotated[int, Range(1, 200)] = 5  # T; 10 or 50 are usual
    visual_depth: Literal["deep", "shallow"] = "deep"  # new ones before each block, or before the first alone
