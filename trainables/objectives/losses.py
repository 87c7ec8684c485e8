"""Losses of both papers, pure functions of logits. Shapes: B batch, K classes, D any width.

Where a loss takes `weight_B`, it is the weighted mean over the batch (0 where all weights are); no host waits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

EPS = 1e-8  # DIST's own, in the denominator of a correlation


def weighted_mean(values_B: torch.Tensor, weight_B: torch.Tensor | None) -> torch.Tensor:
    """sum(w v) / sum(w), the plain mean without weights, 0 where all weights are 0."""
    if weight_B is None:
        return values_B.mean()
    return (weight_B * values_B).sum() / weight_B.sum().clamp_min(EPS)


def soft_cross_entropy(logits_BK: torch.Tensor, targets_BK: torch.Tensor) -> torch.Tensor:
    """-sum_k y_k log softmax(z)_k of each sample. B."""
    return -(targets_BK * logits_BK.log_softmax(dim=1)).sum(dim=1)


def uniform_cross_entropy(logits_BK: torch.Tensor) -> torch.Tensor:
    """H(u; x) of each sample, u uniform (BackMix paper, Eq. 2; Asymmetric paper, Eq. 10). B."""
    return -logits_BK.log_softmax(dim=1).mean(dim=1)


def uniform_part(smoothing: float, num_classes: int) -> float:
    """The part of the uniform label, over all K classes, in one that leaves 1 - s to its own class and gives each other
    class s / (K - 1): s K / (K - 1), s = `smoothing`. Such labels are AGC's (LabelSmoothing.py, commit c977dad); torch
    smooths by the uniform part."""
    return smoothing * num_classes / (num_classes - 1)


def mixed_cross_entropy(
    logits_BK: torch.Tensor,
    labels_B: torch.Tensor,
    partner_labels_B: torch.Tensor,
    lam_B: torch.Tensor,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Asymmetric paper's Eq. 3, of each sample: lambda CE(z, y_i) + (1 - lambda) CE(z, y_j). `smoothing` is the part of
    the uniform label in both. B."""
    own = F.cross_entropy(logits_BK, labels_B, reduction="none", label_smoothing=smoothing)
    other = F.cross_entropy(logits_BK, partner_labels_B, reduction="none", label_smoothing=smoothing)
    return lam_B * own + (1 - lam_B) * other


def two_hot(
    labels_B: torch.Tensor, partner_labels_B: torch.Tensor, lam_B: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """y_m = lambda y_i + (1 - lambda) y_j (Asymmetric paper, Eq. 2). B,K."""
    own, other = _one_hot(labels_B, num_classes), _one_hot(partner_labels_B, num_classes)
    return lam_B[:, None] * own + (1 - lam_B[:, None]) * other


def _one_hot(labels_B: torch.Tensor, num_classes: int) -> torch.Tensor:
    """True in the column of each label, B,K; torch's own reads the labels back to check them."""
    return labels_B[:, None] == torch.arange(num_classes, device=labels_B.device)


def pearson_distance(student_BD: torch.Tensor, teacher_BD: torch.Tensor) -> torch.Tensor:
    """1 - Pearson correlation of each row, over its columns. B."""
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (student_BD, teacher_BD))
    return 1 - (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1) + EPS)


def relation_distance(
    student_BD: torch.Tensor,
    teacher_BD: torch.Tensor,
    inter_weight: float,
    intra_weight: float,
    weight_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """DIST's two relations (Huang et al., 2022, Eq. 6 to 9), on probabilities or on features.

    inter-class: 1 - rho of each sample's row, averaged over the batch. Intra-class: 1 - rho of each column over
    the batch, averaged over columns. With weights, both are the weighted ones: equal weights change nothing,
    weights of 0 and 1 are the same as leaving samples out. One sample alone has no intra-class correlation: 0.
    """
    inter = weighted_mean(pearson_distance(student_BD, teacher_BD), weight_B)
    if weight_B is None:
        intra = pearson_distance(student_BD.T, teacher_BD.T).mean()
        return inter_weight * inter + intra_weight * intra
    # A weighted correlation is the plain one of centred rows scaled by the root of their weights.
    total = weight_B.sum()
    w = (weight_B / total.clamp_min(EPS))[:, None]
    n = weight_B.count_nonzero()
    a, b = ((x - (w * x).sum(dim=0)) * (w * n).sqrt() for x in (student_BD, teacher_BD))
    rho = (a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0) + EPS)
    intra = torch.where(total > 0, (1 - rho).mean(), 0)
    return inter_weight * inter + intra_weight * intra


def dist(
    student_BK: torch.Tensor,
    teacher_BK: torch.Tensor,
    *,
    temperature: float = 1.0,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    weight_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """DIST of logits: tau^2 (beta inter + gamma intra) of softmax(z / tau). A scalar, at least 0."""
    student, teacher = ((z / temperature).softmax(dim=1) for z in (student_BK, teacher_BK))
    return temperature**2 * relation_distance(student, teacher, inter_weight, intra_weight, weight_B)


def kl_divergence(
    student_BK: torch.Tensor,
    teacher_BK: torch.Tensor,
    *,
    temperature: float = 1.0,
    weight_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """Hinton et al. (2015): tau^2 KL(teacher || student) of softmax(z / tau), averaged over samples.

    The Asymmetric paper's section 2.3 writes the arguments the other way round; its code uses DIST.
    """
    student, teacher = ((z / temperature).log_softmax(dim=1) for z in (student_BK, teacher_BK))
    each = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * weighted_mean(each, weight_B)
