"""Rectangles that a mix cuts out of images, and other draws of whole batches. Each sample has its own.

Shapes: B batch, H W image.

torchvision's `transforms.v2` CutMix and MixUp draw one lambda and one box for a batch, and pair each image with its
neighbour; its RandomErasing draws one box for a batch, inside the image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.special import betaincinv


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


def draw_lam(batch: int, alpha: float, host: torch.Generator, device: torch.device, one: bool = False) -> torch.Tensor:
    """lambda ~ Beta(alpha, alpha) of each sample, or `one` for the whole batch. B, float32 in 0..1.

    By inversion on the host, where a generator can be given: sampling a Beta on a device takes none.
    """
    u = torch.rand(1 if one else batch, generator=host, dtype=torch.float64)
    lam = torch.from_numpy(betaincinv(alpha, alpha, u.numpy())).float()
    return lam.to(device, non_blocking=True).expand(batch)
