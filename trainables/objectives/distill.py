"""Symmetric distillation: teacher and student see the same images, raw or mixed (Asymmetric paper, section 2.3)."""

from __future__ import annotations

import torch
from torch import nn

from trainables.mixes.base import Batch
from trainables.models.output import Output
from trainables.objectives.base import Objective
from trainables.objectives.losses import dist, kl_divergence
from trainables.settings.objectives import DistillSettings


class Distill(Objective):
    settings: DistillSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        return self.symmetric(model, self.mix.batch(ids_B))

    def symmetric(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """L_raw = CE + L_Distill (Eq. 4), and the same of a mixed batch."""
        student = self.see(model, batch.images_BCHW, batch)
        loss = self.settings.ce_weight * self.cross_entropy(student.logits_BK, batch)
        if not self.settings.distill_weight:  # the teacher is not asked for a weight of 0
            return loss
        return loss + self.settings.distill_weight * self.distance(student, self.teach(batch.images_BCHW))

    def distance(self, student: Output, teacher: Output, weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """L_Distill between logits, by DIST or by Hinton's divergence."""
        pair = (student.logits_BK, teacher.logits_BK)
        if self.settings.distillation == "kl":
            return kl_divergence(*pair, temperature=self.settings.temperature, weight_B=weight_B)
        return self.relation(*pair, weight_B)

    def relation(
        self, student_BK: torch.Tensor, teacher_BK: torch.Tensor, weight_B: torch.Tensor | None = None
    ) -> torch.Tensor:
        s = self.settings
        return dist(
            student_BK,
            teacher_BK,
            temperature=s.temperature,
            inter_weight=s.inter_weight,
            intra_weight=s.intra_weight,
            weight_B=weight_B,
        )
