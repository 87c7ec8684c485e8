"""Asymmetric distillation (Jia et al., IJCAI 2024, section 3): the teacher also sees what a mix was made of.

A raw batch: cross-entropy and distillation (Eq. 4). A mixed one: distillation, cross mutual information with the
teacher's view of both raw images, and a softened label for mixes that the teacher takes for a third class (Eq. 8). The
paper names no estimator of mutual information; as in the released code, -I is DIST. A mix that has a term of its own
(Decoupled CutMix) keeps it: neither paper nor code says how the two meet.
"""

from __future__ import annotations

import torch
from torch import nn

from trainables.mixes.base import Batch, Mix
from trainables.models.output import Output
from trainables.objectives.base import Given
from trainables.objectives.distill import Distill
from trainables.objectives.losses import (
    mixed_cross_entropy,
    relation_distance,
    soft_cross_entropy,
    two_hot,
    weighted_mean,
)
from trainables.settings.objectives import AsymmetricSettings


def accepted(
    teacher_BK: torch.Tensor,
    labels_B: torch.Tensor,
    partner_labels_B: torch.Tensor,
    lam_B: torch.Tensor,
    verification: str,
) -> torch.Tensor:
    """Whether the teacher's first class of a mix is one of its two (`relaxed`), or the one with the larger part
    (`exact`, Table 13). B, bool. Eq. 7 and the code check the first class; the text says "top-2 accuracy"."""
    first = teacher_BK.argmax(dim=1)
    if verification == "exact":
        return first == torch.where(lam_B >= 0.5, labels_B, partner_labels_B)
    return (first == labels_B) | (first == partner_labels_B)


class Asymmetric(Distill):
    settings: AsymmetricSettings

    def __init__(self, settings: AsymmetricSettings, mix: Mix, given: Given) -> None:
        super().__init__(settings, mix, given)
        self.projection: nn.Linear | None = None  # of features to the teacher's width
        if "features" in (settings.cmi_on, settings.distill_on):
            assert given.teacher is not None
            widths, device = (given.network.num_features, given.teacher.num_features), mix.images.generator.device
            self.projection = nn.Linear(*widths, device=device)

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batch = self.mix.batch(ids_B)
        if batch.partners_B is None or batch.lam_B is None:
            return self.symmetric(model, batch)
        return self.asymmetric(model, batch, batch.partners_B, batch.lam_B)

    def asymmetric(self, model: nn.Module, batch: Batch, partners_B: torch.Tensor, lam_B: torch.Tensor) -> torch.Tensor:
        """The loss of a mixed batch (Eq. 8)."""
        s, labels = self.settings, batch.labels_B
        if s.raw_pass:
            with torch.no_grad():
                self.see(model, batch.raw_BCHW)
        student = self.see(model, batch.images_BCHW, batch)
        loss = 0 * student.logits_BK.sum()  # with every term off, or on features alone, the head still has a gradient
        if s.cmi_weight or s.distill_target == "raw":
            raw_teacher = self.teach(batch.raw_BCHW)
            information = self.cross_mutual_information(student, raw_teacher, partners_B, lam_B)
            loss = loss + s.cmi_weight * information
        if not self.mix.settings.pairs:  # one image: no second class to be confused with; App. D.1 has this term alone
            return loss
        mixed_teacher = self.teach(batch.images_BCHW)
        pair = (labels, labels[partners_B], lam_B)
        ok = accepted(mixed_teacher.logits_BK, *pair, s.verification).float()
        target = mixed_teacher if s.distill_target == "mixed" else raw_teacher
        weight = ok if s.distill_samples == "accepted" else None
        loss = loss + s.distill_weight * self.distance(student, target, weight)
        loss = loss + s.relabel_weight * self.relabelled(student.logits_BK, *pair, 1 - ok)
        term = self.mix.term(student.logits_BK, batch)
        return loss if term is None else loss + term

    def cross_mutual_information(
        self, student: Output, teacher: Output, partners_B: torch.Tensor, lam_B: torch.Tensor
    ) -> torch.Tensor:
        """Eq. 6: -(lambda I(s(x_m), t(x_i)) + (1 - lambda) I(s(x_m), t(x_j))).

        DIST looks at a whole batch. Where each sample has a lambda of its own, they weight its rows and the samples
        in its columns; with one for the batch, this is the released code's lambda DIST + (1 - lambda) DIST.
        `single` keeps, of each sample, only the image with the larger part (Table 13 b).
        """
        lam = (lam_B >= 0.5).float() if self.settings.cmi == "single" else lam_B
        own = lam.mean() * self._information_loss(student, teacher, lam)
        if not self.mix.settings.pairs:
            return own
        partner = Output(teacher.logits_BK[partners_B], teacher.features_BC[partners_B], None)
        return own + (1 - lam).mean() * self._information_loss(student, partner, 1 - lam)

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
        s, taught = self.settings, teacher.features_BC
        projected = self.projection(student.features_BC).to(taught.dtype)  # which autocast has rounded
        return relation_distance(projected, taught, s.inter_weight, s.intra_weight, weight_B)

    def relabelled(
        self,
        logits_BK: torch.Tensor,
        labels_B: torch.Tensor,
        partner_labels_B: torch.Tensor,
        lam_B: torch.Tensor,
        rejected_B: torch.Tensor,
    ) -> torch.Tensor:
        """Eq. 7: cross-entropy of the rejected mixes with ratio * uniform + (1 - ratio) * y_m."""
        if self.settings.relabel == "hard":
            each = mixed_cross_entropy(logits_BK, labels_B, partner_labels_B, lam_B)
        else:
            K, ratio = logits_BK.shape[1], self.settings.relabel_ratio
            mixed = two_hot(labels_B, partner_labels_B, lam_B, K)
            each = soft_cross_entropy(logits_BK, ratio / K + (1 - ratio) * mixed)
        if self.settings.relabel_mean == "rejected":
            return weighted_mean(each, rejected_B)
        return (rejected_B * each).mean()
