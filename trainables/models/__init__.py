"""Backbones by name. Each is a module whose forward pass gives an `Output`."""

from __future__ import annotations

from trainables.backbones import parse_backbone
from trainables.models.wideresnet import WideResNet


def build_model(backbone: str, num_classes: int) -> WideResNet:
    """A freshly initialised network, by torch's global generator. Raises `ValueError` for an unknown name."""
    depth, width = parse_backbone(backbone)
    return WideResNet(depth, width, num_classes)
