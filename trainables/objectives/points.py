"""GCPL, RPL and ARPL: cross-entropy of logits that are distances to a learned point of each class, and a term on the
distance to the true class's point (ARPL's loss/GCPLoss.py, RPLoss.py and ARPLoss.py).

    loss = CE(logits / temperature, y) + weight_pl mean_i term(d_y(f_i))

The papers of these methods mix no images. Where a mix gives two labels, the term has the parts of both, as
cross-entropy has. Shapes: B batch, K classes, h w positions.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from trainables.mixes.base import Batch, Mix
from trainables.models.output import Output
from trainables.models.points import FarHead, PrototypeHead, ReciprocalHead
from trainables.objectives.base import Given, Objective
from trainables.settings.points import ArplSettings, GcplSettings, PointSettings, RplSettings


class Points(Objective):
    """What the three have in common."""

    settings: PointSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batch = self.mix.batch(ids_B)
        return self.of(self.see(model, batch.images_BCHW, batch), batch)

    def of(self, output: Output, batch: Batch) -> torch.Tensor:
        """The loss of what the network says of a batch, a scalar."""
        s = self.settings
        classified = self.cross_entropy(output.logits_BK / s.temperature, batch)
        term_BK = self.term(output.more["distance"])
        return classified + s.weight_pl * self.of_labels(term_BK, batch).mean()

    @abstractmethod
    def term(self, distance_BK: torch.Tensor) -> torch.Tensor:
        """Of the distance to each class's point, if it is the true one. B,K."""

    def foreground(self, output: Output, labels_B: torch.Tensor) -> torch.Tensor:
        """With `cam: gradient`, each map of Grad-CAM from its least to its largest value: B,h,w in 0..1."""
        if self.settings.cam == "pixel":
            return super().foreground(output, labels_B)
        assert output.evidence_BKhw is not None
        index = labels_B[:, None, None, None].expand(-1, 1, *output.evidence_BKhw.shape[2:])
        map_Bhw = output.evidence_BKhw.gather(1, index)[:, 0].float()
        map_Bhw = map_Bhw - map_Bhw.amin(dim=(1, 2), keepdim=True)
        return map_Bhw / map_Bhw.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


class Gcpl(Points):
    settings: GcplSettings
    head = PrototypeHead

    def term(self, distance_BK: torch.Tensor) -> torch.Tensor:
        """d / 2: an image is drawn to its prototype."""
        return distance_BK / 2


class WithRadius(Points):
    """Reciprocal points: the distance to the own one has a radius R, which is learned. It starts at 0."""

    settings: RplSettings

    def __init__(self, settings: RplSettings, mix: Mix, given: Given) -> None:
        super().__init__(settings, mix, given)
        shape = () if settings.radius == "shared" else (mix.images.num_classes,)
        self.radius = nn.Parameter(torch.zeros(shape, device=mix.images.generator.device))


class Rpl(WithRadius):
    head = FarHead

    def term(self, distance_BK: torch.Tensor) -> torch.Tensor:
        """(d - R)^2: an image is drawn to the sphere around its class's point."""
        return (distance_BK - self.radius).square()


class Arpl(WithRadius):
    settings: ArplSettings
    head = ReciprocalHead

    def term(self, distance_BK: torch.Tensor) -> torch.Tensor:
        """max(0, d - R + margin): an image is drawn into the ball around its class's point, and R grows."""
        return (distance_BK - self.radius + self.settings.margin).relu()
