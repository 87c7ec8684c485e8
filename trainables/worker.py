"""Where a Ray Tune worker enters: one call, one trial. Imports stay for the next trial of the same worker."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainables.config import TrialConfig
from trainables.data.trial_data import build
from trainables.teacher import weights_path
from trainables.trial import pick_device, run_trial


def train(
    proposed: dict[str, Any],
    *,
    trials: Sequence[Mapping[str, Any]],
    data_root: str,
    cpus: int,
    gpu: bool,
    fingerprints: Mapping[str, str],
    teachers: str,
) -> None:
    """Run trial number `proposed["trial"]` of `trials`, with the searched settings laid over it.

    Reports every epoch; the last report carries the trial's files as its checkpoint. `teachers` is the folder of
    teachers' weights. Raises `RuntimeError` where this node's images are not the ones that were planned with.
    """
    settings = {**trials[proposed["trial"]], **{k: v for k, v in proposed.items() if k != "trial"}}
    config = TrialConfig.from_settings(settings)
    torch.set_num_threads(cpus)
    device = pick_device("auto" if gpu else "cpu")  # a GPU that Ray did not reserve is somebody else's
    data = build(config, Path(data_root))
    if any(fingerprints[name] != value for name, value in data.fingerprints.items()):
        raise RuntimeError(
            f"the images under {data_root} on {socket.gethostname()} are not those the sweep was planned with"
        )
    teacher = None
    if config.teacher:
        teacher = weights_path(Path(teachers), config.teacher.identity(fingerprints))
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {cpus} threads"
    with tempfile.TemporaryDirectory() as folder:
        for report in run_trial(config, data, device, Path(folder), teacher):
            values = {**report.metrics, "epoch": report.epoch, "last": report.last, "device": name}
            tune.report(values, checkpoint=tune.Checkpoint.from_directory(folder) if report.last else None)
