"""Weights of a finished trial under the names that torchvision or timm give them, for other people's code to load."""

from __future__ import annotations

from typing import NamedTuple

import torch

from trainables.models.weight_files import State
from trainables.settings.backbones import SMALL_IMAGE, parse_backbone
from trainables.settings.config import TrialConfig
from trainables.settings.libraries import TIMM, timm_network
from trainables.storage.weights import WeightsError


class _Layout(NamedTuple):
    """How a library has the networks of a family."""

    made: str  # Python: `b` is the backbone's numbers, `k` that of classes
    body: str = ""  # what its names begin with
    head: str = ""  # the same of a linear head; empty: ours has no place there, or is a part of the body
    small: str = ""  # Python: what is not the library's in a network for small images


_LAYOUTS = {
    "resnet": _Layout(
        "torchvision.models.resnet{b.depth}(num_classes={k})",
        head="fc.",
        small="net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()",
    ),
    "mobilenetv2": _Layout(
        "torchvision.models.mobilenet_v2(num_classes={k})",
        body="features.",
        head="classifier.1.",
        small="net.features[0][0].stride = net.features[2].conv[1][0].stride = (1, 1)",
    ),
    "vgg": _Layout("torchvision.models.vgg{b.depth}_bn()", body="features."),
    "vit": _Layout(
        "torchvision.models.VisionTransformer({size}, {b.patch}, 12, {b.width} // 64, {b.width}, 4 * {b.width}, "
        "num_classes={k})"
    ),
    "timm": _Layout("timm.create_model({name!r}, num_classes={k}{sized})"),
}


def library_state(config: TrialConfig, state: State) -> State:
    """The `weights.pt` of a trial as the library of its network names them, without a head that is not linear.

    Raises `WeightsError` for a network that is of no library.
    """
    layout = _layout(config)
    found: State = {}
    for key, value in state.items():
        if key.startswith("body.") and ".generated." not in key:  # norms of the images that ARPL+CS generates
            found[layout.body + key.removeprefix("body.").replace(".real.", ".")] = value
    if layout.head and "head.weight" in state:
        weight_KC = state["head.weight"].flatten(1)  # of a convolution 1x1, which is what a linear layer is
        bias_K = state.get("head.bias", torch.zeros(len(weight_KC)))
        found |= {f"{layout.head}weight": weight_KC, f"{layout.head}bias": bias_K}
    return found


def how_to_load(config: TrialConfig, state: State, file: str) -> list[str]:
    """Python that makes `net`, the network of a `library_state`, and loads that from a file."""
    layout = _layout(config)
    biases = [len(value) for key, value in state.items() if key in (f"{layout.head}bias", "heads.head.bias")]
    name, size = config.backbone, config.seen_size
    sized = f", img_size={size}" if name.startswith(TIMM) and timm_network(name).one_size else ""
    numbers = {"b": parse_backbone(name), "name": name.removeprefix(TIMM), "size": size, "sized": sized}
    lines = [f"net = {layout.made.format(k=biases[0] if biases else 1000, **numbers)}"]
    if layout.small and size <= SMALL_IMAGE:
        lines.append(layout.small)
    strict = "" if biases else ", strict=False"  # the library's head stays as it is drawn
    return [*lines, f"net.load_state_dict(torch.load({file!r}, weights_only=True){strict})"]


def _layout(config: TrialConfig) -> _Layout:
    family = parse_backbone(config.backbone).family
    if family not in _LAYOUTS:
        own = "`runs show` says where its weights.pt is"
        raise WeightsError(f"{config.backbone} is no network of torchvision's or timm's, as resnet18 is: {own}")
    layout = _LAYOUTS[family]
    if family == "timm":
        return layout._replace(head=f"{timm_network(config.backbone).classifier}.")
    return layout
