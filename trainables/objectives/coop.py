"""Prompts for a frozen model of images and texts: CoOp (Zhou et al., IJCV 2022), and what all of them share.

BackMix's supplement V trains them on mixed images and on the same images as they are.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from trainables.data.augment import NORMALISATIONS
from trainables.mixes import mix_class
from trainables.mixes.base import Batch
from trainables.models.image_text import ImageText
from trainables.models.output import Output
from trainables.models.prompts import Prompted
from trainables.objectives.base import Objective
from trainables.settings.config import TrialConfig
from trainables.settings.image_text import CoOpSettings, PromptSettings


class PromptTuning(Objective):
    """Cross-entropy on all images that a batch has."""

    settings: PromptSettings
    prompted: ClassVar[Any]  # its network: (backbone, num_classes, normalisation, whether it is looked at, settings)

    @classmethod
    def network(cls, config: TrialConfig, num_classes: int, image_size: int) -> ImageText:
        seen, looked_at = NORMALISATIONS.get(config.normalisation), mix_class(config.mix).looks
        made: ImageText = cls.prompted(config.backbone, num_classes, seen, looked_at, config.objective_settings)
        return made

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batches, output = self.inputs(model, ids_B)
        return self.classified(batches, output)

    def inputs(self, model: nn.Module, ids_B: torch.Tensor) -> tuple[list[Batch], Output]:
        """The batch that the mix makes, after BackMix the raw images too, and what the network says of all of them."""
        batches = [self.mix.batch(ids_B)]
        if self.settings.raw_too and self.mix.looks:
            batches.append(self.mix.raw(ids_B))
        images = torch.cat([batch.images_BCHW for batch in batches])
        return batches, self.see(model, images, batches[0])

    def classified(self, batches: list[Batch], output: Output) -> torch.Tensor:
        """Their mean cross-entropy, a scalar."""
        parts = output.logits_BK.split(len(batches[0].ids_B))
        losses = [self.cross_entropy(logits, batch) for logits, batch in zip(parts, batches, strict=True)]
        return torch.stack(losses).mean()


class CoOp(PromptTuning):
    settings: CoOpSettings
    prompted = Prompted
