"""CutOut, MixUp, CutMix and Decoupled CutMix as training methods: a coin for each batch, then mixed or raw."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainables.learners.base import Learner, Training
from trainables.mixing import Mixed, cutmix, cutout, draw_box, draw_shares, mixup
from trainables.objectives.losses import decoupled_cross_entropy, mixed_cross_entropy
from trainables.settings.methods import AnyMixSettings, CutOutSettings, DecoupledCutMixSettings, MixUpSettings

MixSettings = CutOutSettings | MixUpSettings | AnyMixSettings


def mix(settings: MixSettings, images_BCHW: torch.Tensor, training: Training) -> Mixed:
    """The batch, mixed as `settings.mix` says, each image with a partner of the batch (maybe itself)."""
    B, _, H, W = images_BCHW.shape
    t, device = training, images_BCHW.device
    one = settings.mix_draw == "batch"
    if not isinstance(settings, MixUpSettings) and settings.mix == "cutout":
        area = torch.full((B,), settings.cutout_size, device=device)
        return cutout(images_BCHW, draw_box(area, H, W, t.generator, one))
    assert not isinstance(settings, CutOutSettings)
    partners = torch.randperm(B, generator=t.generator, device=device)
    share = draw_shares(B, settings.mix_alpha, t.host, device, one)
    if settings.mix == "mixup":
        return mixup(images_BCHW, partners, share)
    return cutmix(images_BCHW, partners, draw_box(1 - share, H, W, t.generator, one))


def mixed_loss(settings: MixSettings, logits_BK: torch.Tensor, labels_B: torch.Tensor, mixed: Mixed) -> torch.Tensor:
    """Cross-entropy with both labels by their shares, and the decoupled regulariser where the mix has it."""
    pair = (labels_B, labels_B[mixed.partners_B], mixed.share_B)
    loss = mixed_cross_entropy(logits_BK, *pair).mean()
    if isinstance(settings, DecoupledCutMixSettings | AnyMixSettings) and settings.mix == "decoupled-cutmix":
        loss = loss + settings.decoupled_weight * decoupled_cross_entropy(logits_BK, *pair).mean()
    return loss


class MixedImages(Learner):
    settings: CutOutSettings | MixUpSettings

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t = self.training
        labels = t.pool.labels[ids_B]
        images, _ = t.augment(t.pool[ids_B])
        if not t.coin(self.settings.mix_probability):
            return F.cross_entropy(t.forward(model, images).logits_BK, labels)
        mixed = mix(self.settings, images, t)
        return mixed_loss(self.settings, t.forward(model, mixed.images_BCHW).logits_BK, labels, mixed)
