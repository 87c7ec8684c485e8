"""The teacher-free edition (Asymmetric paper, App. C): mixes that the network is sure of, and mixes it is not.

One pass sees the raw batch and two mixes of it. A mix classified with confidence as one of its two classes is drawn
towards that raw image (Eq. 9), an uncertain one towards the uniform prediction (Eq. 10). As in the asymmetric
distiller, -I is DIST; the equations stop no gradient, so raw and mixed samples move towards each other.
With Decoupled CutMix its regulariser is added, which the paper does not say.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainables.learners.base import Learner
from trainables.learners.mixed import mix
from trainables.objectives.losses import decoupled_cross_entropy, dist, uniform_cross_entropy
from trainables.settings.methods import TeacherFreeSettings

MIXES = 2  # "the amount of the mixed samples two times the initial ones", each with coefficients of its own


class TeacherFree(Learner):
    settings: TeacherFreeSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t, s, B = self.training, self.settings, len(ids_B)
        labels = t.pool.labels[ids_B]
        images, _ = t.augment(t.pool[ids_B])
        mixes = [mix(s, images, t) for _ in range(MIXES)]
        # One pass for all: batch statistics are those of raw and mixed images together.
        every = t.forward(model, torch.cat([images, *(m.images_BCHW for m in mixes)])).logits_BK
        raw, mixed = every[:B], every[B:]
        partners = torch.cat([m.partners_B for m in mixes])
        share = torch.cat([m.share_B for m in mixes])
        loss = F.cross_entropy(raw, labels)
        loss = loss + s.mi_weight * self.mutual_information(raw, mixed, labels, partners)
        loss = loss + s.uniform_weight * self.uncertain(mixed)
        if s.mix == "decoupled-cutmix":
            pair = (labels.repeat(MIXES), labels[partners], share)
            loss = loss + s.decoupled_weight * decoupled_cross_entropy(mixed, *pair).mean()
        return loss

    def mutual_information(
        self, raw_BK: torch.Tensor, mixed_MK: torch.Tensor, labels_B: torch.Tensor, partners_M: torch.Tensor
    ) -> torch.Tensor:
        """Eq. 9, for M mixes of the B raw samples: those above tau_upper in one of their classes, averaged over M."""
        s = self.settings
        times = len(mixed_MK) // len(raw_BK)
        probability = mixed_MK.detach().softmax(dim=1)
        total = mixed_MK.new_zeros(())
        images = ((raw_BK.repeat(times, 1), labels_B.repeat(times)), (raw_BK[partners_M], labels_B[partners_M]))
        for raw, label in images:
            sure = (probability.gather(1, label[:, None])[:, 0] > s.tau_upper).float()
            near = dist(mixed_MK, raw, inter_weight=s.inter_weight, intra_weight=s.intra_weight, weight_B=sure)
            total = total + sure.mean() * near
        return total

    def uncertain(self, mixed_MK: torch.Tensor) -> torch.Tensor:
        """Eq. 10: cross-entropy with the uniform label where no class reaches tau_lower, averaged over all mixes."""
        unsure = mixed_MK.detach().softmax(dim=1).amax(dim=1) < self.settings.tau_lower
        return (unsure * uniform_cross_entropy(mixed_MK)).mean()
