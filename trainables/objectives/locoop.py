"""LoCoOp (Miyai et al., NeurIPS 2023): CoOp with patches of an image that do not show its class as what is not known.

The formulas are those of the released code (AtsuMiyai/LoCoOp, commit a311b39, trainers/locoop.py).
Shapes: B images, N patches of each, K classes.
"""

from __future__ import annotations

import torch
from torch import nn

from trainables.models.prompts import LocallyPrompted
from trainables.objectives.coop import PromptTuning
from trainables.settings.image_text import LoCoOpSettings


class LoCoOp(PromptTuning):
    settings: LoCoOpSettings
    prompted = LocallyPrompted

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batches, output = self.inputs(model, ids_B)
        labels_B = torch.cat([batch.labels_B for batch in batches])
        assert isinstance(self.given.network, LocallyPrompted)
        local_BNK = self.given.network.scale * output.more["local_BNK"]
        K = local_BNK.shape[2]
        likeliest = max(round(self.settings.likeliest * K), 1)
        sure = -entropy_elsewhere(local_BNK, labels_B, likeliest)
        return self.classified(batches, output) + self.settings.local_weight * sure


def entropy_elsewhere(local_BNK: torch.Tensor, labels_B: torch.Tensor, likeliest: int) -> torch.Tensor:
    """The mean of -sum_k p_k log(p_k + 1e-5) over all patches of all images among whose `likeliest` classes their
    image's own is not; 0 where there is none. A scalar; p is the softmax of a patch's logits."""
    p_BNK = local_BNK.float().softmax(dim=2)
    among_BN = (p_BNK.topk(likeliest, dim=2).indices == labels_B[:, None, None]).any(dim=2)
    entropy_BN = -(p_BNK * (p_BNK + 1e-5).log()).sum(dim=2)
    elsewhere_BN = (~among_BN).to(entropy_BN.dtype)
    return (elsewhere_BN * entropy_BN).sum() / elsewhere_BN.sum().clamp_min(1)
