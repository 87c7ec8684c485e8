"""PROSER (Zhou et al., CVPR 2021), its second stage: placeholders for what is not known.

The formulas are those of the released code (zhoudw-zdw/CVPR21-Proser, commit f5b53b9, proser_unknown_detection.py),
whose two halves of a batch are two passes, each with batch statistics of its own.

Shapes: B batch, K known classes, D dummies, L = K + D logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trainables.mixes.base import Batch
from trainables.mixes.boxes import draw_lam
from trainables.models.dummies import DummyHead
from trainables.models.output import ConvolutionalNetwork
from trainables.objectives.base import Objective
from trainables.settings.dummies import ProserSettings


class Proser(Objective):
    """The first half of a batch is mixed in the middle of the network and is of the first dummy. Images of the second
    are of their class, and of the largest dummy once that class is hidden."""

    settings: ProserSettings
    head = DummyHead

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        s, batch, half = self.settings, self.mix.batch(ids_B), len(ids_B) // 2
        first, second = rows(batch, slice(None, half)), rows(batch, slice(half, None))
        mixed_BL = self.mixed_in_the_middle(model, first.images_BCHW)
        known = self.see(model, second.images_BCHW, second)
        logits_BK, dummies_BD = known.logits_BK, known.more["dummies"]
        dummy = torch.full_like(first.labels_B, logits_BK.shape[1])
        loss = s.manifold_weight * self.cross_entropy(mixed_BL, first._replace(labels_B=dummy))
        loss = loss + s.known_weight * self.cross_entropy(torch.cat([logits_BK, dummies_BD], dim=1), second)
        hidden = hidden_cross_entropy(logits_BK / self.temperature, dummies_BD / self.temperature, second.labels_B)
        return loss + s.hidden_weight * hidden.mean()

    def mixed_in_the_middle(self, model: nn.Module, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits of manifold mixup (Verma et al., 2019): one lambda, each image with another of the batch or itself.
        B,L."""
        B, images, processes = len(images_BCHW), self.mix.images, self.given.processes
        partners_B = torch.randperm(B, generator=images.generator, device=images.generator.device)
        lam = draw_lam(1, self.settings.manifold_alpha, images.host, images.generator.device)[0]

        def mix(middle: torch.Tensor) -> torch.Tensor:
            others = processes.exchange(middle)[processes.mine(partners_B)]
            return lam * middle + (1 - lam) * others

        assert isinstance(self.given.network, ConvolutionalNetwork)
        with changed(self.given.network.middle, mix):
            output = self.see(model, images_BCHW)
        return torch.cat([output.logits_BK, output.more["dummies"]], dim=1)


def hidden_cross_entropy(logits_BK: torch.Tensor, dummies_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """-log softmax of the largest dummy, among it and the known classes without the true one. B."""
    largest_B1 = dummies_BD.amax(dim=1, keepdim=True)
    own = labels_B[:, None] == torch.arange(logits_BK.shape[1], device=labels_B.device)
    wide = torch.cat([logits_BK.masked_fill(own, float("-inf")), largest_B1], dim=1)
    return F.cross_entropy(wide, torch.full_like(labels_B, logits_BK.shape[1]), reduction="none")


def rows(batch: Batch, some: slice) -> Batch:
    """Some images of a batch in which each has one label. Raises `ValueError` where a mix gives probabilities."""
    if batch.targets_BK is not None:
        raise ValueError("proser hides the class of an image: it needs a mix that gives each one label, not targets")
    view = replace(batch.view, **{name: value[some] for name, value in vars(batch.view).items()})
    tensors: dict[str, Any] = {n: v[some] for n, v in batch._asdict().items() if isinstance(v, torch.Tensor)}
    return batch._replace(**tensors)._replace(view=view, partners_B=None, lam_B=None)


@contextmanager
def changed(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Within it, what `module` gives is changed."""
    handle = module.register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()
