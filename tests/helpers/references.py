"""What tests of mixes and objectives share: a small network in float64, batches for it, and DIST by its definition."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trainables.data.pools import ImagePool, MemoryPool
from trainables.mixes import mix_class
from trainables.mixes.base import TrainingImages
from trainables.models.output import Network, Output
from trainables.objectives import OBJECTIVES
from trainables.objectives.base import Given, Objective
from trainables.settings.resolving import resolve

CPU = torch.device("cpu")
SIZE = 8


class Small(Network):
    """Batch norm, a layer of features and a linear head on all pixels, in float64. `sharp` scales the logits."""

    def __init__(self, seed: int, classes: int, features: int = 6, sharp: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        pixels, self.num_features = 3 * SIZE * SIZE, features
        self.norm = nn.BatchNorm1d(pixels, dtype=torch.float64)
        self.body = nn.Linear(pixels, features, dtype=torch.float64)
        self.head = nn.Linear(features, classes, dtype=torch.float64)
        with torch.no_grad():
            for parameter, scale in ((self.body.weight, 0.3), (self.body.bias, 0.5), (self.head.weight, sharp)):
                parameter.copy_(scale / 2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            self.head.bias.zero_()

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        features = F.relu(self.body(self.norm(images_BCHW.double().flatten(1))))
        return Output(self.head(features), features, None)


def frozen(model: Network) -> Network:
    return model.eval().requires_grad_(False)


def pool(labels: torch.Tensor, low: int = 0, high: int = 256, seed: int = 0, size: int = SIZE) -> ImagePool:
    """Noise of uint8 pixels in low..high-1, an image for each label."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(low, high, (len(labels), size, size, 3), dtype=torch.uint8, generator=generator)
    return MemoryPool(images, torch.arange(len(labels)), labels)


def training_images(known: ImagePool, classes: int, seed: int = 0, **changes: object) -> TrainingImages:
    """Two of the same seed draw the same."""
    plain = TrainingImages(
        pool=known,
        num_classes=classes,
        image_size=known.images.shape[1],
        map_side=2,
        crop_padding=1,
        crop_fill="reflect",
        flip=True,
        generator=torch.Generator().manual_seed(seed),
        host=torch.Generator().manual_seed(seed),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def resolved(**settings: object) -> SimpleNamespace:
    """Every setting of a trial, by its name."""
    return SimpleNamespace(**resolve({"backbone": "wrn10-1", **settings}).settings())


def objective(settings: SimpleNamespace, images: TrainingImages, **given: object) -> Objective:
    """What learns with these settings, and its mix."""
    config = resolve(vars(settings))
    mix = mix_class(config.mix)(config.mix_settings, images)
    plain = Given(Small(0, images.num_classes))
    given_here = dataclasses.replace(plain, **given)  # type: ignore[arg-type]
    return OBJECTIVES[config.objective](config.objective_settings, mix, given_here)


@contextmanager
def watching(model: nn.Module) -> Iterator[list[tuple[torch.Tensor, Output]]]:
    """Images in and `Output` of each forward pass while the context is open."""
    passes: list[tuple[torch.Tensor, Output]] = []
    hook = model.register_forward_hook(lambda _, images, output: passes.append((images[0], output)))
    try:
        yield passes
    finally:
        hook.remove()


def softmax(z: np.ndarray) -> np.ndarray:
    """Of each row."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def pearson(a: np.ndarray, b: np.ndarray, w: np.ndarray) -> float:
    """Weighted correlation of two rows from its definition, with the 1e-8 that DIST adds to the denominator."""
    n, w = np.count_nonzero(w), w / w.sum()
    da, db = a - (w * a).sum(), b - (w * b).sum()
    scale = math.sqrt((w * da * da).sum() * (w * db * db).sum())
    return float(n * (w * da * db).sum() / (n * scale + 1e-8))


def relation(a: np.ndarray, b: np.ndarray, w: np.ndarray, inter: float = 1.0, intra: float = 1.0) -> float:
    """1 - correlation of rows, averaged with weights `w`, and 1 - weighted correlation of columns; 0 for no weight."""
    if w.sum() == 0:
        return 0.0
    equal = np.ones(a.shape[1])
    rows = sum(w[i] * (1 - pearson(a[i], b[i], equal)) for i in range(len(a)) if w[i]) / w.sum()
    columns = np.mean([1 - pearson(a[:, k], b[:, k], w) for k in range(a.shape[1])])
    return float(inter * rows + intra * columns)


def dist(
    z: np.ndarray, t: np.ndarray, w: np.ndarray | None = None, tau: float = 1.0, inter: float = 1.0, intra: float = 1.0
) -> float:
    """DIST of two batches of logits."""
    weight = np.ones(len(z)) if w is None else w
    return tau**2 * relation(softmax(z / tau), softmax(t / tau), weight, inter, intra)


def cross_entropy(z: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of each row of logits with a row of label mass."""
    return np.asarray(-(target * np.log(softmax(z))).sum(axis=1))
