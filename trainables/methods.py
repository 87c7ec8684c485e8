"""Methods and their own settings: each field is a setting, its annotation the values it may take.

Nothing here imports torch. A default is the paper's; a recipe is a named bundle of what else is done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal


@dataclass(frozen=True)
class Range:
    """Bounds of a number; `open_low` excludes the lower one."""

    low: float
    high: float = float("inf")
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return above and value <= self.high and math.isfinite(value)

    def __str__(self) -> str:
        below = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        return below if self.high == float("inf") else f"{below} and at most {self.high:g}"


Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class PlainSettings:
    """Cross-entropy on raw images: the baseline of every table. It has no settings of its own."""

    version: ClassVar[int] = 1  # goes up when the learner's mathematics changes
    # What the official file does to every image stays in its baseline, so that the two differ in the method alone.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "official": {"crop_fill": "black"}}


@dataclass(frozen=True)
class BackMixSettings:
    """BackMix (Wang et al., TPAMI 2025, section IV). Each default is the paper's; `recipe: official`
    sets what the released file does instead (commit 7547199), wherever the two differ."""

    version: ClassVar[int] = 1
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
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
            "crop_fill": "black",
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


LearnerSettings = PlainSettings | BackMixSettings
METHODS: dict[str, type[PlainSettings] | type[BackMixSettings]] = {
    "plain": PlainSettings,
    "backmix": BackMixSettings,
}
