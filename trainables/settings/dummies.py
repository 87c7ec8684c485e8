"""Settings of PROSER, whose head has logits for what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

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

    def idle(self, mix: MixSettings) -> set[str]:
        return set() if self.manifold_weight else {"manifold_alpha"}
