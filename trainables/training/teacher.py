"""Finished weights as networks again, those of teachers above all: trials of their own, found by identity or trained
first, then frozen."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path

import torch

from trainables.data.trial_data import TrialData
from trainables.models.given import load_given
from trainables.models.image_text import ImageText
from trainables.models.output import Network
from trainables.objectives import network_of
from trainables.settings.config import TrialConfig
from trainables.storage.weights import WeightsError, is_whole


class TeacherError(WeightsError):
    """Those of a teacher."""


def untrained_weights(config: TrialConfig, data: TrialData, folder: Path) -> Path | None:
    """Weights of the right shape for the teacher of `config`, for who only measures time; None where it has none."""
    if config.teacher is None:
        return None
    path = folder / "untrained.pt"
    torch.save(network_of(config.teacher, len(data.classes), data.image_size).state_dict(), path)
    return path


def load_teacher(config: TrialConfig, data: TrialData, weights: Path | None, device: torch.device) -> Network | None:
    """The frozen teacher of `config` in eval mode, None where its method has none.

    Raises `TeacherError` where the weights are missing or are not those of the teacher's network.
    """
    teacher = config.teacher
    if teacher is None:
        return None
    if weights is None:
        raise TeacherError(f"{config.method} needs the weights of its teacher ({teacher.method}, {teacher.backbone})")
    try:
        model = read_weights(teacher, data, weights, device)
    except WeightsError as error:
        raise TeacherError(f"the teacher: {error}") from error
    return model.eval().requires_grad_(False)


def start_from(model: Network, teacher: Network) -> None:
    """Give a network the weights of its teacher, in place. What the teacher's linear head lacks stays as it is."""
    model.load_state_dict({**model.state_dict(), **teacher.state_dict()})


def read_weights(config: TrialConfig, data: TrialData, weights: Path, device: torch.device) -> Network:
    """The network of trial `config` on `data`, which ended with `weights`; it is in train mode.

    Raises `WeightsError` where they are missing, damaged, not finite, or not those of this network.
    """
    if not weights.is_file():
        raise WeightsError(f"the weights are not at {weights} on {socket.gethostname()}")
    model = network_of(config, len(data.classes), data.image_size)
    if isinstance(model, ImageText):  # what it has learnt is a part of it
        load_given(model, config, data.classes)
    try:
        if not is_whole(weights):
            raise ValueError("its bytes are not those that were written")
        state = torch.load(weights, map_location="cpu", weights_only=True)
        expected = model.state_dict()
        for name in state.keys() & expected.keys():
            if state[name].dtype != expected[name].dtype:
                raise ValueError(f"{name} is of type {state[name].dtype}, not {expected[name].dtype}")
            if not state[name].isfinite().all():
                raise ValueError(f"{name} has values that are not finite")
        model.load_state_dict(state)
    except MemoryError:
        raise
    except Exception as error:  # whatever a parser says to what is no file of its own
        objects = "it holds more than tensors" if isinstance(error, pickle.UnpicklingError) else ""
        reason = (objects or str(error) or "it is empty").splitlines()[0]
        raise WeightsError(f"{weights} does not hold the weights of {config.backbone}: {reason}") from error
    return model.to(device).to(memory_format=torch.channels_last)
