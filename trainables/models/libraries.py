"""Networks of timm and open_clip, with the weights that they know by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from trainables.models.weight_files import State, misfits, read_state
from trainables.settings.given import find_weights
from trainables.settings.libraries import OPEN_CLIP, check_clip_weights, clip_config, library
from trainables.storage.weights import WeightsError


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
