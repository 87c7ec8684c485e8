"""BackMix (Wang et al., TPAMI 2025): paste background patches of other images, found by class activation maps.

A batch of Algorithm 1: mask the partners' foreground with the bank, mix (Eq. 3), crop and flip. The label stays that of
the target. Once the network has seen the batch, the bank moves towards the maps of that very pass (Eq. 4).

Shapes: N samples of the pool, B batch, H W image, h w positions of the bank.
"""

from __future__ import annotations

from typing import Any

import torch

from trainables.data.augment import GREY, View, cam_to_stored, centre, inner_view, middle_view, normalise
from trainables.mixes.base import Batch, Mix, TrainingImages
from trainables.mixes.boxes import Box
from trainables.models.cam import foreground_mask, update_bank
from trainables.settings.mixes import BackMixSettings


class BackMix(Mix):
    """`bank_Nhw` holds a rough foreground for each training image, in the coordinates of the stored image."""

    settings: BackMixSettings
    looks = True

    def __init__(self, settings: BackMixSettings, images: TrainingImages) -> None:
        super().__init__(settings, images)
        self.side = box_side(settings.cut_size, images.image_size)
        generator = images.generator
        shape = (len(images.pool), images.map_side, images.map_side)
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
        return own

    def load_state(self, state: dict[str, Any]) -> None:
        self.bank_Nhw.copy_(state["bank"])
        if self.settings.bank_refresh == "epoch":
            self.readable_Nhw = state["readable"].to(self.bank_Nhw.device, copy=True)

    def batch(self, ids_B: torch.Tensor) -> Batch:
        images, pool = self.images, self.images.pool
        stored, labels = pool[ids_B], pool.labels[ids_B]
        mixed, view = self.mix(stored, labels, ids_B)
        seen = images.through(view, mixed)
        batch = Batch(ids_B, labels, seen, view, seen)
        return batch if self.settings.cam_from == "mixed" else batch._replace(foreground_BCHW=self.middle(stored))

    def mix(self, stored_BHWC: torch.Tensor, labels_B: torch.Tensor, ids_B: torch.Tensor) -> tuple[torch.Tensor, View]:
        """The batch with boxes of other images' background pasted in, uint8, and the view that it is to be seen
        through."""
        s, images, pool = self.settings, self.images, self.images.pool
        if self.side == 0:
            return stored_BHWC, images.draw_view(len(ids_B))
        other = s.background_class == "other"
        if s.background == "batch":
            here = torch.arange(len(ids_B), device=ids_B.device)
            partners = draw_partners(labels_B, labels_B, other, images.generator, self_B=here)
            partner_ids, background = ids_B[partners], stored_BHWC[partners]
        else:
            partner_ids = draw_partners(labels_B, pool.labels, other, images.generator)
            background = pool[partner_ids]
        rows = self.readable_Nhw[partner_ids]
        if s.bank_read == "normalise":
            rows = rows / rows.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
            self.readable_Nhw[partner_ids] = rows
        mixed, view, _ = self.paste(stored_BHWC, background, rows)
        return mixed, view

    def paste(
        self, stored_BHWC: torch.Tensor, background_BHWC: torch.Tensor, bank_Bhw: torch.Tensor
    ) -> tuple[torch.Tensor, View, torch.Tensor]:
        """`cut_size` of what is seen of each image is its partner's background, anywhere in it.

        Returns the images, uint8 and as stored; the views that show so much of them; and the partners' foregrounds.
        """
        s, images, B = self.settings, self.images, len(stored_BHWC)
        mask = foreground_mask(bank_Bhw, s.mask_ratio, images.generator if s.ties == "random" else None)
        inner = s.box_range == "inner"
        corner = draw_corners(B, self.side, images.image_size, images.generator, inner)
        source = None
        if s.box_pair == "independent":  # of an image that is not seen itself: from any place of it
            source = draw_corners(B, self.side, images.pool.stored_size, images.generator, inner)
        view = images.draw_view(B)
        corner = within_view(corner, view, images.spare)
        return backmix(stored_BHWC, background_BHWC, mask, self.side, corner, source), view, mask

    def middle(self, stored_BHWC: torch.Tensor) -> torch.Tensor:
        """The middle of stored images, as a network sees it without augmentation. B,C,H,W."""
        return normalise(centre(stored_BHWC, self.images.image_size), self.images.pool.statistics)

    def look(self, batch: Batch, foreground_Bhw: torch.Tensor) -> None:
        """Move the bank towards these maps, which are of images as they were seen, or of the middle of stored ones."""
        cam, seen = self.stored(foreground_Bhw, batch.view if batch.foreground_BCHW is None else None)
        update_bank(self.bank_Nhw, batch.ids_B, cam, seen, self.settings.bank_decay)

    def stored(self, cam_Bhw: torch.Tensor, view: View | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps in the coordinates of stored images, and which positions were seen: through a view, or of the middle."""
        images = self.images
        if view is None and images.spare == 0:
            return cam_Bhw, torch.ones_like(cam_Bhw, dtype=torch.bool)
        view = view or middle_view(len(cam_Bhw), images.spare, cam_Bhw.device)
        return cam_to_stored(cam_Bhw, view, images.image_size, images.pool.stored_size)


def draw_partners(
    labels_B: torch.Tensor,
    pool_labels_N: torch.Tensor,
    other_class: bool,
    generator: torch.Generator,
    self_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """For each of B samples, the position of a random partner among the N of a pool. B, int64.

    `other_class` draws evenly among the pool's samples of another class, and any sample where the pool
    has no other class. `self_B` gives each sample's own position in the pool, which is then never drawn
    (BackMix's Algorithm 1 picks "another image"); a pool of one has only itself to offer.
    """
    B, N = len(labels_B), len(pool_labels_N)
    device = pool_labels_N.device
    u_B = torch.rand(B, generator=generator, device=device, dtype=torch.float64)
    if self_B is None or N == 1:
        anyone = (u_B * N).long().clamp_(max=N - 1)
    else:
        anyone = (self_B + 1 + (u_B * (N - 1)).long().clamp_(max=N - 2)) % N
    if not other_class:
        return anyone
    # Sorted by class, a class is one block: drawing outside it is drawing a position and stepping over it.
    # Stable, so that equal draws are equal partners on every device.
    sorted_labels, by_class = pool_labels_N.sort(stable=True)
    start = torch.searchsorted(sorted_labels, labels_B)
    block = torch.searchsorted(sorted_labels, labels_B, right=True) - start
    position = (u_B * (N - block)).long()
    position = torch.where(position >= start, position + block, position).clamp_(max=N - 1)
    return torch.where(block < N, by_class[position], anyone)


def box_side(area: float, size: int) -> int:
    """Side in pixels of a square box that covers `area` (0..1) of a square image: round(sqrt(area) * size)."""
    return round(area**0.5 * size)


def draw_corners(
    batch: int, side: int, size: int, generator: torch.Generator, inner: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(top, left) of a box inside the image, evenly over all places. `inner` leaves out the last row and
    column, as a half-open randint(0, size - side) does."""
    places = max(size - side + (0 if inner else 1), 1)
    top, left = torch.randint(0, places, (2, batch), generator=generator, device=generator.device)
    return top, left


def within_view(corner: tuple[torch.Tensor, torch.Tensor], view: View, spare: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Corners of boxes in what is seen, as corners in images that are stored `spare` px larger. A crop's padding, where
    there is no image, is left out: where `spare` is 0, they stay as they are."""
    inner = inner_view(view, spare)
    return inner.top_B + corner[0], inner.left_B + corner[1]


def backmix(
    target_BHWC: torch.Tensor,
    background_BHWC: torch.Tensor,
    foreground_Bhw: torch.Tensor,
    side: int,
    corner: tuple[torch.Tensor, torch.Tensor],
    source_corner: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """BackMix's Eq. 3: x = M * (1 - C_B) * x_B + (1 - M) * x_T. The label stays that of the target.

    Args:
        target_BHWC, background_BHWC: uint8 images x_T and x_B.
        foreground_Bhw: True where x_B shows its object (C_B), on a grid of positions over the image.
        side: side of the square box M in pixels.
        corner: (top, left) of the box in the target, each B.
        source_corner: of the box in the background; None: the same place, as Eq. 3 has it.

    Returns: uint8 B,H,W,C. Inside the box, foreground is mid-grey: the 0 of a normalised image.
    """
    B, H, W, _ = target_BHWC.shape
    patch = hide(background_BHWC, foreground_Bhw)
    if source_corner is not None:
        y = (torch.arange(H, device=patch.device) + (source_corner[0] - corner[0])[:, None]) % H
        x = (torch.arange(W, device=patch.device) + (source_corner[1] - corner[1])[:, None]) % W
        each = torch.arange(B, device=patch.device)[:, None, None]
        patch = patch[each, y[:, :, None], x[:, None, :]]
    inside = Box(corner[0], corner[1], corner[0] + side, corner[1] + side).mask(H, W)
    return torch.where(inside[..., None], patch, target_BHWC)


def hide(images_BHWC: torch.Tensor, foreground_Bhw: torch.Tensor) -> torch.Tensor:
    """Images whose foreground, on a grid of positions over them, is mid-grey."""
    _, H, W, _ = images_BHWC.shape
    h, w = foreground_Bhw.shape[1:]
    rows_H = torch.arange(H, device=foreground_Bhw.device) * h // H  # the position that each pixel lies in
    cols_W = torch.arange(W, device=foreground_Bhw.device) * w // W
    return images_BHWC.masked_fill(foreground_Bhw[:, rows_H][:, :, cols_W][..., None], GREY)
