"""Small trials that are interrupted after some steps and go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.helpers.clips import TINY
from tests.helpers.squares import squares
from trainables.data.trial_data import TrialData
from trainables.one_trial import Report, Trial
from trainables.settings.config import TrialConfig
from trainables.settings.methods import METHODS
from trainables.settings.resolving import resolve
from trainables.storage.folder import Folder
from trainables.training.checkpoint import Checkpoints
from trainables.training.teacher import untrained_weights

CPU = torch.device("cpu")
BACKMIX = {"method": "backmix", "cut_size": 0.1}
PROMPTED = ("coop", "locoop", "vpt", "a2pt")  # clip trains nothing
CASES: dict[str, dict[str, object]] = {
    **{method: {"method": method, "gan_width": 4} for method in METHODS if method not in ("clip", *PROMPTED)},
    **{method: {"method": method, "mix": "backmix", "warmup_epochs": 0, **TINY} for method in PROMPTED},
    "backmix, official": {**BACKMIX, "recipe": "official"},
    "backmix, random bank": {**BACKMIX, "bank_init": "random", "bank_read": "normalise"},
    "backmix, bank of the last epoch": {**BACKMIX, "bank_refresh": "epoch"},
    "asymmetric, projection": {"method": "asymmetric", "cmi_on": "features", "teacher": {"backbone": "wrn10-2"}},
    "randaugment": {"method": "plain", "augment": "randaugment", "randaugment_ops": 2},
    "augmix": {"method": "cutmix", "augment": "augmix"},
    "randomized quantization": {"method": "plain", "augment": "randomized-quantization"},
    "dropout": {"method": "plain", "backbone": "vgg32"},
    "adam, warm-up": {"method": "mixup", "optimizer": "adam", "lr": 0.001, "warmup_epochs": 1},
    "bf16": {**BACKMIX, "precision": "bf16"},
}


def trial(**settings: object) -> TrialConfig:
    base = {"backbone": "wrn10-1", "epochs": 3, "batch_size": 12, "split": 1, "seed": 2}
    return resolve({**base, **settings})


def images(count: int = 40) -> TrialData:
    """Three steps an epoch and a remainder; twelve images judge each epoch, and twelve the end."""
    data, _ = squares(count)
    few = squares(12)[0].train
    unknown = replace(few, labels=few.labels * 0 - 1)
    judged = {"known": few, "unknown": unknown}
    return replace(data, outliers=squares(16)[0].train, validation=judged, test=judged)


def timeless(reports: list[Report]) -> dict[int, dict[str, float]]:
    """Metrics by epoch, without those that a clock gives."""
    return {r.epoch: {k: v for k, v in r.metrics.items() if "second" not in k} for r in reports if r.metrics}


def start(config: TrialConfig, folder: Path, out: str = "out", **changes: Any) -> Trial:
    """A trial with the checkpoints that are in `folder`."""
    torch.set_num_threads(1)
    data = images()
    torch.manual_seed(0)
    teacher = untrained_weights(config, data, folder)  # the same each time
    checkpoints = Checkpoints(Folder.at(folder / "checkpoints"))
    return Trial(config, data, CPU, **{"teacher": teacher, "checkpoints": checkpoints, **changes})


def run_until(interrupted: Trial, steps: int, out: Path) -> list[Report]:
    """Go on until `steps` steps of three an epoch are done, and keep what there is then."""
    seen = []
    for report in interrupted.reports(out, tick=0):
        seen.append(report)
        if report.progress >= steps / 3 - 1e-9:
            interrupted.save()
            break
    return seen


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "weights.pt", weights_only=True)


def assert_same_end(a: Path, b: Path) -> None:
    torch.testing.assert_close(weights_of(a), weights_of(b), rtol=0, atol=0)
    for name in ("weights.pt", "scores.parquet", "config.yaml"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
