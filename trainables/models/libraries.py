"""Networks of timm and open_clip, with the weights that they know by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.models.head import Head, LinearHead
from trainables.models.output import ConvolutionalNetwork, Network, Output
from trainables.models.weight_files import State, misfits, read_state
from trainables.settings.given import find_weights
from trainables.settings.libraries import OPEN_CLIP, TIMM, check_clip_weights, clip_config, library, timm_network
from trainables.storage.weights import WeightsError


class TimmConvNet(ConvolutionalNetwork):
    """A network of timm whose features are the mean of its last maps, with an objective's head in place of its own."""

    def __init__(self, body: Any, head: Callable[[int], Head]) -> None:
        super().__init__()
        self.num_features = body.num_features
        self.body = body
        self.head = head(body.num_features)
        self.head.draw()

    @property
    def middle(self) -> nn.Module:
        stages = self.body.feature_info
        return self.body.get_submodule(next(stage["module"] for stage in stages if stage["reduction"] >= 8))

    def maps(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        maps_BChw: torch.Tensor = self.body.forward_features(images_BCHW)
        return maps_BChw


class FeaturesNet(Network):
    """A module that turns images into features, B,C, with a linear head on them."""

    def __init__(self, body: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.body = body
        self.head = nn.Linear(num_features, num_classes)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")
        nn.init.zeros_(self.head.bias)

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        features_BC = self.body(images_BCHW).to(self.head.weight.dtype)
        with torch.autocast(images_BCHW.device.type, enabled=False):  # rounded logits would tie
            logits_BK = self.head(features_BC)
        return Output(logits_BK, features_BC, None)


def timm_model(name: str, num_classes: int, image_size: int, head: type[Head], settings: Any) -> Network:
    """timm's network `timm:NAME`, drawn anew by torch's global generator, with the `head` of an objective in place of
    its own.

    Raises `ValueError` for a head that is not linear, or has no bias, where it does not end in maps.
    """
    sized = {"img_size": image_size} if timm_network(name).one_size else {}
    body = library(name).create_model(name.removeprefix(TIMM), num_classes=0, **sized)
    if _pools_maps(body):
        return TimmConvNet(body, partial(head, num_classes=num_classes, settings=settings))
    if head is not LinearHead or not getattr(settings, "head_bias", True):
        raise ValueError(f"{name} changes its maps after they are pooled, and takes a linear head with a bias alone")
    return FeaturesNet(body, body.head_hidden_size, num_classes)


@torch.no_grad()
def _pools_maps(body: Any) -> bool:
    """Whether a network's features are the mean of its last maps: then a linear head on them has class activation
    maps. Asked of its head, with maps that are known."""
    if body.pretrained_cfg.get("pool_size") is None:
        return False
    maps_1Chw = torch.linspace(0, 1, 9 * body.num_features).view(1, body.num_features, 3, 3)
    training = body.training
    try:
        pooled_1C = body.eval().forward_head(maps_1Chw, pre_logits=True)
    except RuntimeError:  # its maps are of another order, channels last
        return False
    finally:
        body.train(training)
    mean_1C = maps_1Chw.mean(dim=(2, 3))
    return pooled_1C.shape == mean_1C.shape and torch.allclose(pooled_1C, mean_1C)


def timm_state(weights: str) -> State:
    """The state dict of `timm:NAME.TAG`, downloaded once."""
    network = weights.removeprefix(TIMM)
    made = _fetched(lambda: library(weights).create_model(network, pretrained=True), weights)
    return dict(made.state_dict())


def image_tower(name: str, num_classes: int, image_size: int) -> FeaturesNet:
    """The image tower of `open_clip:NAME`, drawn anew, whose features are the image's embedding, not normalised."""
    return FeaturesNet(open_clip_model(name, image_size=image_size).visual, clip_config(name)["embed_dim"], num_classes)


def open_clip_model(name: str, weights: str | None = None, image_size: int | None = None) -> Any:
    """open_clip's model `open_clip:NAME` with both towers, float32, on the CPU, for square images of `image_size` px
    (None: its own).

    `weights` are a file of the whole model or `open_clip:NAME/TAG`, which is downloaded once. Without them it is drawn
    by torch's global generator. Raises `ValueError` for what open_clip does not have, and `WeightsError`, in one line,
    for weights that cannot be had, are damaged or do not fit.
    """
    open_clip = library(name)
    clip_config(name)
    quiet = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it warns, on the root, of every model without weights
    try:
        model = open_clip.create_model(
            name.removeprefix(OPEN_CLIP), load_weights=False, force_image_size=image_size, pretrained_text=False
        )
    finally:
        logging.getLogger().setLevel(quiet)
    if weights:
        load_open_clip(model, name, weights)
    return model


def load_open_clip(model: nn.Module, name: str, weights: str) -> None:
    """Put weights of both towers into an `open_clip_model`; errors are the same."""
    from open_clip.factory import convert_state_dict, convert_to_custom_text_state_dict

    said, state = open_clip_state(weights)
    state = convert_state_dict(model, state)  # MobileCLIP's own layout
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    for key in ("logit_scale", "logit_bias"):  # a number, or a list of one
        if key in state and key in expected and state[key].numel() == 1:
            state[key] = state[key].reshape(expected[key].shape)
    if problems := list(misfits(state, expected)):
        raise WeightsError(f"{said} does not fit {name}: {'; '.join(problems)}")
    model.load_state_dict({key: value.to(expected[key].dtype) for key, value in state.items()})


def open_clip_state(weights: str) -> tuple[str, State]:
    """The state dict in a file, or of `open_clip:NAME/TAG`, with what a message calls it."""
    if not weights.startswith(OPEN_CLIP):
        path = find_weights(weights)
        return str(path), read_state(path)
    check_clip_weights(weights)
    network, _, tag = weights.removeprefix(OPEN_CLIP).rpartition("/")
    open_clip = library(weights)
    config = open_clip.get_pretrained_cfg(network, tag)
    path = Path(_fetched(lambda: open_clip.download_pretrained(config), weights))
    return weights, read_state(path)


def _fetched(fetch: Callable[[], Any], weights: str) -> Any:
    """What a library downloads. Raises `WeightsError` where it cannot."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns at each of its tries
    try:
        return fetch()
    except MemoryError:
        raise
    except Exception as error:  # of urllib, of huggingface_hub and of what is below it
        said = f"could not be downloaded ({_first(error)}): get its file, and name that in `weights`"
        raise WeightsError(f"{weights} {said}") from error


def _first(error: BaseException) -> str:
    """What went wrong first, in one line: libraries wrap one error in another."""
    while below := error.__cause__ or error.__context__:
        error = below
    return (str(error) or type(error).__name__).strip().splitlines()[0]
