"""The teacher-free edition (Asymmetric paper, App. C): mixes that the network is sure of, and mixes it is not.

One pass sees the raw batch and two mixes of it; no coin leaves one out. A mix classified with confidence as one of its
two classes is drawn towards that raw image (Eq. 9), an uncertain one towards the uniform prediction (Eq. 10). As in the
asymmetric distiller, -I is DIST; the equations stop no gradient, so raw and mixed samples move towards each other. A
mix that has a term of its own keeps it, which the paper does not say.
"""

from __future__ import annotations

import torch
from torch import nn

from trainables.mixes.base import SeenMix
from trainables.objectives.base import Objective
from trainables.objectives.losses import dist, uniform_cross_entropy
from trainables.settings.objectives import TeacherFreeSettings

MIXES = 2  # "the amount of the mixed samples two times the initial ones", each with coefficients of its own


class TeacherFree(Objective):
    settings: TeacherFreeSettings
    mix: SeenMix

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        s, B = self.settings, len(ids_B)
        raw_batch = self.mix.raw(ids_B)
        mixes = [self.mix.mix(raw_batch) for _ in range(MIXES)]
        # One pass for all: batch statistics are those of raw and mixed images together.
        every = self.see(model, torch.cat([raw_batch.raw_BCHW, *(m.images_BCHW for m in mixes)])).logits_BK
        raw, mixed = every[:B], every[B:]
        partners = torch.cat([m.partners_B for m in mixes if m.partners_B is not None])
        lam = torch.cat([m.lam_B for m in mixes if m.lam_B is not None])
        loss = self.cross_entropy(raw, raw_batch)
        loss = loss + s.mi_weight * self.mutual_information(raw, mixed, raw_batch.labels_B, partners)
        loss = loss + s.uniform_weight * self.uncertain(mixed)
        all_mixes = raw_batch._replace(labels_B=raw_batch.labels_B.repeat(MIXES), partners_B=partners, lam_B=lam)
        term = self.mix.term(mixed, all_mixes)
        return loss if term is None else loss + term

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
