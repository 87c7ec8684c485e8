"""Finished weights as networks again, those of teachers above all: trials of their own, found by identity or trained
first, then frozen."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import tempfile
from pathlib import Path

import torch

from trainables.config import TrialConfig
from trainables.data.trial_data import TrialData
from trainables.models import build_model
from trainables.models.output import Network


class WeightsError(RuntimeError):
    """Weights that are missing or of another network; the message says which and where."""


class TeacherError(WeightsError):
    """Those of a teacher."""


def weights_path(folder: Path, identity: str) -> Path:
    """Where the weights of the trial with this identity are kept among teachers."""
    return folder / f"{identity}.pt"


def keep_weights(weights: Path, folder: Path, identity: str) -> Path:
    """Copy the weights that a trial ended with to where its students look for them; all of them or nothing."""
    kept = weights_path(folder, identity)
    folder.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=folder, suffix=".part")
    os.close(handle)
    try:
        shutil.copyfile(weights, part)
        os.replace(part, kept)
    except BaseException:
        os.unlink(part)
        raise
    return kept


def untrained_weights(config: TrialConfig, data: TrialData, folder: Path) -> Path | None:
    """Weights of the right shape for the teacher of `config`, for who only measures time; None where it has none."""
    if config.teacher is None:
        return None
    path = folder / "untrained.pt"
    torch.save(build_model(config.teacher.backbone, len(data.classes), data.image_size).state_dict(), path)
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
        model = read_weights(teacher.backbone, data, weights, device)
    except WeightsError as error:
        raise TeacherError(f"the teacher: {error}") from error
    return model.eval().requires_grad_(False)


def read_weights(backbone: str, data: TrialData, weights: Path, device: torch.device) -> Network:
    """The network of a trial on `data` that ended with `weights`; it is in train mode.

    Raises `WeightsError` where they are missing or are not those of this network.
    """
    if not weights.is_file():
        raise WeightsError(f"the weights are not at {weights} on {socket.gethostname()}")
    model = build_model(backbone, len(data.classes), data.image_size)
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error) or "it is empty").splitlines()[0]
        raise WeightsError(f"{weights} does not hold the weights of {backbone}: {reason}") from error
    return model.to(device).to(memory_format=torch.channels_last)
