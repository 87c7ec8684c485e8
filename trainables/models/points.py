"""Heads that measure how far features are from learned points, a point a class: those of GCPL, RPL and ARPL.

Shapes: B batch, C channels, K classes, h w positions.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from trainables.models.head import Head
from trainables.models.output import Output
from trainables.settings.points import PointSettings

SPREAD = 0.1  # of the points when they are drawn, around 0


class PointHead(Head):
    """logit_k(f) = a d_k(f) - b f.P_k, with d_k(f) = |f - P_k|^2 / C, of the pooled features f and a point P_k.

    The distance is a mean over channels, the product a sum (ARPL's loss/Dist.py and ARPLoss.py). `more["distance"]` is
    d, B,K. Evidence is of each position z, by `cam`, without a graph:

        pixel     the logits of the position, logit_k(z): a |z|^2 / C cancels in their softmax, so that they rank as a
                  linear head with weights -(2a / C + b) P_k does
        gradient  g_k.z with g_k the gradient of logit_k at f: Grad-CAM in closed form, (2a / C)(f - P_k) - b P_k
    """

    distance: ClassVar[float]  # a
    product: ClassVar[float]  # b

    def __init__(self, channels: int, num_classes: int, settings: PointSettings) -> None:
        super().__init__(channels, num_classes)
        self.points_KC = nn.Parameter(torch.empty(num_classes, channels))
        self.by_gradient = settings.cam == "gradient"

    def draw(self) -> None:
        nn.init.normal_(self.points_KC, std=SPREAD)

    def forward(self, maps_BChw: torch.Tensor) -> Output:
        """In float32 also under bf16 autocast, as `LinearHead` is."""
        maps_BChw = maps_BChw.to(self.points_KC.dtype)
        with torch.autocast(maps_BChw.device.type, enabled=False):
            features_BC = maps_BChw.mean(dim=(2, 3))
            length_B1 = features_BC.square().sum(dim=1, keepdim=True)
            product_BK = features_BC @ self.points_KC.T
            distance_BK = (length_B1 - 2 * product_BK + self.points_KC.square().sum(dim=1)) / features_BC.shape[1]
            logits_BK = self.distance * distance_BK - self.product * product_BK
            evidence_BKhw = self._evidence(maps_BChw.detach(), features_BC.detach())
        return Output(logits_BK, features_BC, evidence_BKhw, more={"distance": distance_BK})

    @torch.no_grad()
    def _evidence(self, maps_BChw: torch.Tensor, features_BC: torch.Tensor) -> torch.Tensor:
        a = self.distance / maps_BChw.shape[1]
        weights_KC11 = -(2 * a + self.product) * self.points_KC[:, :, None, None]
        if self.by_gradient:
            common_Bhw = 2 * a * torch.einsum("bc,bchw->bhw", features_BC, maps_BChw)
            return F.conv2d(maps_BChw, weights_KC11) + common_Bhw[:, None]
        common_B1hw = a * maps_BChw.square().sum(dim=1, keepdim=True)
        return F.conv2d(maps_BChw, weights_KC11, a * self.points_KC.square().sum(dim=1)) + common_B1hw


class PrototypeHead(PointHead):
    """GCPL's: -d_k. A point is a prototype, which its class is near."""

    distance = -1.0
    product = 0.0


class FarHead(PointHead):
    """RPL's: d_k. A point is reciprocal: its class is far from it."""

    distance = 1.0
    product = 0.0


class ReciprocalHead(PointHead):
    """ARPL's: d_k - f.P_k. Far in distance and in direction."""

    distance = 1.0
    product = 1.0
