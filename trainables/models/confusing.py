"""What ARPL+CS trains beside its network: a generator of confusing samples, the discriminator that it is to deceive,
and batch statistics of their own for what is generated (ARPL's models/gan.py and models/ABN.py).

Shapes: B batch, C channels, H W image.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

LATENT = 100  # values that an image is made of


class Generator(nn.Module):
    """Latents B,100,1,1 to images B,3,H,W in 0..1 by transposed convolutions: 4 px, then twice as many at each stage.

    `width` is that of the last stage before the image at 64 px; at 32 px it has one stage less.
    """

    def __init__(self, width: int, image_size: int) -> None:
        super().__init__()
        channels = 8 * width
        layers: list[nn.Module] = [*_up(LATENT, channels, stride=1, padding=0)]
        for _ in range((image_size // 8).bit_length() - 1):  # doublings from 4 px to half of the image's side
            narrower = max(channels // 2, 1)
            layers += _up(channels, narrower)
            channels = narrower
        layers += [nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers)
        _draw(self)

    def forward(self, latents_BC11: torch.Tensor) -> torch.Tensor:
        images_BCHW: torch.Tensor = self.layers(latents_BC11)
        return images_BCHW


class Discriminator(nn.Module):
    """Images B,3,H,W to the logit of being real, B. The sigmoid before the pooling is the released code's; its last one
    is in the loss."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 2 * width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        for i in (2, 4):
            conv = nn.Conv2d(i * width, 2 * i * width, 4, 2, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(2 * i * width), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(8 * width, 16 * width, 4, bias=False), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(16 * width, 1)
        _draw(self)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        pooled_BC = self.layers(images_BCHW.to(self.classifier.weight.dtype)).mean(dim=(2, 3))
        logits_B: torch.Tensor = self.classifier(pooled_BC)[:, 0]
        return logits_B


def _up(channels_in: int, channels_out: int, stride: int = 2, padding: int = 1) -> list[nn.Module]:
    conv = nn.ConvTranspose2d(channels_in, channels_out, 4, stride, padding, bias=False)
    return [conv, nn.BatchNorm2d(channels_out), nn.ReLU()]


def _draw(net: nn.Module) -> None:
    """Convolutions N(0, 0.02), batch norms N(1, 0.02)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.02)


class TwoNorms(nn.Module):
    """Auxiliary batch norm (Xie et al., 2020): statistics, weights and biases of real images, and of generated ones."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.real = norm
        self.generated = copy.deepcopy(norm)  # timm's kind has an activation in it
        self.of_generated = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = (self.generated if self.of_generated else self.real)(x)
        return normed


def double_norms(model: nn.Module) -> None:
    """Let every batch norm of `model` be two. In place."""
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            setattr(model, name, TwoNorms(child))
        else:
            double_norms(child)


def single_names(model: nn.Module) -> dict[str, str]:
    """Each key of the state dict of `model`, with its name in that of the same network before `double_norms`."""
    names = {key: key for key in model.state_dict()}
    for place, module in model.named_modules():
        if isinstance(module, TwoNorms):
            names |= {f"{place}.{key}": f"{place}.{key.partition('.')[2]}" for key in module.state_dict()}
    return names


@contextmanager
def for_generated(norms: list[TwoNorms]) -> Iterator[None]:
    """While it is open, these norms take what they see for generated."""
    for norm in norms:
        norm.of_generated = True
    try:
        yield
    finally:
        for norm in norms:
            norm.of_generated = False
