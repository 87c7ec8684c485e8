"""Mixing of whole batches: each function is pure and draws anew for every sample.

Shapes: B batch, H W image, h w cells of a foreground mask, C channels.
"""

from __future__ import annotations

import torch

from trainables.data.augment import GREY


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
    sorted_labels, by_class = pool_labels_N.sort()
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


def _box_mask(top_B: torch.Tensor, left_B: torch.Tensor, side: int, H: int, W: int) -> torch.Tensor:
    y = torch.arange(H, device=top_B.device) - top_B[:, None]
    x = torch.arange(W, device=top_B.device) - left_B[:, None]
    return ((y >= 0) & (y < side))[:, :, None] & ((x >= 0) & (x < side))[:, None, :]


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
        foreground_Bhw: True where x_B shows its object (C_B), on cells that divide H and W.
        side: side of the square box M in pixels.
        corner: (top, left) of the box in the target, each B.
        source_corner: of the box in the background; None: the same place, as Eq. 3 has it.

    Returns: uint8 B,H,W,C. Inside the box, foreground is mid-grey: the 0 of a normalised image.
    """
    B, H, W, _ = target_BHWC.shape
    h, w = foreground_Bhw.shape[1:]
    hidden = foreground_Bhw.repeat_interleave(H // h, dim=1).repeat_interleave(W // w, dim=2)
    patch = background_BHWC.masked_fill(hidden[..., None], GREY)
    if source_corner is not None:
        y = (torch.arange(H, device=patch.device) + (source_corner[0] - corner[0])[:, None]) % H
        x = (torch.arange(W, device=patch.device) + (source_corner[1] - corner[1])[:, None]) % W
        each = torch.arange(B, device=patch.device)[:, None, None]
        patch = patch[each, y[:, :, None], x[:, None, :]]
    inside = _box_mask(*corner, side, H, W)
    return torch.where(inside[..., None], patch, target_BHWC)
