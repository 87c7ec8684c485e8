"""Asymmetric distillation (Jia et al., IJCAI 2024, section 3): the teacher also sees what a mix was made of.

A coin decides for each batch. Raw: cross-entropy and distillation (Eq. 4). Mixed: distillation, cross mutual
information with the teacher's view of both raw images, and a softened label for mixes that the teacher takes for a
third class (Eq. 8). The paper names no estimator of mutual information; as in the released code, -I is DIST.
With Decoupled CutMix its regulariser is added: neither paper nor code says how the two meet.
"""

from __future__ import annotations

import torch
from torch import nn

from trainables.learners.base import Training
from trainables.learners.distill import Distill
from trainables.learners.mixed import mix
from trainables.mixing import Mixed
from trainables.models.output import Output
from trainables.objectives.losses import (
    decoupled_cross_entropy,
    mixed_cross_entropy,
    relation_distance,
    soft_cross_entropy,
    two_hot,
    weighted_mean,
)
from trainables.settings.methods import AsymmetricSettings


def accepted(
    teacher_BK: torch.Tensor,
    labels_B: torch.Tensor,
    partner_labels_B: torch.Tensor,
    share_B: torch.Tensor,
    verification: str,
) -> torch.Tensor:
    """Whether the teacher's first class of a mix is one of its two (`relaxed`), or the one with the larger share
    (`exact`, Table 13). B, bool. Eq. 7 and the code check the first class; the text says "top-2 accuracy"."""
    first = teacher_BK.argmax(dim=1)
    if verification == "exact":
        return first == torch.where(share_B >= 0.5, labels_B, partner_labels_B)
    return (first == labels_B) | (first == partner_labels_B)


class Asymmetric(Distill):
    settings: AsymmetricSettings

    def __init__(self, settings: AsymmetricSettings, training: Training) -> None:
        super().__init__(settings, training)
        self.projection: nn.Linear | None = None
        if "features" in (settings.cmi_on, settings.distill_on):
            device = training.generator.device
            self.projection = nn.Linear(training.num_features, training.num_teacher_features, device=device)

    def parameters(self) -> list[nn.Parameter]:
        """What is trained beside the network: a projection of its features to the teacher's width, where it has one."""
        return list(self.projection.parameters()) if self.projection else []

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t, s = self.training, self.settings
        labels = t.pool.labels[ids_B]
        images, _ = t.augment(t.pool[ids_B])
        if not t.coin(s.mix_probability):
            return self.raw_loss(model, images, labels)
        mixed = mix(s, images, t)
        if s.raw_pass:
            with torch.no_grad():
                t.forward(model, images)
        student = t.forward(model, mixed.images_BCHW)
        loss = 0 * student.logits_BK.sum()  # with every term off, or on features alone, the head still has a gradient
        if s.cmi_weight or s.distill_target == "raw":
            raw_teacher = t.teach(images)
            loss = loss + s.cmi_weight * self.cross_mutual_information(student, raw_teacher, mixed)
        if s.mix == "cutout":  # one image: no second class to be confused with, and App. D.1 uses this term alone
            return loss
        mixed_teacher = t.teach(mixed.images_BCHW)
        pair = (labels, labels[mixed.partners_B], mixed.share_B)
        ok = accepted(mixed_teacher.logits_BK, *pair, s.verification).float()
        target = mixed_teacher if s.distill_target == "mixed" else raw_teacher
        weight = ok if s.distill_samples == "accepted" else None
        loss = loss + s.distill_weight * self.distance(student, target, weight)
        loss = loss + s.relabel_weight * self.relabelled(student.logits_BK, *pair, 1 - ok)
        if s.mix == "decoupled-cutmix":
            loss = loss + s.decoupled_weight * decoupled_cross_entropy(student.logits_BK, *pair).mean()
        return loss

    def cross_mutual_information(self, student: Output, teacher: Output, mixed: Mixed) -> torch.Tensor:
        """Eq. 6: -(lambda I(s(x_m), t(x_i)) + (1 - lambda) I(s(x_m), t(x_j))).

        DIST looks at a whole batch. Where each sample has a lambda of its own, they weight its rows and the samples
        in its columns; with one for the batch, this is the released code's lambda DIST + (1 - lambda) DIST.
        `single` keeps, of each sample, only the image with the larger share (Table 13 b).
        """
        share = mixed.share_B
        if self.settings.cmi == "single":
            share = (share >= 0.5).float()
        own = share.mean() * self._information_loss(student, teacher, share)
        if self.settings.mix == "cutout":
            return own
        partner = Output(teacher.logits_BK[mixed.partners_B], teacher.features_BC[mixed.partners_B], None)
        return own + (1 - share).mean() * self._information_loss(student, partner, 1 - share)

    def distance(self, student: Output, teacher: Output, weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """L_Distill between logits, or between features as the caption of Fig. 3 has it."""
        if self.settings.distill_on == "logits":
            return super().distance(student, teacher, weight_B)
        return self._feature_relation(student, teacher, weight_B)

    def _information_loss(self, student: Output, teacher: Output, weight_B: torch.Tensor) -> torch.Tensor:
        if self.settings.cmi_on == "logits":
            return self.relation(student.logits_BK, teacher.logits_BK, weight_B)
        return self._feature_relation(student, teacher, weight_B)

    def _feature_relation(self, student: Output, teacher: Output, weight_B: torch.Tensor | None) -> torch.Tensor:
        """DIST's relations between the teacher's features and the student's, projected to their width."""
        assert self.projection is not None
        s, projected = self.settings, self.projection(student.features_BC).float()
        return relation_distance(projected, teacher.features_BC, s.inter_weight, s.intra_weight, weight_B)

    def relabelled(
        self,
        logits_BK: torch.Tensor,
        labels_B: torch.Tensor,
        partner_labels_B: torch.Tensor,
        share_B: torch.Tensor,
        rejected_B: torch.Tensor,
    ) -> torch.Tensor:
        """Eq. 7: cross-entropy of the rejected mixes with ratio * uniform + (1 - ratio) * y_m."""
        if self.settings.relabel == "hard":
            each = mixed_cross_entropy(logits_BK, labels_B, partner_labels_B, share_B)
        else:
            K, ratio = logits_BK.shape[1], self.settings.relabel_ratio
            mixed = two_hot(labels_B, partner_labels_B, share_B, K)
            each = soft_cross_entropy(logits_BK, ratio / K + (1 - ratio) * mixed)
        if self.settings.relabel_mean == "rejected":
            return weighted_mean(each, rejected_B)
        return (rejected_B * each).mean()
