"""Random crop, flip and normalisation of whole batches, and the way back for activation maps.

Images are stored at a side of S px, and a network sees a square of I px of them: S = I for small images.

Shapes: B batch, H W image, h w positions of an activation map, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F

GREY = 128  # the uint8 that `HALF` normalises to about 0


class Statistics(NamedTuple):
    """Mean and standard deviation of pixels in 0..1, a channel each."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


HALF = Statistics((0.5,) * 3, (0.25,) * 3)  # CSSR and BackMix's file, for every set: 0 is mid-grey
NORMALISATIONS = {  # by the setting's value; `training` is computed of the training images
    "half": HALF,
    "unit": Statistics((0.5,) * 3, (0.5,) * 3),  # MedMNIST's experiments: pixels in -1..1
    "none": Statistics((0.0,) * 3, (1.0,) * 3),  # ARPL's code: pixels in 0..1
    "cifar10": Statistics((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # the asymmetric code, for every set
    "imagenet": Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision's weights
    "clip": Statistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),  # OpenAI's, LAION's
}


def normalise(images_BHWC: torch.Tensor, statistics: Statistics = HALF) -> torch.Tensor:
    """uint8 B,H,W,3 to float B,3,H,W; the memory stays channels-last, so nothing is copied twice."""
    B, H, W, C = images_BHWC.shape
    # Whole lines at a time: to go over three channels in the innermost loop is several times slower on a CPU.
    shift, scale = _shift_and_scale(statistics, W, images_BHWC.device)
    lines = images_BHWC.reshape(B, H, W * C).to(torch.float32).sub_(shift).mul_(scale)
    return lines.view(B, H, W, C).permute(0, 3, 1, 2)


@cache  # a copy to a device is not asked for at every batch
def _shift_and_scale(statistics: Statistics, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each value of a line of `width` pixels."""
    shift = torch.tensor([255 * mean for mean in statistics.mean])
    scale = torch.tensor([1 / (255 * std) for std in statistics.std])
    return shift.repeat(width).to(device), scale.repeat(width).to(device)


def centre(images_BHWC: torch.Tensor, size: int) -> torch.Tensor:
    """The middle of stored images, `size` px wide."""
    first = (images_BHWC.shape[1] - size) // 2
    return images_BHWC[:, first : first + size, first : first + size]


@dataclass(frozen=True)
class View:
    """How each image of a batch was seen: its crop's offset in pixels of the stored image, and whether mirrored."""

    top_B: torch.Tensor  # -padding..padding + S - I
    left_B: torch.Tensor
    flipped_B: torch.Tensor


def draw_view(batch: int, padding: int, flip: bool, generator: torch.Generator, spare: int = 0) -> View:
    """One crop and one coin for each image; `flip=False` mirrors none. `spare` is S - I, in px."""
    device = generator.device
    offsets = torch.randint(-padding, padding + spare + 1, (2, batch), generator=generator, device=device)
    flipped = (torch.rand(batch, generator=generator, device=device) < 0.5) & flip
    return View(offsets[0], offsets[1], flipped)


def inner_view(view: View, spare: int) -> View:
    """The same crops moved into the stored image, which is `spare` px larger, and not mirrored: without padding."""
    return View(view.top_B.clamp(0, spare), view.left_B.clamp(0, spare), torch.zeros_like(view.flipped_B))


def middle_view(batch: int, spare: int, device: torch.device) -> View:
    """How `centre` sees each image of a batch that is stored `spare` px larger."""
    offset_B = torch.full((batch,), spare // 2, device=device)
    return View(offset_B, offset_B, torch.zeros(batch, dtype=torch.bool, device=device))


def crop_and_flip(images_BHWC: torch.Tensor, view: View, fill: str, size: int | None = None) -> torch.Tensor:
    """Images as `view` sees them, B,I,I,C of `size` I; None: as stored. `fill`: `reflect` or `black` for pixels beyond
    the border.

    Equals padding, cutting at the offset, then mirroring, as one gather of whole pixels.
    """
    B, H, W, C = images_BHWC.shape
    tall, wide = (size, size) if size else (H, W)
    device = images_BHWC.device
    rows_BH = view.top_B[:, None] + torch.arange(tall, device=device)
    cols_BW = torch.arange(wide, device=device).expand(B, wide)
    cols_BW = view.left_B[:, None] + torch.where(view.flipped_B[:, None], wide - 1 - cols_BW, cols_BW)
    inside_y, inside_x = _reflect(rows_BH, H), _reflect(cols_BW, W)
    first_B = torch.arange(B, device=device) * (H * W)
    flat = first_B[:, None, None] + inside_y[:, :, None] * W + inside_x[:, None, :]
    seen = images_BHWC.reshape(-1, C).index_select(0, flat.view(-1)).view(B, tall, wide, C)
    if fill == "black":
        beyond = (rows_BH != inside_y)[:, :, None] | (cols_BW != inside_x)[:, None, :]
        seen.masked_fill_(beyond[..., None], 0)
    return seen


def _reflect(position: torch.Tensor, size: int) -> torch.Tensor:
    """Mirror positions at the border pixels (…, 2, 1, 0, 1, 2, …), for at most `size - 1` beyond."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def cam_to_stored(
    cam_Bhw: torch.Tensor, view: View, image_size: int, stored_size: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A map seen through `view`, in the coordinates of the stored image, and which positions it saw.

    The centre of each position is followed through the crop and the mirror and read there bilinearly.
    Returns (map B,h,w, seen B,h,w); a position whose centre the crop cut off is not seen.
    """
    h, w = cam_Bhw.shape[1:]
    device, dtype = cam_Bhw.device, cam_Bhw.dtype
    # Positions in -1..1 across the stored image, and across what is seen of it: a crop's offset of o pixels moves the
    # latter by -2 o / I, and a stored image that is larger by S - I moves and stretches them.
    spare = (stored_size or image_size) - image_size
    stretch = 1 + spare / image_size
    y_h = stretch * ((torch.arange(h, device=device, dtype=dtype) * 2 + 1) / h - 1)
    x_w = stretch * ((torch.arange(w, device=device, dtype=dtype) * 2 + 1) / w - 1)
    y_Bh = y_h - ((2 * view.top_B - spare) / image_size)[:, None]
    x_Bw = x_w - ((2 * view.left_B - spare) / image_size)[:, None]
    x_Bw = torch.where(view.flipped_B[:, None], -x_Bw, x_Bw)
    grid = torch.stack([x_Bw[:, None, :].expand(-1, h, -1), y_Bh[:, :, None].expand(-1, -1, w)], dim=-1)
    seen = (y_Bh.abs() < 1)[:, :, None] & (x_Bw.abs() < 1)[:, None, :]
    back = F.grid_sample(cam_Bhw[:, None], grid.to(dtype), padding_mode="border", align_corners=False)
    return back[:, 0], seen
