"""Settings of CutMixPick, the distillation that the asymmetric paper calls CMPKD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from trainables.reading.values import Positive, Range, Weight
from trainables.settings.base import ObjectiveSettings
from trainables.settings.mixes import MixSettings, Recipes

# How the released code (MingSun-Tse/Good-DA-in-KD, commit 75443f9, its scripts) trains, its teachers included.
ORIGINAL: dict[str, Any] = {
    "epochs": 240,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.05,  # 0.01 for MobileNet and ShuffleNet
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "schedule": "multistep",
    "milestones": [150, 180, 210],
    "lr_factor": 0.1,
    "crop_padding": 4,  # 8 on Tiny-ImageNet
    "crop_fill": "black",
    "mix_draw": "batch",
}


@dataclass(frozen=True)
class CutMixPickSettings(ObjectiveSettings):
    """CMPKD, CutMixPick (Wang et al., NeurIPS 2022): distillation on raw images and on the mixes that the teacher is
    least sure of. Every default is the released code's; `recipe: original` adds how that code trains."""

    recipes: ClassVar[Recipes] = {"paper": {}, "official": {}, "original": ORIGINAL}
    defaults: ClassVar[dict[str, Any]] = {"mix": "cutmix"}

    teacher: Mapping[str, Any] = field(default_factory=dict)
    hard_weight: Weight = 0.1  # of cross-entropy with the labels of raw images; the label of a mix is not used
    soft_weight: Weight = 0.9  # of Hinton's divergence, on raw images and on picked mixes
    soft_temperature: Positive = 4.0  # of the softmax in the divergence, for teacher and student
    mix_runs: Annotated[int, Range(1, 8)] = 2  # mixes of each batch to pick a batch from
    pick_by: Literal["teacher", "student"] = "teacher"  # whose entropy: "T. ent." and "S. ent." of the paper

    def refuses(self, mix: MixSettings) -> str:
        return "" if mix.seen else "distils on raw images and on mixes of them: take a mix that has both"

    def idle(self, mix: MixSettings) -> set[str]:
        picks = {"pick_by"} if self.mix_runs == 1 else set()
        without = {"soft_temperature", "mix_runs", "pick_by"} if not self.soft_weight else set()
        return {"mix_probability", *picks, *without}  # every batch is seen raw and mixed
