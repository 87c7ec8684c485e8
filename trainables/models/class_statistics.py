"""What the training images of a class have in common: mean channels and Gram matrices of the last feature maps (CSSR).

Powers are taken in float64, of maps divided by their largest value: Z^8 of a value of 1e5 is no float32, and the sum of
its products no float64 either. Only a class that the network has predicted has statistics; the others' are 0.

Shapes: B batch, K classes, C channels, h w positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

POWER = 8
ENTRIES = 2**24  # of Gram matrices at a time, in float64: 128 MB


def gram(maps_BChw: torch.Tensor) -> torch.Tensor:
    """(|Z|^8 (|Z|^8)^T)^(1/8), elementwise powers, of each image's maps Z, C x h w. Float64 B,C,C, at least 0."""
    maps_BCN = maps_BChw.flatten(2).double()
    largest_B = maps_BCN.abs().amax(dim=(1, 2)).clamp_min(torch.finfo(torch.float32).tiny)
    scaled_BCN = (maps_BCN / largest_B[:, None, None]).pow(POWER)
    gram_BCC = (scaled_BCN @ scaled_BCN.mT).sqrt_().sqrt_().sqrt_()  # much faster than a power of 1 / 8
    return gram_BCC * largest_B.square()[:, None, None]


def class_statistics(
    seen: Iterable[tuple[torch.Tensor, torch.Tensor]], K: int, C: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of batches of maps B,C,h,w and predicted classes B: prototypes K,C and mean Gram matrices K,C,C, in float64.

    A prototype is the mean absolute value of each channel, divided by its sum over classes. A channel that no image
    uses has prototypes of 0, where the code divides by 0.
    """
    count_K, magnitude_KC, gram_KCC = (
        torch.zeros(shape, dtype=torch.float64, device=device) for shape in ((K,), (K, C), (K, C, C))
    )
    for maps_BChw, predicted_B in seen:
        of_KB = (predicted_B == torch.arange(K, device=device)[:, None]).double()
        count_K += of_KB.sum(dim=1)
        magnitude_KC += of_KB @ maps_BChw.abs().double().mean(dim=(2, 3))
        for rows in _rows(maps_BChw):
            gram_KCC += (of_KB[:, rows] @ gram(maps_BChw[rows]).flatten(1)).view(K, C, C)
    count_K.clamp_min_(1)
    mean_KC = magnitude_KC / count_K[:, None]
    total_C = mean_KC.sum(dim=0)
    return mean_KC / torch.where(total_C > 0, total_C, 1), gram_KCC / count_K[:, None, None]


def gram_similarity(maps_BChw: torch.Tensor, gram_KCC: torch.Tensor, predicted_B: torch.Tensor) -> torch.Tensor:
    """Sum over all pairs of channels of an image's Gram matrix times the mean one of its predicted class. Float64 B."""
    return torch.cat(
        [(gram(maps_BChw[rows]) * gram_KCC[predicted_B[rows]]).sum(dim=(1, 2)) for rows in _rows(maps_BChw)]
    )


def _rows(maps_BChw: torch.Tensor) -> Iterator[slice]:
    """So many images at a time that their Gram matrices fit into memory."""
    B, C = maps_BChw.shape[:2]
    step = max(1, ENTRIES // C**2)
    return (slice(first, first + step) for first in range(0, B, step))
