"""Symmetric distillation: teacher and student see the same images, raw or mixed (Asymmetric paper, section 2.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainables.learners.base import Learner
from trainables.learners.mixed import mix, mixed_loss
from trainables.models.output import Output
from trainables.objectives.losses import dist, kl_divergence
from trainables.settings.methods import DistillSettings


class Distill(Learner):
    settings: DistillSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t, s = self.training, self.settings
        labels = t.pool.labels[ids_B]
        images, _ = t.augment(t.pool[ids_B])
        if s.mix == "none" or not t.coin(s.mix_probability):
            return self.raw_loss(model, images, labels)
        mixed = mix(s, images, t)
        student = t.forward(model, mixed.images_BCHW)
        loss = s.ce_weight * mixed_loss(s, student.logits_BK, labels, mixed)
        return loss + self.distilled(student, mixed.images_BCHW)

    def raw_loss(self, model: nn.Module, images_BCHW: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """L_raw = CE + L_Distill (Eq. 4)."""
        student = self.training.forward(model, images_BCHW)
        loss = self.settings.ce_weight * F.cross_entropy(student.logits_BK, labels_B)
        return loss + self.distilled(student, images_BCHW)

    def distilled(self, student: Output, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The weighted distance from what the teacher says of the same images; it is not asked for a weight of 0."""
        weight = self.settings.distill_weight
        if not weight:
            return student.logits_BK.new_zeros(())
        return weight * self.distance(student, self.training.teach(images_BCHW))

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
