"""Mixing of whole batches: each function is pure and draws anew for every sample.

BackMix mixes stored uint8 images, before they are cropped, in a box of what will be seen of them; the others mix images
as the network sees them.
Shapes: B batch, H W image, h w cells of a foreground mask, C channels.

torchvision's `transforms.v2` CutMix and MixUp draw one lambda and one box for a batch, and pair each image with its
neighbour; its RandomErasing draws one box for a batch, inside the image. Here each sample has its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.special import betaincinv

from trainables.data.augment import GREY, View, inner_view


class Box(NamedTuple):
    """A rectangle in each of B images, in pixels: rows top..bottom-1, columns left..right-1."""

    top_B: torch.Tensor
    left_B: torch.Tensor
    bottom_B: torch.Tensor
    right_B: torch.Tensor

    def area(self) -> torch.Tensor:
        """Pixels inside. B."""
        return (self.bottom_B - self.top_B) * (self.right_B - self.left_B)

    def mask(self, height: int, width: int) -> torch.Tensor:
        """True inside. B,H,W."""
        y = torch.arange(height, device=self.top_B.device)
        x = torch.arange(width, device=self.top_B.device)
        rows = (y >= self.top_B[:, None]) & (y < self.bottom_B[:, None])
        columns = (x >= self.left_B[:, None]) & (x < self.right_B[:, None])
        return rows[:, :, None] & columns[:, None, :]


class Mixed(NamedTuple):
    """A batch after a mix: sample b has the share `share_B[b]` of itself, the rest of sample `partners_B[b]`."""

    images_BCHW: torch.Tensor
    partners_B: torch.Tensor
    share_B: torch.Tensor  # lambda, 0..1


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
        foreground_Bhw: True where x_B shows its object (C_B), on a grid of cells over the image.
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
    """Images whose foreground, on a grid of cells over them, is mid-grey."""
    _, H, W, _ = images_BHWC.shape
    h, w = foreground_Bhw.shape[1:]
    rows_H = torch.arange(H, device=foreground_Bhw.device) * h // H  # the cell that each pixel lies in
    cols_W = torch.arange(W, device=foreground_Bhw.device) * w // W
    return images_BHWC.masked_fill(foreground_Bhw[:, rows_H][:, :, cols_W][..., None], GREY)


def draw_shares(
    batch: int, alpha: float, host: torch.Generator, device: torch.device, one: bool = False
) -> torch.Tensor:
    """lambda ~ Beta(alpha, alpha) of each sample, or `one` for the whole batch. B, float32 in 0..1.

    By inversion on the host, where a generator can be given: sampling a Beta on a device takes none.
    """
    u = torch.rand(1 if one else batch, generator=host, dtype=torch.float64)
    share = torch.from_numpy(betaincinv(alpha, alpha, u.numpy())).float()
    return share.to(device, non_blocking=True).expand(batch)


def draw_box(area_B: torch.Tensor, height: int, width: int, generator: torch.Generator, one: bool = False) -> Box:
    """A box of the image's shape and of `area_B` (0..1) of its area, its centre on any pixel; the border cuts it off.

    As in CutMix's section 3.1 with its code's rounding: sides floor(size * sqrt(area)), made even. `one` puts all
    centres on the same pixel.
    """
    batch = 1 if one else len(area_B)
    centre = torch.rand(2, batch, generator=generator, device=generator.device).expand(2, len(area_B))
    edges = []
    for position, size in zip(centre, (height, width), strict=True):
        middle = (position * size).long().clamp_(max=size - 1)
        half = (size * area_B.sqrt()).long() // 2
        edges.append(((middle - half).clamp_(min=0), (middle + half).clamp_(max=size)))
    (top, bottom), (left, right) = edges
    return Box(top, left, bottom, right)


def cutout(images_BCHW: torch.Tensor, box: Box) -> Mixed:
    """CutOut (DeVries and Taylor, 2017): 0, the grey of a normalised image, inside the box; nobody else has a share."""
    B, _, H, W = images_BCHW.shape
    hidden = images_BCHW * ~box.mask(H, W)[:, None]  # as masked_fill, but channels stay last
    each = torch.arange(B, device=images_BCHW.device)
    return Mixed(hidden, each, torch.ones(B, device=images_BCHW.device))


def mixup(images_BCHW: torch.Tensor, partners_B: torch.Tensor, share_B: torch.Tensor) -> Mixed:
    """MixUp (Zhang et al., 2018): lambda x_i + (1 - lambda) x_j, pixel by pixel."""
    share = share_B[:, None, None, None]
    return Mixed(share * images_BCHW + (1 - share) * images_BCHW[partners_B], partners_B, share_B)


def cutmix(images_BCHW: torch.Tensor, partners_B: torch.Tensor, box: Box) -> Mixed:
    """CutMix (Yun et al., 2019): the partner inside the box; lambda is the share of the area outside it."""
    _, _, H, W = images_BCHW.shape
    pasted = torch.where(box.mask(H, W)[:, None], images_BCHW[partners_B], images_BCHW)
    return Mixed(pasted, partners_B, 1 - box.area() / (H * W))
