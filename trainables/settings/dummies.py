"""Settings of PROSER and OpenMix, whose heads have logits for what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from trainables.reading.values import Positive, Range, Weight
from trainables.settings.base import ObjectiveSettings
from trainables.settings.mixes import MixSettings, Recipes


@dataclass(frozen=True)
class ProserSettings(ObjectiveSettings):
    """PROSER (Zhou et al., CVPR 2021), its second stage: a trained network learns logits for what is not known, from
    features of two images mixed in the middle and from known images whose own class is hidden.

    Its first stage is its `teacher`: a trial of its own, whose weights this one starts with. Every default is the
    released code's (zhoudw-zdw/CVPR21-Proser, commit f5b53b9), which makes its optimiser anew each epoch; here momentum
    goes on. Its network, WRN-28-10 with dropout and a hidden layer in its head, is not here.
    """

    recipes: ClassVar[Recipes] = {"paper": {}, "official": {}}
    own_scores: ClassVar[tuple[str, ...]] = ("proser",)
    own_head: ClassVar[bool] = True
    parts: ClassVar[int] = 2
    starts_from_teacher: ClassVar[bool] = True
    # The code's second stage, where nothing else is said of the trial.
    defaults: ClassVar[dict[str, Any]] = {"score": "proser", "epochs": 10, "lr": 0.001, "schedule": "constant"}

    teacher: Mapping[str, Any] = field(default_factory=dict)
    dummies: Annotated[int, Range(1, 100)] = 1  # logits for what is not known; the largest counts
    manifold_weight: Weight = 0.01  # of mixed features being a dummy's
    known_weight: Weight = 1.0  # of known images being of their class
    hidden_weight: Weight = 1.0  # of a dummy coming next once an image's own class is hidden
    manifold_alpha: Positive = 1.0  # lambda ~ Beta(alpha, alpha), one for a batch

    def refuses(self, mix: MixSettings) -> str:
        return "hides the one class that an image is of: take a mix with one label" if mix.pairs else ""


@dataclass(frozen=True)
class OpenMixSettings(ObjectiveSettings):
    """OpenMix (TCSVT 2023): an image that is mixed with itself, or whose object is hidden, is of a class that no known
    image is of.

    Every default is the released code's (t9liverpool/OpenMix, commit dad99a74), for CIFAR-10 and ImageNet; for MNIST it
    has shares of 0, 0 and 1. OpenMix+ is this with a regulariser for the known classes that is not released: missing
    here. How objects are found is ours, not GrabCut.
    """

    recipes: ClassVar[Recipes] = {"paper": {}, "official": {}}
    own_scores: ClassVar[tuple[str, ...]] = ("openmix",)
    own_head: ClassVar[bool] = True
    defaults: ClassVar[dict[str, Any]] = {"score": "openmix"}  # ours: neither code nor abstract says one

    openmixup: Annotated[int, Range(0, 8)] = 4  # images with themselves, turned, for each known image
    opencutout: Annotated[int, Range(0, 8)] = 1  # with the object black, and beside it one with a trivial mask
    opencutmix: Annotated[int, Range(0, 8)] = 1  # with the object filled, and beside it one with a trivial mask
    negatives: Literal["separate", "one"] = "separate"  # classes; OpenMix in CSSR (Physics-wr/CSSROpenMix) has one

    @property
    def kinds(self) -> dict[str, int]:
        """Those that are made, and how many for each known image."""
        every = {"openmixup": self.openmixup, "opencutout": self.opencutout, "opencutmix": self.opencutmix}
        return {kind: count for kind, count in every.items() if count}

    @property
    def dummies(self) -> int:
        """Classes beside the known ones."""
        return len(self.kinds) if self.negatives == "separate" else 1

    @property
    def images_a_sample(self) -> int:
        return 1 + self.openmixup + 2 * (self.opencutout + self.opencutmix)

    def idle(self, mix: MixSettings) -> set[str]:
        return {"negatives"} if len(self.kinds) == 1 else set()
