"""What every backbone's forward pass gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn


class Output(NamedTuple):
    """B batch, K classes, C feature channels, h w positions of the last map, N tokens.

    A convolutional network gives evidence, a ViT gives tokens: `trainables.models.cam.foreground` reads either.
    """

    logits_BK: torch.Tensor  # float32, also under autocast
    features_BC: torch.Tensor  # what the logits are linear in: pooled maps, or a ViT's class token; float32
    evidence_BKhw: torch.Tensor | None  # what each position says of each class: a linear head's class activation maps
    tokens_BNC: torch.Tensor | None = None  # input of the last block, in the graph: class token, then h * w patches
    more: Mapping[str, torch.Tensor] = MappingProxyType({})  # what an objective's own head says besides; B rows each


class Network(nn.Module):
    """A backbone with its head: images B,3,H,W to an `Output`."""

    num_features: int  # C
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
