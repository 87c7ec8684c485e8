"""Class activation maps as a rough foreground: the bank that remembers them, and the mask made of it.

Shapes: B batch, K classes, N training samples, h w positions of the network's last map.
"""

from __future__ import annotations

import math

import torch

from trainables.models.output import Attention, Output


def foreground(output: Output, labels_B: torch.Tensor) -> torch.Tensor:
    """How much each position speaks for the true class: B,h,w in 0..1, float32, outside the graph.

    `foreground_probability` where the network gives evidence, `relevance` where it gives attention, else `grad_cam`.
    """
    if output.attention is not None:
        return relevance(output.attention, labels_B)
    if output.evidence_BKhw is not None:
        return foreground_probability(output.evidence_BKhw.detach(), labels_B)
    assert output.tokens_BNC is not None
    return grad_cam(output.logits_BK, output.tokens_BNC, labels_B)


def grad_cam(logits_BK: torch.Tensor, tokens_BNC: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al., 2017, Eq. 1 and 2) on tokens, divided by each map's maximum. B,h,w in 0..1.

    The first token is the class token and has no position. A map without a positive value stays 0. `logits_BK` must
    have been computed from `tokens_BNC` with gradients enabled; their graph survives, and no parameter's `grad` is
    touched.
    """
    score = logits_BK.gather(1, labels_B[:, None]).sum()  # each image's tokens move its own logit only
    with torch.autocast(tokens_BNC.device.type, enabled=False):
        (gradient_BNC,) = torch.autograd.grad(score, tokens_BNC, retain_graph=True)
        patches_BNC = tokens_BNC[:, 1:].detach().float()
        weight_BC = gradient_BNC[:, 1:].float().mean(dim=1)
        cam_BN = torch.einsum("bnc,bc->bn", patches_BNC, weight_BC).relu()
    cam_BN = cam_BN / cam_BN.amax(dim=1, keepdim=True).clamp_min(torch.finfo(cam_BN.dtype).tiny)
    side = math.isqrt(cam_BN.shape[1])
    return cam_BN.view(-1, side, side)


def relevance(attention: Attention, labels_B: torch.Tensor) -> torch.Tensor:
    """How much the class token attends to each patch for the sake of the true class (BackMix, supplement D; Chefer et
    al., ICCV 2021, Eq. 5 and 6), B,h,w, moved and stretched to 0..1.

    R <- R + A R from the first block to the last, R = 1 before it, A the mean over heads of the positive part of
    attention times the gradient of the true class's logit. Of R the class token's row is asked for alone, which costs
    no product of matrices: r <- r + r A from the last block to the first. A row of equal values is 0.
    """
    score = attention.logits_BK.gather(1, labels_B[:, None]).sum()  # each image's attention moves its own logit only
    with torch.autocast(labels_B.device.type, enabled=False):
        gradients = torch.autograd.grad(score, attention.maps, retain_graph=True)
        B, N = len(labels_B), attention.maps[0].shape[-1]
        row_B1N = torch.zeros(B, 1, N, device=labels_B.device)
        row_B1N[:, :, 0] = 1
        for map_BHNN, gradient_BHNN in zip(reversed(attention.maps), reversed(gradients), strict=True):
            A_BNN = (map_BHNN.detach() * gradient_BHNN).relu().mean(dim=1).float()
            row_B1N = row_B1N + row_B1N @ A_BNN
    patches_BN = row_B1N[:, 0, attention.first :]
    low_B1, high_B1 = patches_BN.amin(dim=1, keepdim=True), patches_BN.amax(dim=1, keepdim=True)
    patches_BN = (patches_BN - low_B1) / (high_B1 - low_B1).clamp_min(torch.finfo(patches_BN.dtype).tiny)
    side = math.isqrt(patches_BN.shape[1])
    return patches_BN.view(-1, side, side)


def foreground_probability(evidence_BKhw: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """BackMix section IV-A: softmax over classes at each position, channel of the true class. B,h,w in 0..1."""
    index = labels_B[:, None, None, None].expand(-1, 1, *evidence_BKhw.shape[2:])
    log_total = evidence_BKhw.float().logsumexp(dim=1)
    return (evidence_BKhw.gather(1, index)[:, 0].float() - log_total).exp()


def foreground_mask(bank_Bhw: torch.Tensor, ratio: float, generator: torch.Generator | None) -> torch.Tensor:
    """C_B of Eq. 3: True at the round(ratio * h * w) positions of each row with the highest values. B,h,w bool.

    Ties break at random by `generator`; without one, the first positions win (as in the official file).
    """
    B, h, w = bank_Bhw.shape
    count = round(ratio * h * w)
    values = bank_Bhw.reshape(B, h * w)
    if generator is None:
        ranked = values.argsort(dim=1, descending=True, stable=True)
    else:
        noise = torch.rand(values.shape, generator=generator, device=values.device)
        shuffled = noise.argsort(dim=1)
        ranked = shuffled.gather(1, values.gather(1, shuffled).argsort(dim=1, descending=True, stable=True))
    mask = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    return mask.scatter_(1, ranked[:, :count], True).view(B, h, w)


def update_bank(
    bank_Nhw: torch.Tensor, ids_B: torch.Tensor, cam_Bhw: torch.Tensor, seen_Bhw: torch.Tensor, decay: float
) -> None:
    """Eq. 4, in place: C <- decay * new + (1 - decay) * C, for the positions that were seen. `ids_B` are distinct."""
    old = bank_Nhw[ids_B]
    bank_Nhw[ids_B] = torch.where(seen_Bhw, torch.lerp(old, cam_Bhw, decay), old)
