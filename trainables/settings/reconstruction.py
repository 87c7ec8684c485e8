"""Settings of the class-specific auto-encoders: CSSR and RCSSR (Huang et al., TPAMI 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from trainables.reading.values import Positive, Range
from trainables.settings.base import ObjectiveSettings
from trainables.settings.mixes import Recipes

# How the released code (commit d5a99e9, configs/basic.json) trains on CIFAR-10 and SVHN, whatever the objective.
ORIGINAL: dict[str, Any] = {
    "backbone": "wrn40-4",  # resnet18 on Tiny-ImageNet
    "lr": 0.4,  # learn_rate
    "optimizer": "sgd",
    "momentum": 0.0,  # methods/cssr.py gives SGD none
    "nesterov": False,
    "weight_decay": 5e-4,  # methods/cssr.py
    "epochs": 200,  # epoch_num; 235 on Tiny-ImageNet
    "batch_size": 128,
    "schedule": "multistep",
    "milestones": [120, 190],  # 150 and 225 on Tiny-ImageNet, after `warmup_epochs: 1`
    "lr_factor": 0.1,  # lr_decay
    "crop_padding": 4,  # 12.5 % of the side: 8 on Tiny-ImageNet
    "crop_fill": "reflect",
    "flip": True,  # signs and digits too
    "normalisation": "half",
    "augment": "cssr",  # strong_option CUST, cutout, manual_contrast
}


@dataclass(frozen=True)
class CSSRSettings(ObjectiveSettings):
    """CSSR (Huang et al., TPAMI 2022): for each class an auto-encoder of the last map, whose error is the logit.

    Every default is the released code's (commit d5a99e9). `recipe: original` adds how that code trains; the BackMix
    paper's sentence (lr 0.1, cosine, flip and crop alone) is how a trial trains where nothing is said. Its networks
    differ a little from ours: LeakyReLU, and in WRN a batch norm that forgets a thousandth a step.

    mls and energy rank by the error alone, which is small for an image of small activations too: they say little here.
    The released code divides by the activations, as the reconstruction term of `cssr` does.
    """

    recipes: ClassVar[Recipes] = {"paper": {}, "official": {}, "original": ORIGINAL}
    own_scores: ClassVar[tuple[str, ...]] = (
        "cssr",  # reconstruction, prototype and Gram term
        "cssr_reconstruction",
        "cssr_prototype",
        "cssr_gram",
        "cssr_no_reconstruction",
        "cssr_no_prototype",
        "cssr_no_gram",
    )
    own_head: ClassVar[bool] = True
    defaults: ClassVar[dict[str, Any]] = {"score": "cssr"}
    reciprocal: ClassVar[bool] = False  # whether a large error speaks for the class

    latent_size: Annotated[int, Range(0)] = 64  # of each auto-encoder; 0: a learned point, and its distance
    error_measure: Literal["L1", "L2"] = "L1"  # sum over channels of what is left, or of its square
    gamma: Positive = 0.1  # a logit is -gamma times the error, of RCSSR +gamma
    pooling: Literal["softmax_avg", "avg_softmax"] = "softmax_avg"  # over positions: of probabilities, or of logits


@dataclass(frozen=True)
class RCSSRSettings(CSSRSettings):
    """RCSSR, the reciprocal CSSR: each auto-encoder learns what its class is not."""

    reciprocal: ClassVar[bool] = True
