"""What every backbone's forward pass gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn


class Attention(NamedTuple):
    """How the blocks of a transformer attend, and logits in the graph of that."""

    maps: tuple[torch.Tensor, ...]  # of each block in turn, B,heads,N,N: from a token to what it attends to
    logits_BK: torch.Tensor
    first: int  # the first token that is a patch; the class token is 0


class Output(NamedTuple):
    """B batch, K classes, C feature channels, h w positions of the last map, N tokens.

    A convolutional network gives evidence, a ViT tokens, a frozen image tower attention where somebody asks for it:
    `trainables.models.cam.foreground` reads any of them.
    """

    logits_BK: torch.Tensor  # float32, also under autocast
    features_BC: torch.Tensor  # what the logits are linear in: pooled maps, or a ViT's class token; float32
    evidence_BKhw: torch.Tensor | None  # what each position says of each class: a linear head's class activation maps
    tokens_BNC: torch.Tensor | None = None  # input of the last block, in the graph: class token, then h * w patches
    more: Mapping[str, torch.Tensor] = MappingProxyType({})  # what an objective's own head says besides; B rows each
    attention: Attention | None = None


class Network(nn.Module):
    """A backbone with its head: images B,3,H,W to an `Output`."""

    num_features: int  # C
    shows_maps = False  # whether its output has what `trainables.models.cam.foreground` reads
    cam_by_gradient = False  # whether a foreground is told by the graph of the pass that it comes from
    frozen = False  # all but the classifier

    @property
    def classifier(self) -> nn.Module:
        """What makes logits of the features."""
        head: Any = self.head
        return head

    def freeze(self) -> None:
        """Train nothing but the classifier from now on: the rest has no gradient, and stays in eval mode, or its batch
        statistics would move."""
        self.frozen = True
        self.requires_grad_(False)
        self.classifier.requires_grad_(True)

    def train(self, mode: bool = True) -> Network:
        super().train(mode and not self.frozen)
        self.classifier.train(mode)
        return self


class ConvolutionalNetwork(Network):
    """Feature maps, and an objective's head on them."""

    shows_maps = True
    head: nn.Module  # of `trainables.models.head`

    @abstractmethod
    def maps(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The last feature maps of images, B,C,h,w: what the head is given."""

    @property
    @abstractmethod
    def middle(self) -> nn.Module:
        """The last module of the second group of layers between two reductions: where manifold mixup mixes."""

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        output: Output = self.head(self.maps(images_BCHW))
        return output
