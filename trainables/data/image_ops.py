"""The elementary image operations of RandAugment and AugMix, each on a whole batch with a strength per sample.

Every operation takes (images_BHWC uint8 with 3 channels, strength_B float32) and returns uint8 B,H,W,C of the same
size. Each sample comes out as torchvision.transforms.v2.functional makes it of that image alone, but for the last bit
of a float: it decides between two pixels where one is read half-way between them, and between two levels where a
blend is a whole number.

Shapes: B batch, H W image, C channels.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F


def identity(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """The images themselves; the strength is not used."""
    return images_BHWC


def shear_x(images_BHWC: torch.Tensor, strength_B: torch.Tensor, mode: str = "nearest") -> torch.Tensor:
    """Rows move left by `strength` times their distance from the top edge. `mode`: `nearest` or `bilinear`."""
    x_W, y_H1 = _centred_grid(images_BHWC)
    return _read_at(images_BHWC, x_W + _each(strength_B, 3) * (y_H1 + images_BHWC.shape[1] / 2), y_H1, mode)


def shear_y(images_BHWC: torch.Tensor, strength_B: torch.Tensor, mode: str = "nearest") -> torch.Tensor:
    """Columns move up by `strength` times their distance from the left edge. `mode`: `nearest` or `bilinear`."""
    x_W, y_H1 = _centred_grid(images_BHWC)
    return _read_at(images_BHWC, x_W, y_H1 + _each(strength_B, 3) * (x_W + images_BHWC.shape[2] / 2), mode)


def translate_x(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Moves right by `strength` whole pixels, left where negative."""
    x_W, y_H1 = _centred_grid(images_BHWC)
    return _read_at(images_BHWC, x_W - _each(strength_B, 3), y_H1, "nearest")


def translate_y(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Moves down by `strength` whole pixels, up where negative."""
    x_W, y_H1 = _centred_grid(images_BHWC)
    return _read_at(images_BHWC, x_W, y_H1 - _each(strength_B, 3), "nearest")


def rotate(images_BHWC: torch.Tensor, strength_B: torch.Tensor, mode: str = "nearest") -> torch.Tensor:
    """Turns counter-clockwise by `strength` degrees about the centre. `mode`: `nearest` or `bilinear`."""
    x_W, y_H1 = _centred_grid(images_BHWC)
    angle_B11 = _each(strength_B.deg2rad(), 3)
    cos, sin = angle_B11.cos(), angle_B11.sin()
    return _read_at(images_BHWC, cos * x_W - sin * y_H1, sin * x_W + cos * y_H1, mode)


def brightness(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Away from black by the factor 1 + `strength`, which is at least -1."""
    return _to_uint8(images_BHWC * (1 + _each(strength_B, 4)))


def color(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Away from the grey version of the image by the factor 1 + `strength`: saturation."""
    return _blend(images_BHWC, _grey(images_BHWC)[..., None], strength_B)


def contrast(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Away from the mean of the grey version of the image by the factor 1 + `strength`."""
    return _blend(images_BHWC, _each(_grey(images_BHWC).mean(dim=(1, 2)), 4), strength_B)


def sharpness(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Away from a 3 x 3 blur, weights (1 1 1, 1 5 1, 1 1 1) / 13, by the factor 1 + `strength`; borders stay."""
    inside = images_BHWC[:, 1:-1, 1:-1]
    # Sums of whole numbers: exact, as a convolution need not be, and without cuDNN's search for each group size.
    level = images_BHWC.to(torch.float32)
    rows = level[:, :-2] + level[:, 1:-1] + level[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    blurred = (box + 4 * level[:, 1:-1, 1:-1]).div_(13).round_()
    sharpened = images_BHWC.clone()
    sharpened[:, 1:-1, 1:-1] = _blend(inside, blurred, strength_B)
    return sharpened


def posterize(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Keeps the `strength` highest of the 8 bits, 0..8."""
    kept_B = torch.bitwise_left_shift(255, 8 - strength_B.to(torch.int32)) & 255
    return images_BHWC & _each(kept_B.to(torch.uint8), 4)


def solarize(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Inverts the values of at least `strength`, in grey levels."""
    return torch.where(images_BHWC >= _each(strength_B, 4), 255 - images_BHWC, images_BHWC)


def invert(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """The negative. The strength is not used."""
    return 255 - images_BHWC


def solarize_add(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Adds `strength` whole levels, at most up to 255, then inverts the values of at least 128."""
    added = (images_BHWC + _each(strength_B, 4)).clamp_(max=255).to(torch.uint8)
    return torch.where(added >= 128, 255 - added, added)


def cutout_abs(images_BHWC: torch.Tensor, strength_B: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A box in ImageNet's mean colour, `strength` px and one more on a side, its place drawn for each sample: AGC's
    CutoutAbs. Its point is drawn evenly from 1..size: numpy's uniform(size) is uniform(low=size, high=1)."""
    B, H, W, _ = images_BHWC.shape
    u = torch.rand(2, B, generator=generator, device=images_BHWC.device)
    return _boxed(images_BHWC, H + (1 - H) * u[0], W + (1 - W) * u[1], strength_B, (125, 123, 114))


def cutout_grey(images_BHWC: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """A grey box, `side` px and one more on a side, around a point drawn evenly from the image: CSSR's CutoutAbs."""
    B, H, W, _ = images_BHWC.shape
    u = torch.rand(2, B, generator=generator, device=images_BHWC.device)
    side_B = torch.full((B,), float(side), device=images_BHWC.device)
    return _boxed(images_BHWC, H * u[0], W * u[1], side_B, (127, 127, 127))


def _boxed(
    images_BHWC: torch.Tensor, y_B: torch.Tensor, x_B: torch.Tensor, side_B: torch.Tensor, colour: tuple[int, int, int]
) -> torch.Tensor:
    """Images with a box in one colour. It begins `side / 2` px before the point, or at the border where that is
    outside, and is measured from there: it is cut off at the right and at the bottom alone."""
    inside = []
    for size, point_B in zip(images_BHWC.shape[1:3], (y_B, x_B), strict=True):
        first_B = (point_B - side_B / 2).clamp_(min=0).trunc_()
        position = torch.arange(size, device=images_BHWC.device)
        inside.append((position >= first_B[:, None]) & (position <= (first_B + side_B).trunc_()[:, None]))
    box_BHW = inside[0][:, :, None] & inside[1][:, None, :]
    return torch.where(box_BHW[..., None], _on(colour, images_BHWC.device), images_BHWC)


@cache  # a copy to a device is not asked for at every batch
def _on(colour: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8).to(device)


def autocontrast(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Stretches each channel to 0..255; one of a single value stays. The strength is not used."""
    low, high = images_BHWC.amin((1, 2), keepdim=True), images_BHWC.amax((1, 2), keepdim=True)
    scale = (high - low) * (1 / 255)
    return torch.where(high > low, _to_uint8((images_BHWC - low).to(torch.float32) / scale), images_BHWC)


def equalize(images_BHWC: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Evens out each channel's histogram by Pillow's rule. The strength is not used.

    With N pixels, n of them at the highest value, and step = (N - n) // 255, a level v becomes
    (pixels below v + step // 2) // step, at most 255; a channel with step 0 stays.
    """
    B, H, W, C = images_BHWC.shape
    level_BNC = images_BHWC.reshape(B, H * W, C).long()
    histogram = torch.zeros(B, 256, C, dtype=torch.int64, device=images_BHWC.device)
    histogram.scatter_add_(1, level_BNC, torch.ones_like(level_BNC))
    step = (H * W - histogram.gather(1, level_BNC.amax(1, keepdim=True))) // 255
    below = histogram.cumsum(1) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255).to(torch.uint8)
    return torch.where(step[:, None] > 0, look_up(images_BHWC, table), images_BHWC)


def look_up(images_BHWC: torch.Tensor, table_B256C: torch.Tensor) -> torch.Tensor:
    """Each level v of sample b and channel c becomes `table[b, v, c]`."""
    B, H, W, C = images_BHWC.shape
    return table_B256C.gather(1, images_BHWC.reshape(B, H * W, C).long()).view(B, H, W, C)


def _each(value_B: torch.Tensor, dims: int) -> torch.Tensor:
    """One value a sample, shaped to broadcast over `dims` dimensions."""
    return value_B.view(-1, *[1] * (dims - 1))


def _centred_grid(images_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_W, y_H1): where the pixels' centres are, in pixels from the image's centre."""
    H, W = images_BHWC.shape[1:3]
    device = images_BHWC.device
    return torch.arange(W, device=device) - (W - 1) / 2, (torch.arange(H, device=device) - (H - 1) / 2)[:, None]


def _read_at(images_BHWC: torch.Tensor, x: torch.Tensor, y: torch.Tensor, mode: str) -> torch.Tensor:
    """Pixels read at (x, y), in pixels from the centre, each broadcast to B,H,W; black beyond the border."""
    B, H, W, _ = images_BHWC.shape
    grid = torch.stack([(x * (2 / W)).expand(B, H, W), (y * (2 / H)).expand(B, H, W)], dim=-1)
    levels = images_BHWC.permute(0, 3, 1, 2).to(torch.float32)
    read = F.grid_sample(levels, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return read.round_().permute(0, 2, 3, 1).to(torch.uint8, memory_format=torch.contiguous_format)


def _grey(images_BHWC: torch.Tensor) -> torch.Tensor:
    """Whole grey levels as float32 B,H,W."""
    red, green, blue = images_BHWC.unbind(-1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _blend(images_BHWC: torch.Tensor, base: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """images * (1 + strength) - base * strength."""
    # In this form whole differences stay exact; torchvision's may end a bit below a whole level, and then a level down.
    return _to_uint8(images_BHWC + (images_BHWC - base) * _each(strength_B, 4))


def _to_uint8(levels: torch.Tensor) -> torch.Tensor:
    """Cut to 0..255 and rounded down, as torchvision does."""
    return levels.clamp_(0, 255).to(torch.uint8)
