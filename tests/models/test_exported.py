"""Weights of a trial in its library's layout: what the library's own network computes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision

from trainables.models.exported import how_to_load, library_state
from trainables.models.output import Output
from trainables.objectives import network_of
from trainables.settings.resolving import resolve
from trainables.storage.weights import WeightsError

CLASSES = 3


def exported(tmp_path: Path, **settings: Any) -> tuple[Any, torch.Tensor, Output]:
    """The network that the printed lines make, images, and what our network gives for them."""
    config = resolve({"method": "plain", **settings})
    ours = network_of(config, CLASSES, config.seen_size).eval()
    for tensor in ours.state_dict().values():  # batch statistics, too, and no layer that begins as 0
        if tensor.is_floating_point():
            tensor.copy_(1 + torch.rand_like(tensor)) if tensor.ndim == 1 else tensor.mul_(0.5)
    state = library_state(config, ours.state_dict())
    torch.save(state, tmp_path / "out.pth")
    names: dict[str, Any] = {"torch": torch, "torchvision": torchvision, "timm": timm}
    exec("\n".join(how_to_load(config, state, str(tmp_path / "out.pth"))), names)
    images = torch.randn(2, 3, config.seen_size, config.seen_size)
    with torch.no_grad():
        return names["net"].eval(), images, ours(images)


@pytest.mark.parametrize(
    ("backbone", "size", "head"),
    [
        ("resnet18", 32, "fc"),
        ("resnet50", 96, "fc"),
        ("mobilenetv2", 32, "classifier.1"),
        ("mobilenetv2", 96, "classifier.1"),
        ("vit-ti8", 32, "heads.head"),
        ("timm:resnet10t", 64, "fc"),
        ("timm:vit_tiny_patch16_224", 32, "head"),
    ],
)
def test_the_librarys_network_has_the_same_features_to_the_last_digit(
    backbone: str, size: int, head: str, tmp_path: Path
) -> None:
    net, images, ours = exported(tmp_path, backbone=backbone, image_size=size)
    seen = []
    net.get_submodule(head).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        logits = net(images)
    assert seen[0].std() > 0
    assert torch.equal(seen[0], ours.features_BC)
    assert torch.allclose(logits, ours.logits_BK, rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "method"), [("vgg13", "plain"), ("resnet18", "arpl-cs"), ("timm:resnet10t", "cssr")]
)
def test_without_a_head_that_fits_the_body_alone_is_the_same(backbone: str, method: str, tmp_path: Path) -> None:
    net, images, ours = exported(tmp_path, backbone=backbone, method=method, image_size=32)
    if method == "arpl-cs":
        net.fc = torch.nn.Identity()
    body = {"vgg13": "features", "resnet18": "", "timm:resnet10t": "layer4"}[backbone]
    seen = []
    net.get_submodule(body).register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        net(images)
    features = seen[0].mean(dim=(2, 3)) if seen[0].ndim == 4 else seen[0]
    assert features.std() > 0
    assert torch.equal(features, ours.features_BC)


@pytest.mark.parametrize("backbone", ["wrn10-1", "vgg32", "resnet20"])
def test_a_network_of_no_library_is_told(backbone: str) -> None:
    with pytest.raises(WeightsError, match=f"{backbone} is no network of torchvision's or timm's"):
        library_state(resolve({"method": "plain", "backbone": backbone}), {})
