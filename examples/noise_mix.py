"""NoiseMix, a method of one's own: an image mixed with noise is known by as much as it is still an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trainables.learners.base import Learner
from trainables.settings.methods import MethodSettings, Share


@dataclass(frozen=True)
class NoiseMixSettings(MethodSettings):
    noise: Share = 0.5  # the largest share of noise in an image: it is drawn for each, evenly from 0


class NoiseMix(Learner):
    settings: NoiseMixSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t = self.training
        images, _ = t.augment(t.pool[ids_B])
        share_B = self.settings.noise * torch.rand(len(ids_B), generator=t.generator, device=images.device)
        noise = torch.randn(images.shape, generator=t.generator, device=images.device)
        mixed = torch.lerp(images, noise, share_B.view(-1, 1, 1, 1))
        log_p_BK = t.forward(model, mixed).logits_BK.log_softmax(dim=1)
        label = log_p_BK.gather(1, t.pool.labels[ids_B, None]).squeeze(1)
        return -torch.lerp(label, log_p_BK.mean(dim=1), share_B).mean()
