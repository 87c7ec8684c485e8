"""Random crop, flip and normalisation of whole batches, and the way back for activation maps.

Shapes: B batch, H W image, h w cells of an activation map, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

MEAN, STD = 0.5, 0.25  # of pixels in 0..1, as CSSR and BackMix's file use for every set: 0 is mid-grey
GREY = 128  # the uint8 that normalises to about 0


def normalise(images_BHWC: torch.Tensor) -> torch.Tensor:
    """uint8 B,H,W,C to float B,C,H,W; the memory stays channels-last, so nothing is copied twice."""
    return images_BHWC.permute(0, 3, 1, 2).to(torch.float32).sub_(255 * MEAN).mul_(1 / (255 * STD))


@dataclass(frozen=True)
class View:
    """How each image of a batch was seen: its crop's offset in pixels of the stored image, and whether mirrored."""

    top_B: torch.Tensor  # -padding..padding
    left_B: torch.Tensor
    flipped_B: torch.Tensor


def draw_view(batch: int, padding: int, flip: bool, generator: torch.Generator) -> View:
    """One crop and one coin for each image; `flip=False` mirrors none."""
    device = generator.device
    offsets = torch.randint(-padding, padding + 1, (2, batch), generator=generator, device=device)
    flipped = (torch.rand(batch, generator=generator, device=device) < 0.5) & flip
    return View(offsets[0], offsets[1], flipped)


def crop_and_flip(images_BHWC: torch.Tensor, view: View, fill: str) -> torch.Tensor:
    """Images as `view` sees them, same size. `fill`: `reflect` or `black` for pixels beyond the border.

    Equals padding, cutting at the offset, then mirroring, as one gather of whole pixels.
    """
    B, H, W, C = images_BHWC.shape
    device = images_BHWC.device
    rows_BH = view.top_B[:, None] + torch.arange(H, device=device)
    cols_BW = torch.arange(W, device=device).expand(B, W)
    cols_BW = view.left_B[:, None] + torch.where(view.flipped_B[:, None], W - 1 - cols_BW, cols_BW)
    inside_y, inside_x = _reflect(rows_BH, H), _reflect(cols_BW, W)
    first_B = torch.arange(B, device=device) * (H * W)
    flat = first_B[:, None, None] + inside_y[:, :, None] * W + inside_x[:, None, :]
    seen = images_BHWC.reshape(-1, C).index_select(0, flat.view(-1)).view(B, H, W, C)
    if fill == "black":
        beyond = (rows_BH != inside_y)[:, :, None] | (cols_BW != inside_x)[:, None, :]
        seen.masked_fill_(beyond[..., None], 0)
    return seen


def _reflect(position: torch.Tensor, size: int) -> torch.Tensor:
    """Mirror positions at the border pixels (…, 2, 1, 0, 1, 2, …), for at most `size - 1` beyond."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def cam_to_stored(cam_Bhw: torch.Tensor, view: View, image_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A map seen through `view`, in the coordinates of the stored image, and which cells it saw.

    Each cell's centre is followed through the crop and the mirror and read there bilinearly.
    Returns (map B,h,w, seen B,h,w); a cell whose centre the crop cut off is not seen.
    """
    h, w = cam_Bhw.shape[1:]
    device, dtype = cam_Bhw.device, cam_Bhw.dtype
    # Positions in -1..1 across the image; a crop's offset of o pixels moves them by -2 o / size.
    y_h = (torch.arange(h, device=device, dtype=dtype) * 2 + 1) / h - 1
    x_w = (torch.arange(w, device=device, dtype=dtype) * 2 + 1) / w - 1
    y_Bh = y_h - (view.top_B * (2 / image_size))[:, None]
    x_Bw = x_w - (view.left_B * (2 / image_size))[:, None]
    x_Bw = torch.where(view.flipped_B[:, None], -x_Bw, x_Bw)
    grid = torch.stack([x_Bw[:, None, :].expand(-1, h, -1), y_Bh[:, :, None].expand(-1, -1, w)], dim=-1)
    seen = (y_Bh.abs() < 1)[:, :, None] & (x_Bw.abs() < 1)[:, None, :]
    back = F.grid_sample(cam_Bhw[:, None], grid.to(dtype), padding_mode="border", align_corners=False)
    return back[:, 0], seen
