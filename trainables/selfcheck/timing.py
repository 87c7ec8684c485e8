"""How long a training step takes, as a trial takes it and bare."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from trainables.selfcheck.subjects import batches_of, drawn, trainer_of
from trainables.selfcheck.told import Scope
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer

WINDOWS = 3


class Workload(NamedTuple):
    """A network that is measured, and on what."""

    backbone: str
    image_size: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.backbone}, {self.image_size} px, batch {self.batch_size}"


USUAL = (Workload("wrn40-4", 32, 128), Workload("resnet18", 64, 128))
SMALL = (Workload("wrn40-4", 32, 32), Workload("resnet18", 64, 32), Workload("wrn16-4", 32, 128))
ON_CPU = Workload("wrn10-1", 32, 16)


class Rate(NamedTuple):
    images: float  # a second: median of `WINDOWS`
    spread: float  # (highest - lowest) / median of them

    def __str__(self) -> str:
        return f"{self.images:,.0f} ± {50 * self.spread:.0f} %"


def rate(step: Callable[[], Any], batch: int, scope: Scope) -> Rate:
    """Images a second of a step that takes `batch` of them, once it is warm."""

    def wait() -> None:
        if scope.on_gpu:
            torch.cuda.synchronize()

    for _ in range(12 if scope.on_gpu else 1):  # a coin may choose another step
        step()
    wait()
    seconds = (0.2 if scope.quick else 0.3) if scope.on_gpu else 0.0
    started = time.perf_counter()
    for _ in range(4 if scope.on_gpu else 1):
        step()
    wait()
    steps = max(1, int(4 * seconds / (time.perf_counter() - started)))
    rates = []
    for _ in range(WINDOWS if scope.on_gpu else 1):
        started = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        rates.append(steps * batch / (time.perf_counter() - started))
    median = statistics.median(rates)
    return Rate(median, (max(rates) - min(rates)) / median)


def trainer_for(network: Workload, method: str, precision: str, scope: Scope) -> Trainer:
    """With a teacher of the same network, where the method has one."""
    settings = {"method": method, "backbone": network.backbone, "image_size": network.image_size}
    config = resolve({**settings, "batch_size": network.batch_size, "precision": precision, "lr": 0.01})
    images = 2560 if scope.on_gpu else 2 * network.batch_size
    return trainer_of(config, _drawn(images, network.image_size), scope.device)


_drawn = cache(drawn)


def as_trained(trainer: Trainer) -> Callable[[], torch.Tensor]:
    """The real step, on one batch after the other."""
    batches: Iterator[torch.Tensor] = cycle(batches_of(trainer))
    return lambda: trainer.step(next(batches))


def bare(trainer: Trainer, network: nn.Module | None = None) -> Callable[[], torch.Tensor]:
    """Forward, cross-entropy, backward and update of the trainer's network on one batch of fixed images. `network` is
    the same one, compiled."""
    ids = batches_of(trainer)[0]
    images, labels = trainer.pool.seen(ids), trainer.pool.labels[ids]
    model = trainer.model if network is None else network
    bf16 = trainer.config.precision == "bf16"

    def step() -> torch.Tensor:
        with torch.autocast(trainer.device.type, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images).logits_BK, labels)
        trainer.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trainer.optimizer.step()
        return loss.detach()

    return step


def peak(scope: Scope) -> str:
    """Memory that tensors took at most since this was last asked, in MiB."""
    if not scope.on_gpu:
        return "–"
    most = torch.cuda.max_memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
    return f"{most:,.0f}"
