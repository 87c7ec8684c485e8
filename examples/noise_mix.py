"""NoiseMix, a mix of one's own: an image mixed with noise is known by as much as it is still an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainables.mixes.base import Batch, Mix
from trainables.reading.values import Share
from trainables.settings.mixes import MixSettings


@dataclass(frozen=True)
class NoiseMixSettings(MixSettings):
    noise: Share = 0.5  # the largest share of noise in an image: it is drawn for each, evenly from 0


class NoiseMix(Mix):
    settings: NoiseMixSettings

    def batch(self, ids_B: torch.Tensor) -> Batch:
        raw, generator = self.raw(ids_B), self.images.generator
        noise_B = self.settings.noise * torch.rand(len(ids_B), generator=generator, device=generator.device)
        noise = torch.randn(raw.images_BCHW.shape, generator=generator, device=generator.device)
        mixed = torch.lerp(raw.images_BCHW, noise, noise_B.view(-1, 1, 1, 1))
        classes_K = torch.arange(self.images.num_classes, device=generator.device)
        label_BK = (raw.labels_B[:, None] == classes_K).float()
        targets_BK = torch.lerp(label_BK, label_BK.mean(dim=1, keepdim=True), noise_B[:, None])
        return raw._replace(images_BCHW=mixed, targets_BK=targets_BK)
