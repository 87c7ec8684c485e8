"""Class activation maps as a rough foreground: the bank that remembers them, and the mask made of it.

Shapes: B batch, K classes, N training samples, h w cells of the network's last map.
"""

from __future__ import annotations

import torch


def foreground_probability(activation_BKhw: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """BackMix section IV-A: softmax over classes at each cell, channel of the true class. B,h,w in 0..1."""
    index = labels_B[:, None, None, None].expand(-1, 1, *activation_BKhw.shape[2:])
    log_total = activation_BKhw.float().logsumexp(dim=1)
    return (activation_BKhw.gather(1, index)[:, 0].float() - log_total).exp()


def foreground_mask(bank_Bhw: torch.Tensor, ratio: float, generator: torch.Generator | None) -> torch.Tensor:
    """C_B of Eq. 3: True at the round(ratio * h * w) cells of each row with the highest values. B,h,w bool.

    Ties break at random by `generator`; without one, the first cells win (as in the official file).
    """
    B, h, w = bank_Bhw.shape
    cells = round(ratio * h * w)
    values = bank_Bhw.reshape(B, h * w)
    if generator is None:
        ranked = values.argsort(dim=1, descending=True, stable=True)
    else:
        noise = torch.rand(values.shape, generator=generator, device=values.device)
        shuffled = noise.argsort(dim=1)
        ranked = shuffled.gather(1, values.gather(1, shuffled).argsort(dim=1, descending=True, stable=True))
    mask = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    return mask.scatter_(1, ranked[:, :cells], True).view(B, h, w)


def update_bank(
    bank_Nhw: torch.Tensor, ids_B: torch.Tensor, cam_Bhw: torch.Tensor, seen_Bhw: torch.Tensor, decay: float
) -> None:
    """Eq. 4, in place: C <- decay * new + (1 - decay) * C, for the cells that were seen. `ids_B` are distinct."""
    old = bank_Nhw[ids_B]
    bank_Nhw[ids_B] = torch.where(seen_Bhw, torch.lerp(old, cam_Bhw, decay), old)
