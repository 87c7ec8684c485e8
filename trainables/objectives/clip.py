"""CLIP as it is (Radford et al., 2021): a zero-shot classifier, which is evaluated and not trained."""

from __future__ import annotations

import torch
from torch import nn

from trainables.data.augment import NORMALISATIONS
from trainables.models.prompts import ZeroShot
from trainables.objectives.base import Objective
from trainables.settings.config import TrialConfig
from trainables.settings.image_text import ClipSettings


class Clip(Objective):
    settings: ClipSettings

    @classmethod
    def network(cls, config: TrialConfig, num_classes: int, image_size: int) -> ZeroShot:
        seen, settings = NORMALISATIONS.get(config.normalisation), config.objective_settings
        assert isinstance(settings, ClipSettings)
        return ZeroShot(config.backbone, num_classes, seen, False, settings)

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("clip trains nothing")
