"""Linear heads with logits of classes that no training image is of: PROSER's dummies, OpenMix's negative classes.

Shapes: B batch, C channels, K known classes, D dummies, h w positions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from trainables.models.head import LinearHead
from trainables.models.output import Output
from trainables.settings.dummies import OpenMixSettings, ProserSettings

TEMPERATURE = 1024  # of the score's softmax, the released code's


def proser_score(logits_BK: torch.Tensor, dummies_BD: torch.Tensor) -> torch.Tensor:
    """max_k p_k - p_dummy, with p the softmax at temperature 1024 over the known classes and the largest dummy. B.

    In float64 until the difference is taken: at that temperature all probabilities are nearly 1 / (K + 1).
    """
    largest_B1 = dummies_BD.amax(dim=1, keepdim=True)
    p = (torch.cat([logits_BK, largest_B1], dim=1).double() / TEMPERATURE).softmax(dim=1)
    return (p[:, :-1].amax(dim=1) - p[:, -1]).to(logits_BK.dtype)


def openmix_score(logits_BK: torch.Tensor, dummies_BD: torch.Tensor) -> torch.Tensor:
    """log p / (1 - p) of the largest probability p of a known class, in the softmax over all classes, dummies included:
    it ranks as p does, and tells apart what a float rounds to 1. B."""
    best_B = logits_BK.argmax(dim=1, keepdim=True)
    others = torch.cat([logits_BK.scatter(1, best_B, float("-inf")), dummies_BD], dim=1)
    return logits_BK.gather(1, best_B)[:, 0] - others.logsumexp(dim=1)


class DummyHead(LinearHead):
    """The known classes' logits are those of a linear head; `more` has the dummies' and, in eval mode, the score."""

    def __init__(self, channels: int, num_classes: int, settings: ProserSettings | OpenMixSettings) -> None:
        super().__init__(channels, num_classes)
        self.dummy_weight_DC = nn.Parameter(torch.empty(settings.dummies, channels))
        self.dummy_bias_D = nn.Parameter(torch.empty(settings.dummies))
        (self.score_name,) = settings.own_scores

    def draw(self) -> None:
        """Dummies as torch draws a linear layer."""
        super().draw()
        bound = 1 / math.sqrt(self.dummy_weight_DC.shape[1])
        nn.init.uniform_(self.dummy_weight_DC, -bound, bound)
        nn.init.uniform_(self.dummy_bias_D, -bound, bound)

    def score(self, logits_BK: torch.Tensor, dummies_BD: torch.Tensor) -> torch.Tensor:
        """The score of the objective whose head it is. B."""
        return proser_score(logits_BK, dummies_BD)

    def forward(self, maps_BChw: torch.Tensor) -> Output:
        output = super().forward(maps_BChw)
        with torch.autocast(maps_BChw.device.type, enabled=False):
            dummies_BD = F.linear(output.features_BC, self.dummy_weight_DC, self.dummy_bias_D)
        more = {"dummies": dummies_BD}
        if not self.training:
            more[self.score_name] = self.score(output.logits_BK, dummies_BD)
        return output._replace(more=more)


class NegativeHead(DummyHead):
    """OpenMix's."""

    def score(self, logits_BK: torch.Tensor, dummies_BD: torch.Tensor) -> torch.Tensor:
        return openmix_score(logits_BK, dummies_BD)
