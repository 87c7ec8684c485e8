"""BackMix (Wang et al., TPAMI 2025): paste background patches of other images, found by class activation maps.

One step of Algorithm 1: mask the partners' foreground with the bank, mix (Eq. 3), crop and flip, cross-entropy
with the target's label, and move the bank towards the maps of this very forward pass (Eq. 4). Algorithm 1 prints
the gradient of log W + log(1 - W), whose sign would lower the likelihood; the text trains a classifier, and so
does this.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trainables.data.augment import View, cam_to_stored, centre, middle_view, normalise
from trainables.learners.base import Learner, Training
from trainables.mixing import backmix, box_side, draw_corners, draw_partners, within_view
from trainables.models.cam import foreground_mask, update_bank
from trainables.settings.methods import BackMixSettings


class BackMix(Learner):
    """`bank_Nhw` holds a rough foreground for each training image, in the coordinates of the stored image."""

    settings: BackMixSettings

    def __init__(self, settings: BackMixSettings, training: Training) -> None:
        super().__init__(settings, training)
        self.side = box_side(settings.cut_size, training.image_size)
        generator = training.generator
        shape = (len(training.pool), training.cells, training.cells)
        if settings.bank_init == "random":
            self.bank_Nhw = torch.rand(shape, generator=generator, device=generator.device)
        else:
            self.bank_Nhw = torch.full(shape, 0.5, device=generator.device)
        self.readable_Nhw = self.bank_Nhw

    def start_epoch(self) -> None:
        if self.settings.bank_refresh == "epoch":
            self.readable_Nhw = self.bank_Nhw.clone()

    def state(self) -> dict[str, Any]:
        own = {"bank": self.bank_Nhw}
        if self.settings.bank_refresh == "epoch":  # with `step` the two are one
            own["readable"] = self.readable_Nhw
        return {**super().state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.bank_Nhw.copy_(state["bank"])
        if self.settings.bank_refresh == "epoch":
            self.readable_Nhw = state["readable"].to(self.bank_Nhw.device, copy=True)

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        t = self.training
        raw, labels = t.pool[ids_B], t.pool.labels[ids_B]
        mixed, view = self.mix(raw, labels, ids_B)
        images = t.through(view, mixed)
        if self.settings.cam_from == "mixed":
            output, cam = t.forward_with_cam(model, images, labels)
            cam, seen = cam_to_stored(cam, view, t.image_size, t.pool.stored_size)
        else:
            output = t.forward(model, images)
            cam, seen = self.cam_of_raw(model, raw, labels)
        update_bank(self.bank_Nhw, ids_B, cam, seen, self.settings.bank_decay)
        return F.cross_entropy(output.logits_BK, labels)

    def mix(self, raw_BHWC: torch.Tensor, labels_B: torch.Tensor, ids_B: torch.Tensor) -> tuple[torch.Tensor, View]:
        """The batch with boxes of other images' background pasted in, uint8, and the view that it is to be seen
        through."""
        s, t, pool = self.settings, self.training, self.training.pool
        if self.side == 0:
            return raw_BHWC, t.draw_view(len(ids_B))
        other = s.background_class == "other"
        if s.background == "batch":
            here = torch.arange(len(ids_B), device=ids_B.device)
            partners = draw_partners(labels_B, labels_B, other, t.generator, self_B=here)
            partner_ids, background = ids_B[partners], raw_BHWC[partners]
        else:
            partner_ids = draw_partners(labels_B, pool.labels, other, t.generator)
            background = pool[partner_ids]
        rows = self.readable_Nhw[partner_ids]
        if s.bank_read == "normalise":
            rows = rows / rows.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
            self.readable_Nhw[partner_ids] = rows
        mixed, view, _ = self.paste(raw_BHWC, background, rows)
        return mixed, view

    def paste(
        self, raw_BHWC: torch.Tensor, background_BHWC: torch.Tensor, bank_Bhw: torch.Tensor
    ) -> tuple[torch.Tensor, View, torch.Tensor]:
        """`cut_size` of what is seen of each image is its partner's background, anywhere in it.

        Returns the images, uint8 and as stored; the views that show so much of them; and the partners' foregrounds.
        """
        s, t, B = self.settings, self.training, len(raw_BHWC)
        mask = foreground_mask(bank_Bhw, s.mask_ratio, t.generator if s.ties == "random" else None)
        inner = s.box_range == "inner"
        corner = draw_corners(B, self.side, t.image_size, t.generator, inner)
        source = None
        if s.box_pair == "independent":  # of an image that is not seen itself: from any place of it
            source = draw_corners(B, self.side, t.pool.stored_size, t.generator, inner)
        view = t.draw_view(B)
        corner = within_view(corner, view, t.spare)
        return backmix(raw_BHWC, background_BHWC, mask, self.side, corner, source), view, mask

    def cam_of_raw(
        self, model: nn.Module, raw_BHWC: torch.Tensor, labels_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps of the images as stored, and which cells were seen, by a second pass in eval mode: it leaves batch
        statistics alone. Of images that are stored larger, the middle is seen."""
        t = self.training
        model.eval()
        with torch.set_grad_enabled(t.cam_by_gradient):
            middle = normalise(centre(raw_BHWC, t.image_size), t.pool.statistics)
            _, cam = t.forward_with_cam(model, middle, labels_B)
        model.train()
        if t.spare == 0:
            return cam, torch.ones_like(cam, dtype=torch.bool)
        return cam_to_stored(cam, middle_view(len(cam), t.spare, cam.device), t.image_size, t.pool.stored_size)
