"""A2Pt (Ren et al., 2023): CoOp on an image's foreground, which its background shall oppose, and say nothing of.

The formulas are those of the released code (Hrren/A2Pt, commit f3f0a17, train.py).
Shapes: B images, K classes.
"""

from __future__ import annotations

import torch
from torch import nn

from trainables.models.anti_association import AntiAssociative
from trainables.objectives.coop import PromptTuning
from trainables.settings.image_text import A2PtSettings


class A2Pt(PromptTuning):
    settings: A2PtSettings
    prompted = AntiAssociative

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batches, output = self.inputs(model, ids_B)
        assert isinstance(self.given.network, AntiAssociative)
        background_BK = self.given.network.scale * output.more["background_BK"]
        opposed = opposition(output.more["opposed_B"], self.settings.opposed_floor)
        unsure = -background_BK.log_softmax(dim=1).sum(dim=1).mean()
        parts = self.settings.opposed_weight * opposed + self.settings.unsure_weight * unsure
        return self.classified(batches, output) + parts


def opposition(cosine_B: torch.Tensor, floor: float) -> torch.Tensor:
    """1 / -s of the mean cosine s, a scalar: 1 where all are opposed. It has a pole at s = 0, above which it is
    negative without a bound; where -s is below `floor`, it is 1 / `floor` and has no gradient. 0 is no floor, as in the
    code."""
    opposed = -cosine_B.mean()
    return 1 / (opposed.clamp_min(floor) if floor else opposed)
