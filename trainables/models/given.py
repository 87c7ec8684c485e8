"""Networks that others trained: their weights, in whatever common layout, put into ours.

Layouts: our own `weights.pt`; torchvision's, which is timm's for ResNets; classifier32 as ARPL and AGC published it;
CIFAR's ResNets as in akamaster/pytorch_resnet_cifar10; and timm's and open_clip's of their own networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from trainables.models.confusing import single_names
from trainables.models.image_text import ImageText
from trainables.models.libraries import open_clip_state, timm_state
from trainables.models.output import Network
from trainables.models.weight_files import State, misfits, read_state
from trainables.protocols.class_names import class_names
from trainables.settings.backbones import parse_backbone
from trainables.settings.config import TrialConfig
from trainables.settings.given import TORCHVISION, find_weights
from trainables.settings.libraries import OPEN_CLIP, of_library, timm_network
from trainables.storage.weights import WeightsError

_Rules = tuple[tuple[str, str], ...]  # keys of another layout, and ours; empty: what is left out
_RULES: dict[str, _Rules] = {  # by family
    "resnet": ((r"fc\.(.*)", r"head.\1"), (r"(.*)", r"body.\1")),
    "cifar-resnet": ((r"(?:linear|fc)\.(.*)", r"head.\1"), (r"(.*)", r"body.\1")),
    "mobilenetv2": ((r"classifier\.1\.(.*)", r"head.\1"), (r"features\.(.*)", r"body.\1")),
    "vgg": ((r"features\.(.*)", r"body.\1"), (r"classifier\.(.*)", r"head.\1")),
    "vit": ((r"(.*)", r"body.\1"),),
    "open_clip": (
        (r"visual\.(.*)", r"body.\1"),
        (r"(transformer|token_embedding|ln_final|text)\..*|positional_embedding|text_projection|logit_.*", ""),
    ),
    "vgg32": (
        (r"fc\.(.*)", r"head.\1"),
        (r"bn10\..*", ""),  # which its authors made and never used
        # Three groups of a dropout and three times (convolution, normalisation, ReLU).
        *((rf"conv{i + 1}\.(.*)", rf"body.{10 * (i // 3) + 1 + 3 * (i % 3)}.\1") for i in range(9)),
        *((rf"bn{i + 1}\.(.*)", rf"body.{10 * (i // 3) + 2 + 3 * (i % 3)}.\1") for i in range(9)),
    ),
}


def load_given(model: Network, config: TrialConfig, classes: Sequence[int]) -> None:
    """Put the `weights` of a trial into its network. `classes` are the known ones, in the order of the labels.

    A head without a bias gets one of 0, and of two norms in one's place (ARPL+CS) both get the one. Raises
    `WeightsError` that lists what is missing, what is left over and what has another shape.
    """
    if isinstance(model, ImageText):
        names = class_names(config.protocol)
        model.give(config.weights_file or str(config.weights), [names[c] for c in classes])
        return
    name, state = _read(config)
    given_as = single_names(model)
    if state.keys() & (given_as.keys() - set(given_as.values())):  # two norms in the file too
        given_as = {key: key for key in given_as}
    whole = model.state_dict()
    expected = {given_as[key]: value for key, value in whole.items()}
    found = _in_our_layout(state, _rules(config.backbone), expected)
    (place,) = (name for name, module in model.named_modules() if module is model.classifier)
    ours = [key for key in expected if key.startswith(f"{place}.")]
    if config.head == "new":
        found = {key: value for key, value in found.items() if not key.startswith((f"{place}.", "head."))}
        found |= {key: expected[key] for key in ours}
    elif config.head == "sorted":
        order = [sorted(classes).index(c) for c in classes]
        found |= {k: found[k][order] for k in ours if k in found and len(found[k]) == len(order)}
    if "head.bias" in expected and "head.weight" in found:
        found.setdefault("head.bias", torch.zeros_like(expected["head.bias"]))
    counts = {key for key in expected if key.endswith("num_batches_tracked")}  # older files lack them
    found |= {key: expected[key] for key in counts - found.keys()}
    if problems := list(misfits(found, expected)):
        if any(key in found and found[key].shape != expected[key].shape for key in ours):
            problems.append(f"its head is not of {len(classes)} classes: `head: new` puts a new one in its place")
        elif not any(key in found for key in ours):
            problems.append("it has no head: `head: new` puts one in its place")
        raise WeightsError(f"{name} does not fit {config.backbone} at {config.seen_size} px: {'; '.join(problems)}")
    model.load_state_dict({key: found[given_as[key]].to(value.dtype) for key, value in whole.items()})


def _rules(backbone: str) -> _Rules:
    family = parse_backbone(backbone).family
    if family == "timm":
        return ((rf"{re.escape(timm_network(backbone).classifier)}\.(.*)", r"head.\1"), (r"(.*)", r"body.\1"))
    return _RULES.get(family, ())


def _in_our_layout(state: State, rules: _Rules, expected: State) -> State:
    """Keys as our networks have them; those that no rule knows, as they are."""
    ours = all(key in expected for key in state) or len(state.keys() & expected.keys()) > len(expected) // 2
    found: State = {}
    for key, value in state.items():
        name = key if ours else _renamed(key, rules)
        if not name:
            continue
        target = expected.get(name)
        if target is not None and value.ndim == 2 and target.ndim == 4:  # a linear layer as the convolution that it is
            value = value[:, :, None, None]
        found[name] = value
    return found


def _renamed(key: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement)
    return key


def _read(config: TrialConfig) -> tuple[str, State]:
    """The weights of a trial by what a message calls them."""
    assert config.weights is not None
    if config.weights_file:
        path = find_weights(config.weights_file)
        return str(path), read_state(path)
    if config.weights.startswith(OPEN_CLIP):
        return open_clip_state(config.weights)
    return config.weights, timm_state(config.weights) if of_library(config.weights) else _of_torchvision(config.weights)


def _of_torchvision(weights: str) -> State:
    import torchvision

    network, _, entry = weights.removeprefix(TORCHVISION).partition("/")
    known = torchvision.models.get_model_weights(network)
    if entry not in known.__members__:
        raise WeightsError(f"torchvision has no {entry} of {network}; it has {', '.join(known.__members__)}")
    fetch: Callable[..., State] = known[entry].get_state_dict
    try:
        return fetch(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors
        url = known[entry].url
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        said = f"could not be had from {url} ({error}): put the file there by hand"
        raise WeightsError(f"{weights} {said}, {folder / url.rpartition('/')[2]}") from error
