"""What the self-check tries: every method and every pair of objective and mix, on images that are drawn here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig
from trainables.settings.methods import METHODS, method_of
from trainables.settings.mixes import MIXES
from trainables.settings.objectives import OBJECTIVES
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer
from trainables.training.teacher import untrained_weights

CLASSES = 6
Settings = dict[str, Any]

# What single settings add: other networks, recipes, augmentations, and what draws or reads in ways of its own.
VARIANTS: dict[str, Settings] = {
    "catimg × backmix": {"objective": "catimg", "mix": "backmix", "cam_from": "raw"},
    "backmix, official": {"method": "backmix", "recipe": "official"},
    "backmix, of another class": {"method": "backmix", "background": "dataset", "background_class": "other"},
    "backmix, random bank": {"method": "backmix", "bank_init": "random", "bank_read": "normalise"},
    "backmix, independent boxes": {"method": "backmix", "box_pair": "independent", "box_range": "inner"},
    "asymmetric, official": {"method": "asymmetric", "recipe": "official"},
    "asymmetric, features": {"method": "asymmetric", "cmi_on": "features", "distill_on": "features"},
    "distill, kl": {"method": "distill", "distillation": "kl"},
    "plain, adam": {"method": "plain", "optimizer": "adam", "lr": 0.001},
    "plain, vgg32 (dropout)": {"method": "plain", "backbone": "vgg32"},
    "plain, resnet18": {"method": "plain", "backbone": "resnet18"},
    "plain, mobilenetv2": {"method": "plain", "backbone": "mobilenetv2"},
    "backmix, vit-ti8": {"method": "backmix", "backbone": "vit-ti8"},
}
# A pixel that lies between two others is read from either: their images are not the same to the last level.
AUGMENTED: dict[str, Settings] = {
    "randaugment": {"method": "plain", "augment": "randaugment", "randaugment_ops": 2},
    "agc-randaugment": {"method": "plain", "augment_first": "agc-randaugment"},
    "augmix": {"method": "plain", "augment": "augmix"},
    "randomized-quantization": {"method": "plain", "augment": "randomized-quantization"},
    "cssr's": {"method": "plain", "augment": "cssr"},
}


def cases(quick: bool) -> dict[str, TrialConfig]:
    """Every objective with every mix that it takes, then `VARIANTS` and `AUGMENTED`; each is small. `quick`: the pairs
    that have a name of their own, alone."""
    told = {f"{o} × {m}": {"objective": o, "mix": m} for o in OBJECTIVES for m in MIXES}
    if quick:
        default = {o: learnt.defaults.get("mix", "none") for o, learnt in OBJECTIVES.items()}
        told = {n: s for n, s in told.items() if s["mix"] == default[s["objective"]] or s["objective"] == "ce"}
    else:
        told |= VARIANTS | AUGMENTED
    found: dict[str, TrialConfig] = {}
    for name, settings in told.items():
        try:
            config = small(**settings)
        except ConfigError:  # an objective that refuses a mix, or needs a package that is not here
            continue
        if config.train == "none":
            continue
        exact = method_of(config.objective, config.mix) if name == f"{config.objective} × {config.mix}" else None
        found[exact if exact and exact not in found else name] = config
    return found


def small(**settings: Any) -> TrialConfig:
    """A trial that takes no time, even on a CPU."""
    base = {"batch_size": 16, "epochs": 20, "lr": 0.01, "gan_width": 8, "warmup_epochs": 0}
    objective = METHODS.get(settings.get("method", ""), {}).get("objective", settings.get("objective"))
    image_text = objective in OBJECTIVES and OBJECTIVES[objective].image_text
    network = {"backbone": "open_clip:tiny", "weights": "random"} if image_text else {"backbone": "wrn10-1"}
    return resolve({**base, **network, **settings})


def drawn(images: int, size: int, classes: int = CLASSES) -> TrialData:
    """Noise, and in each image a square whose colour tells the class; outliers too."""
    return TrialData(
        tuple(range(classes)), size, True, _samples(images, size, classes, 0), outliers=_samples(images, size, 1, 1)
    )


def _samples(images: int, size: int, classes: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 200, (images, size, size, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(images) % classes)
    side = size // 3
    top, left = rng.integers(0, size - side, (2, images))
    for i, label in enumerate(labels):
        square = pixels[i, top[i] : top[i] + side, left[i] : left[i] + side]
        square[...] = rng.integers(0, 60)
        square[..., label % 3] = 255 - 100 * (label // 3)
    source = ImageSet("drawn", pixels, labels, np.arange(images), f"drawn-{seed}-{size}", 0, "drawn here")
    return Samples(source, np.arange(images), labels)


@contextmanager
def teacher_of(config: TrialConfig, data: TrialData) -> Iterator[Path | None]:
    """Weights for the trial's teacher, the same each time; None where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(1)
        yield untrained_weights(config, data, Path(folder))


def trainer_of(config: TrialConfig, data: TrialData, device: torch.device) -> Trainer:
    """A trainer whose network is in training mode, with an untrained teacher where it has one."""
    with teacher_of(config, data) as weights:
        trainer = Trainer(config, data, device, weights)
    trainer.model.train()
    return trainer


def batches_of(trainer: Trainer) -> list[torch.Tensor]:
    """The batches of a new epoch."""
    order = trainer.begin_epoch().order
    return list(order[: trainer.steps_per_epoch * trainer.batch_size].split(trainer.batch_size))
