"""OpenMix's images of no known class, each made of one image alone ("OpenMix+", TCSVT 2023).

The formulas are those of the released code (t9liverpool/OpenMix, commit dad99a74, utils.py), which draws one angle, one
place and one pair of mirrors for a batch: here each image has its own. Of the paper, only the abstract is open to us.

How objects are found is ours: the code calls OpenCV's GrabCut (one iteration, the frame of an image its background),
which is one image at a time on the host. `objects` starts from the same frame, and asks which pixels are less like it.
On 500 images of CIFAR-10 (of Tiny-ImageNet) the two share 0.63 (0.60) of their union, where GrabCut's object is of a
size that is used. A box in the middle shares 0.43 (0.45); GrabCut with itself, drawn anew, 0.90 (0.91). GrabCut's is of
that size in 0.55 (0.33) of the images, ours in 0.86 (0.63).

Shapes: B batch, H W image, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trainables.data.image_ops import rotate

NOISE = 4.0  # grey levels: the least standard deviation of a colour
MORE_LIKELY = 1.0  # logarithm of how much more likely an object's colours are inside than in the frame
SIZES = (0.1, 0.8)  # an object that takes more of its image than the first and less than the second is used


def openmixup(images_BHWC: torch.Tensor, angle_B: torch.Tensor) -> torch.Tensor:
    """x / 2 + rot(x) / 2: an image and itself, turned by `angle_B` degrees, its corners black. uint8."""
    turned = rotate(images_BHWC, angle_B)
    return ((images_BHWC.to(torch.int16) + turned + 1) >> 1).to(torch.uint8)


def opencutout(images_BHWC: torch.Tensor, mask_BHW: torch.Tensor) -> torch.Tensor:
    """0, black, in the mask."""
    return images_BHWC.masked_fill(mask_BHW[..., None], 0)


def opencutmix(images_BHWC: torch.Tensor, filler_BHWC: torch.Tensor, mask_BHW: torch.Tensor) -> torch.Tensor:
    """Half as bright: x / 2 outside the mask, filler / 2 in it. uint8, rounded down."""
    return torch.where(mask_BHW[..., None], filler_BHWC, images_BHWC) >> 1


def kaleidoscope(
    images_BHWC: torch.Tensor, mirrored_B: torch.Tensor, upside_down_B: torch.Tensor, angle_B: torch.Tensor
) -> torch.Tensor:
    """The code's filler: an image that may be mirrored and upside down, then its lower left quarter alone, mirrored
    into the others, then turned by `angle_B` degrees."""
    _, H, W, _ = images_BHWC.shape
    images = torch.where(mirrored_B[:, None, None, None], images_BHWC.flip(2), images_BHWC)
    images = torch.where(upside_down_B[:, None, None, None], images.flip(1), images)
    low, left = (H + 1) // 2, (W + 1) // 2  # of the quarter
    down_H, right_W = (torch.arange(size, device=images.device) for size in (H, W))
    rows_H = torch.where(down_H < low, H - low + down_H, H - 1 - (down_H - low))
    columns_W = torch.where(right_W < W - left, W - left - 1 - right_W, right_W - (W - left))
    return rotate(images[:, rows_H][:, :, columns_W], angle_B)


def trivial_masks(mask_BHW: torch.Tensor, top_B: torch.Tensor, left_B: torch.Tensor) -> torch.Tensor:
    """Masks of half the size: where any of two by two pixels is in the mask, with the corner of the small image at
    (top, left), which may be outside. B,H,W bool."""
    small = F.max_pool2d(mask_BHW[:, None].float(), 2)[:, 0] > 0
    inside = []
    for size, most, first_B in zip(mask_BHW.shape[1:], small.shape[1:], (top_B, left_B), strict=True):
        at = torch.arange(size, device=small.device) - first_B[:, None]
        inside.append((at.clamp(0, most - 1), (at >= 0) & (at < most)))
    (y, in_y), (x, in_x) = inside
    each = torch.arange(len(small), device=small.device)[:, None, None]
    return small[each, y[:, :, None], x[:, None, :]] & in_y[:, :, None] & in_x[:, None, :]


def draw_places(batch: int, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(top, left) of an image of half the `size`, its centre anywhere in the whole one or on its border. B each."""
    top, left = torch.randint(0, size + 1, (2, batch), generator=generator, device=generator.device) - size // 4
    return top, left


def of_right_size(mask_BHW: torch.Tensor) -> torch.Tensor:
    """Whether each object is neither too small nor too large to be used. B."""
    share_B = mask_BHW.float().mean(dim=(1, 2))
    return (share_B > SIZES[0]) & (share_B < SIZES[1])


def objects(images_BHWC: torch.Tensor) -> torch.Tensor:
    """A rough object in each image: pixels whose colour is e times as likely among all pixels inside as among those of
    its frame, one px wide. B,H,W bool.

    Either has one normal distribution of colours; the logarithm of their ratio is averaged over 3 by 3 pixels.
    """
    B, H, W, _ = images_BHWC.shape
    frame_HW = torch.ones(H, W, dtype=torch.bool, device=images_BHWC.device)
    frame_HW[1:-1, 1:-1] = False
    with torch.autocast(images_BHWC.device.type, enabled=False):
        colour_BNC = images_BHWC.view(B, H * W, -1).float()
        of_frame_N = frame_HW.view(-1).float()
        ratio_BN = log_normal(colour_BNC, 1 - of_frame_N) - log_normal(colour_BNC, of_frame_N)
        smooth_BHW = F.avg_pool2d(ratio_BN.view(B, 1, H, W), 3, 1, 1, count_include_pad=False)[:, 0]
    return (smooth_BHW > MORE_LIKELY) & ~frame_HW


def log_normal(colour_BNC: torch.Tensor, chosen_N: torch.Tensor) -> torch.Tensor:
    """Logarithm, but for a constant, of the density of each colour under the normal distribution of those with
    `chosen_N` 1. B,N."""
    count = chosen_N.sum()
    off_BNC = colour_BNC - (chosen_N @ colour_BNC / count)[:, None]
    covariance_BCC = (off_BNC * chosen_N[:, None]).mT @ off_BNC / count
    noise_CC = NOISE**2 * torch.eye(off_BNC.shape[2], device=off_BNC.device)
    root_BCC = torch.linalg.cholesky_ex(covariance_BCC + noise_CC).L  # never asks the device whether it could
    white_BCN = torch.linalg.solve_triangular(root_BCC, off_BNC.mT, upper=False)
    return -white_BCN.square().sum(dim=1) / 2 - root_BCC.diagonal(dim1=1, dim2=2).log().sum(dim=1, keepdim=True)
