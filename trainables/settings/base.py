"""What the settings of every objective have. Each family of them is a file beside this one; `objectives` lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.settings.mixes import MixSettings, Recipes


@dataclass(frozen=True)
class ObjectiveSettings:
    """What every objective declares. `version` goes up when its mathematics changes."""

    version: ClassVar[int] = 1
    recipes: ClassVar[Recipes] = {"paper": {}}
    defaults: ClassVar[dict[str, Any]] = {}  # of its trial's mix and score, where nothing else is said
    own_scores: ClassVar[tuple[str, ...]] = ()  # that it alone defines: what its head says of a sample by these names
    passes: ClassVar[int] = 1  # over the training images in an epoch
    parts: ClassVar[int] = 1  # of a batch that the network sees one after the other
    starts_from_teacher: ClassVar[bool] = False  # whether its teacher is what its network is before it trains
    own_head: ClassVar[bool] = False  # whether its logits are others than those of a linear head
    image_text: ClassVar[bool] = False  # whether its network is a model of images and texts, with frozen towers

    @property
    def images_a_sample(self) -> int:
        """Images that the network sees in one pass for each sample of a batch, which is what takes memory."""
        return 1

    def refuses(self, mix: MixSettings) -> str:
        """Why it makes no sense with a mix; empty where it does."""
        return ""

    def idle(self, mix: MixSettings) -> set[str]:
        """Settings, its own or the mix's, that change nothing beside the others."""
        return set()
