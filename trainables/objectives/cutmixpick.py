"""CMPKD, CutMixPick (Wang et al., NeurIPS 2022): distil where the teacher is least sure.

The formulas are those of the released code (MingSun-Tse/Good-DA-in-KD, commit 75443f9, helper/loops.py), which lets no
image be mixed with itself; here a mix is any mix, and CutMix's permutation may leave an image where it is.

Shapes: B batch, K classes, M candidates.
"""

from __future__ import annotations

import torch
from torch import nn

from trainables.mixes.base import SeenMix
from trainables.objectives.base import Objective
from trainables.objectives.losses import kl_divergence
from trainables.settings.distillation import CutMixPickSettings


class CutMixPick(Objective):
    """hard_weight CE(s(x), y) + soft_weight (KD(x) + KD(x_mix)), with KD = tau^2 KL(teacher || student)."""

    settings: CutMixPickSettings
    mix: SeenMix

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        s = self.settings
        raw = self.mix.raw(ids_B)
        student = self.see(model, raw.raw_BCHW, raw).logits_BK
        loss = s.hard_weight * self.cross_entropy(student, raw)
        if not s.soft_weight:
            return loss
        candidates = torch.cat([self.mix.mix(raw).images_BCHW for _ in range(s.mix_runs)])
        mixed, taught = self.pick(model, candidates, len(ids_B))
        pairs = ((student, self.teach(raw.raw_BCHW).logits_BK), (self.see(model, mixed).logits_BK, taught))
        soft = sum(kl_divergence(*pair, temperature=s.soft_temperature) for pair in pairs)
        return loss + s.soft_weight * soft

    @torch.no_grad()
    def pick(self, model: nn.Module, candidates_MCHW: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `batch` candidates of the largest entropy, and what the teacher says of them: B,C,H,W and B,K."""
        if len(candidates_MCHW) == batch:
            return candidates_MCHW, self.teach(candidates_MCHW).logits_BK
        if self.settings.pick_by == "teacher":
            logits_MK = self.teach(candidates_MCHW).logits_BK
            chosen = most_unsure(logits_MK, batch)
            return candidates_MCHW[chosen], logits_MK[chosen]
        chosen = most_unsure(self.see(model, candidates_MCHW).logits_BK, batch)  # which moves batch statistics, too
        mixed = candidates_MCHW[chosen]
        return mixed, self.teach(mixed).logits_BK


def entropy(logits_MK: torch.Tensor) -> torch.Tensor:
    """-sum_k p_k log p_k of softmax probabilities, 0..log K. M. A probability that is too small for a float adds 0."""
    log_p_MK = logits_MK.log_softmax(dim=1)
    return -(log_p_MK.exp() * log_p_MK).sum(dim=1)


def most_unsure(logits_MK: torch.Tensor, count: int) -> torch.Tensor:
    """Positions of the `count` rows with the largest entropy, in their order. count, int64."""
    return entropy(logits_MK).topk(count).indices.sort().values
