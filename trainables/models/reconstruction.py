"""CSSR and RCSSR (Huang et al., TPAMI 2022): an auto-encoder for each class, on each position of the last feature maps.

Formulas are those of the released code (xyzedd/CSSR, commit d5a99e9, methods/cssr.py). The code's `linear`, on which
BackMix builds its Plain, is `ce` with `head_bias: false`, and its score msp.

Shapes: B batch, K classes, C channels, L latent values, h w positions, N = B h w, T = 3 terms of the score, S scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from trainables.models.class_statistics import class_statistics, gram_similarity
from trainables.models.head import Head
from trainables.models.output import Output
from trainables.settings.reconstruction import CSSRSettings

LARGEST = 100.0  # logits of a position are cut to -100..100, and have no gradient beyond
EPS = 1e-8  # the code's, beside a standard deviation
VALUES = 2**27  # of all classes' reconstructions at a time: 512 MB

# Which of the terms (reconstruction, prototype, Gram) each of `CSSRSettings.own_scores` adds up.
TERMS = ((1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0))


class AutoEncoders(Head):
    """Auto-encoders of all classes as one: C to L with tanh, L to C, no bias, the same for all positions.

    The class statistics of the score are buffers, made by `fit`, so they are where the weights are. They take K C^2
    numbers: 21 MB for 20 classes on ResNet-18.
    """

    settings: CSSRSettings
    prototype_KC: torch.Tensor
    gram_KCC: torch.Tensor
    mean_T: torch.Tensor
    std_T: torch.Tensor
    terms_ST: torch.Tensor

    def __init__(self, channels: int, num_classes: int, settings: CSSRSettings) -> None:
        super().__init__(channels, num_classes)
        self.settings = settings
        K, C, L = num_classes, channels, settings.latent_size
        if L:
            self.encode_KLC = nn.Parameter(torch.empty(K, L, C))
            self.decode_KLC = nn.Parameter(torch.empty(K, L, C))
        else:
            self.centre_KC = nn.Parameter(torch.empty(K, C))
        self.register_buffer("prototype_KC", torch.zeros(K, C))
        self.register_buffer("gram_KCC", torch.zeros(K, C, C))
        self.register_buffer("mean_T", torch.zeros(3))
        self.register_buffer("std_T", torch.ones(3))
        self.register_buffer("terms_ST", torch.tensor(TERMS, dtype=torch.float32), persistent=False)

    def draw(self) -> None:
        """As torch draws a convolution's weights, or points in 0..1."""
        if not self.settings.latent_size:
            nn.init.uniform_(self.centre_KC)
            return
        _, L, C = self.encode_KLC.shape
        nn.init.uniform_(self.encode_KLC, -1 / math.sqrt(C), 1 / math.sqrt(C))
        nn.init.uniform_(self.decode_KLC, -1 / math.sqrt(L), 1 / math.sqrt(L))

    def forward(self, maps_BChw: torch.Tensor) -> Output:
        """In float32 also under autocast, as the linear head. In eval mode with the scores by name."""
        maps_BChw = maps_BChw.to(self.mean_T.dtype)
        with torch.autocast(maps_BChw.device.type, enabled=False):
            evidence_BKhw = self.evidence(maps_BChw)
            logits_BK = pooled(evidence_BKhw, self.settings.pooling)
            more = {} if self.training else self.scores(maps_BChw, evidence_BKhw, logits_BK)
        return Output(logits_BK, maps_BChw.mean(dim=(2, 3)), evidence_BKhw, more=more)

    def evidence(self, maps_BChw: torch.Tensor) -> torch.Tensor:
        """The logit of each class in each position: -gamma, or of RCSSR +gamma, times the error of its auto-encoder.
        B,K,h,w in -100..100."""
        B, C, h, w = maps_BChw.shape
        maps_NC = maps_BChw.permute(0, 2, 3, 1).reshape(-1, C)
        parts = maps_NC.split(max(1, VALUES // self.prototype_KC.numel()))
        error_KN = torch.cat([self._error(part_NC) for part_NC in parts], dim=1)
        sign = 1 if self.settings.reciprocal else -1
        evidence_KN = (sign * self.settings.gamma * error_KN).clamp(-LARGEST, LARGEST)
        return evidence_KN.view(-1, B, h, w).transpose(0, 1)

    def _error(self, maps_NC: torch.Tensor) -> torch.Tensor:
        """Of each class's reconstruction of each position. K,N, at least 0."""
        if self.settings.latent_size:
            K, L, C = self.encode_KLC.shape
            latent_NKL = (maps_NC @ self.encode_KLC.view(K * L, C).T).tanh().view(-1, K, L)
            left_KNC = torch.baddbmm((-maps_NC).expand(K, -1, -1), latent_NKL.transpose(0, 1), self.decode_KLC)
        else:
            left_KNC = self.centre_KC[:, None] - maps_NC
        return left_KNC.norm(p=1, dim=2) if self.settings.error_measure == "L1" else left_KNC.square().sum(dim=2)

    @torch.no_grad()
    def scores(
        self, maps_BChw: torch.Tensor, evidence_BKhw: torch.Tensor, logits_BK: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Each of `own_scores`, a sum of terms in standard deviations of the training images from their mean. B each.

        The code takes mean and deviation from augmented images; here they are of the test view, like the prototypes.
        """
        terms_BT = (self.terms(maps_BChw, evidence_BKhw, logits_BK) - self.mean_T) / (self.std_T + EPS)
        scores_SB = self.terms_ST.to(terms_BT.dtype) @ terms_BT.T
        return dict(zip(self.settings.own_scores, scores_SB.to(logits_BK.dtype), strict=True))

    def terms(self, maps_BChw: torch.Tensor, evidence_BKhw: torch.Tensor, logits_BK: torch.Tensor) -> torch.Tensor:
        """Reconstruction, prototype and Gram term, higher for what is known, float64 B,3. With c the predicted class:

        1. the mean over positions of the logit of c, of CSSR divided by the square of the mean absolute value there;
        2. the mean over positions and channels of a_c times the maps, with the sign that they have;
        3. the sum over all pairs of channels of the image's Gram matrix times the mean one of c.
        """
        c_B = logits_BK.argmax(dim=1)
        own_Bhw = evidence_BKhw[torch.arange(len(c_B), device=c_B.device), c_B].double()
        if not self.settings.reciprocal:
            own_Bhw = own_Bhw / maps_BChw.abs().mean(dim=1).double().clamp_min(EPS).square()
        features_BC = maps_BChw.mean(dim=(2, 3)).double()
        prototype_B = (self.prototype_KC.double()[c_B] * features_BC).mean(dim=1)
        gram_B = gram_similarity(maps_BChw, self.gram_KCC, c_B)
        return torch.stack([own_Bhw.mean(dim=(1, 2)), prototype_B, gram_B], dim=1)

    @torch.no_grad()
    def fit(self, maps: Callable[[], Iterator[torch.Tensor]]) -> None:
        """Prototypes and Gram matrices of the training images, then mean and deviation of the terms that they give."""
        predicted = ((m, logits_BK.argmax(dim=1)) for m, (_, logits_BK) in self._seen(maps))
        K, C = self.prototype_KC.shape
        prototype_KC, gram_KCC = class_statistics(predicted, K, C, self.prototype_KC.device)
        self.prototype_KC.copy_(prototype_KC)
        self.gram_KCC.copy_(gram_KCC)
        terms_NT = torch.cat([self.terms(m, *seen) for m, seen in self._seen(maps)])
        self.mean_T.copy_(terms_NT.mean(dim=0))
        self.std_T.copy_(terms_NT.std(dim=0, correction=0))

    def _seen(
        self, maps: Callable[[], Iterator[torch.Tensor]]
    ) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        """The maps of each batch, with their evidence and logits."""
        for maps_BChw in maps():
            exact = maps_BChw.to(self.mean_T.dtype)
            with torch.autocast(exact.device.type, enabled=False):
                evidence_BKhw = self.evidence(exact)
                seen = evidence_BKhw, pooled(evidence_BKhw, self.settings.pooling)
            yield exact, seen


def pooled(evidence_BKhw: torch.Tensor, pooling: str) -> torch.Tensor:
    """Logits of the image, B,K. `avg_softmax`: their mean over positions. `softmax_avg`: their softmax is the mean over
    positions of the softmax there, p(k|x), so that cross-entropy with them is -log p(y|x).

    What a softmax does not see of the latter is the mean over positions of the log sum of exponentials: where there is
    one position, they are its logits. All in logarithms: nothing is lost where a probability is too small for a float.
    """
    evidence_BKN = evidence_BKhw.flatten(2)
    if pooling == "avg_softmax":
        return evidence_BKN.mean(dim=2)
    total_B1N = evidence_BKN.logsumexp(dim=1, keepdim=True)
    log_p_BK = (evidence_BKN - total_B1N).logsumexp(dim=2) - math.log(evidence_BKN.shape[2])
    return log_p_BK + total_B1N.mean(dim=2)
