"""The training loop that every method shares: network, mix, objective, optimiser and schedule of one trial."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainables.data.augmentations import (
    OF_DIGITS,
    agc_rand_augment,
    augmix,
    cssr_augment,
    rand_augment,
    random_contrast,
    randomized_quantization,
)
from trainables.data.trial_data import TrialData
from trainables.mixes import mix_class
from trainables.mixes.base import Augmentation, TrainingImages
from trainables.models.given import load_given
from trainables.objectives import network_of, objective_class
from trainables.objectives.base import Given
from trainables.processes import ALONE, Processes, over_processes
from trainables.protocols.protocols import protocol_of
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of, weights_fingerprints
from trainables.settings.seeds import seeds
from trainables.training.schedules import rate_factor, temperature
from trainables.training.teacher import load_teacher, start_from

STATE_VERSION = 3  # goes up when `Trainer.state` gets another shape, so that an old one is not misread


@dataclass
class Epoch:
    """The epoch under way."""

    order: torch.Tensor  # sample numbers, a permutation for each pass
    lr: float  # at its first step
    total: torch.Tensor  # of the losses so far, on the device
    steps: int = 0  # done
    seconds: float = 0.0  # spent on them


class Trainer:
    """Everything that changes while a trial trains. Two of the same config, data and device are equal.

    On the CPU that holds to the last digit for the same number of threads. `teacher` is the file of the weights that
    the trial's teacher ended with, where it has one. Raises `TeacherError` where they are missing or do not fit, and
    `ValueError` where some of the `processes` would have no part of a batch.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: TrialData,
        device: torch.device,
        teacher: Path | None = None,
        processes: Processes = ALONE,
    ) -> None:
        weights_seed, _, host_seed = seeds(config)
        torch.manual_seed(weights_seed)
        torch.backends.cudnn.benchmark = True  # shapes of batches are few
        self.config = config
        self.device = device
        objective = objective_class(config.objective)
        self.model = network_of(config, len(data.classes), data.image_size).to(device)
        self.model.to(memory_format=torch.channels_last)
        if config.weights:
            load_given(self.model, config, data.classes)
        if config.train == "head":
            self.model.freeze()
        self.generator = torch.Generator(device).manual_seed(weights_seed)
        self.host = torch.Generator().manual_seed(host_seed)  # on a CPU, equal seeds would be equal numbers
        self.pool = data.train.for_training(device, self.host, processes)
        # What is left over of an epoch's order is left out: a batch of one has no batch statistics.
        self.batch_size = min(config.batch_size, len(self.pool))
        self.passes = config.objective_settings.passes
        self.steps_per_epoch = self.passes * (len(self.pool) // self.batch_size)
        together = self.batch_size // config.objective_settings.parts
        if together < processes.size:
            raise ValueError(f"{processes.size} workers cannot share batches of {together}: take fewer workers")
        frozen = load_teacher(config, data, teacher, device)
        if frozen and config.objective_settings.starts_from_teacher:
            start_from(self.model, frozen)
            frozen = None
        images = TrainingImages(
            pool=self.pool,
            num_classes=len(data.classes),
            image_size=data.image_size,
            map_side=config.map_side,
            crop_padding=config.crop_padding,
            crop_fill=config.crop_fill,
            flip=data.flip,
            generator=self.generator,
            host=self.host,
            augmentation_first=_augmentation_first(config, self.generator, self.host),
            augmentation=_augmentation(config, self.generator, self.host),
            augmentation_last=_augmentation_last(config, self.generator),
        )
        given = Given(
            network=self.model,
            teacher=frozen,
            outliers=data.outliers.for_training(device, self.host, processes) if data.outliers else None,
            processes=processes,
        )
        self.mix = mix_class(config.mix)(config.mix_settings, images)
        self.objective = objective(config.objective_settings, self.mix, given)
        self.trained: nn.Module = self.model
        if processes.size > 1:
            over_processes(self.model, processes, device)
            self.trained = DistributedDataParallel(self.model, broadcast_buffers=False)
        learnt = [*self.model.parameters(), *self.objective.trained_with_network()]
        self.optimizer = _optimizer(config, [parameter for parameter in learnt if parameter.requires_grad])
        factor = partial(rate_factor, config, steps_per_epoch=self.steps_per_epoch)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.epochs_done = 0
        self.under_way: Epoch | None = None
        # The sets by their place, not their name: the trial's own images first.
        sources = [samples.source for samples in (data.train, data.outliers) if samples]
        prints = (source.fingerprint for source in sources)
        images_here = dict(zip(config.training_images, prints, strict=False))
        identity = identity_of(config, images_here | weights_fingerprints(config))
        self.trains = f"{identity}, state {STATE_VERSION}"

    @property
    def progress(self) -> float:
        """Epochs done, with the part of the one under way. Whole only between two epochs."""
        return self.epochs_done + (self.under_way.steps / self.steps_per_epoch if self.under_way else 0)

    def epoch(self) -> float:
        """Train on every image once, in a new order; the mean loss. The host waits for the device once.

        Raises `FloatingPointError` where the loss is not finite.
        """
        for _ in self.steps():
            pass
        loss = self.mean_loss()
        self.end_epoch()
        return loss

    def begin_epoch(self) -> Epoch:
        """The epoch under way; a new one where the last has been counted."""
        if self.under_way is None:
            self.mix.start_epoch()
            whole = self.steps_per_epoch // self.passes * self.batch_size
            draw = partial(torch.randperm, len(self.pool), generator=self.generator, device=self.device)
            order = torch.cat([draw()[:whole] for _ in range(self.passes)])
            lr = self.optimizer.param_groups[0]["lr"]
            self.under_way = Epoch(order, lr, torch.zeros((), device=self.device))
        return self.under_way

    def steps(self) -> Iterator[None]:
        """Take the steps that are left of the epoch. It stops after each of them, where `state` may be called."""
        self.model.train()
        self.objective.temperature = temperature(self.config, self.epochs_done)
        epoch = self.begin_epoch()
        batches = epoch.order[: self.steps_per_epoch * self.batch_size].split(self.batch_size)
        self.pool.ahead(batches[epoch.steps :])
        while epoch.steps < self.steps_per_epoch:
            started = time.perf_counter()
            self.objective.pass_number = epoch.steps * self.passes // self.steps_per_epoch
            epoch.total += self.step(batches[epoch.steps])
            epoch.steps += 1
            epoch.seconds += time.perf_counter() - started
            yield

    def mean_loss(self) -> float:
        """Of the epoch whose steps are done; the host waits for the device. `FloatingPointError` where not finite."""
        epoch = self._all_steps_done()
        started = time.perf_counter()
        mean = (epoch.total / self.steps_per_epoch).item()
        epoch.seconds += time.perf_counter() - started
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean}: {advice(self.config)}")
        return mean

    def end_epoch(self) -> None:
        """Count the epoch whose steps are done."""
        self._all_steps_done()
        self.epochs_done += 1
        self.under_way = None

    def _all_steps_done(self) -> Epoch:
        if self.under_way is None or self.under_way.steps < self.steps_per_epoch:
            raise RuntimeError("the epoch has steps left: run through `steps` first")
        return self.under_way

    def state(self) -> dict[str, Any]:
        """All that a new `Trainer` of the same config and data needs to go on as if nothing had happened.

        Tensors (the live ones: write them before the next step), numbers, strings, lists and dicts only. It is the
        same in every process of the trial, and does not depend on their number.
        """
        epoch = self.under_way
        return {
            "trains": self.trains,
            "made_on": self.device.type,
            "model": self.model.state_dict(),
            "objective": self.objective.state(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": {
                "device": self.generator.get_state(),
                "host": self.host.get_state(),
                "torch": torch.get_rng_state(),  # dropout's, on a CPU
                "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            },
            "epochs_done": self.epochs_done,
            "epoch": vars(epoch) if epoch else None,
        }

    def load_state(self, state: Any) -> None:
        """Go on from what `state` gave, of a trial with the same config and data.

        On another kind of device than it was made on, random numbers go on from a new beginning: a generator's state is
        a kind of device's. Raises `ValueError` where it is of another trial or version of this code, and changes
        nothing then; and where it is not what `state` gives, after which this `Trainer` is of no use.
        """
        found = state.get("trains") if isinstance(state, dict) else None
        if found != self.trains:
            raise ValueError(f"the checkpoint is of trial {found}, not of {self.trains}")
        try:
            self._load(state)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"the checkpoint of trial {found} holds something else than a state: {reason}") from error

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.objective.load_state(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        random = state["random"]
        self.host.set_state(random["host"])
        torch.set_rng_state(random["torch"])
        self.epochs_done = int(state["epochs_done"])
        self.under_way = None
        if epoch := state["epoch"]:
            place = {"order": epoch["order"].to(self.device), "total": epoch["total"].to(self.device)}
            self.under_way = Epoch(**{**epoch, **place})
        if state["made_on"] == self.device.type:
            self.generator.set_state(random["device"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(random["cuda"], self.device)
        else:  # not the seed itself: the first epochs' draws would come again
            steps = round(self.progress * self.steps_per_epoch)
            self.generator.manual_seed(seeds(self.config)[0] + 1 + steps)
            if self.device.type == "cuda":
                torch.cuda.manual_seed(seeds(self.config)[0] + 1 + steps)

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """One update on the global batch of sample numbers `ids`; the loss, still on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss = self.objective.loss(self.trained, ids)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


def advice(config: TrialConfig) -> str:
    """What to try where numbers stop being finite: less of the setting that is furthest above its default, where that
    is ten times or more, else a lower learning rate."""
    told = config.settings()
    every = (f for of in (config.objective_settings, config.mix_settings) for f in fields(of))
    own = [f for f in every if "weight" in f.name.split("_")]
    above = {f.name: told[f.name] / f.default for f in own if isinstance(f.default, float) and f.default}
    above |= {"lr": config.lr / TrialConfig.lr, "weight_decay": config.weight_decay / TrialConfig.weight_decay}
    if config.optimizer == "sgd":  # a gradient acts by lr / (1 - momentum) in all
        above["momentum"] = (1 - TrialConfig.momentum) / (1 - config.momentum)
    if temperature := told.get("temperature"):  # logits are divided by it
        above["temperature"] = 1 / temperature
    name = max(above, key=lambda name: above[name])
    if above[name] < 10:
        name = "lr"
    return f"try a {'higher' if name == 'temperature' else 'lower'} {name} than {told[name]:g}"


def _optimizer(config: TrialConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters, config.lr, config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov
    )


def _augmentation_first(config: TrialConfig, generator: torch.Generator, host: torch.Generator) -> Augmentation | None:
    """What `augment_first` names, to be given uint8 batches as they are stored."""
    if config.augment_first == "none":
        return None
    digits = protocol_of(config.protocol).image_set in OF_DIGITS
    return lambda images: agc_rand_augment(
        images, config.randaugment_ops, config.randaugment_magnitude, digits, generator, host
    )


def _augmentation(config: TrialConfig, generator: torch.Generator, host: torch.Generator) -> Augmentation | None:
    """What `augment` names, to be given uint8 batches."""
    regions = 8  # of randomized quantization, as its authors' examples have
    known: dict[str, Augmentation | None] = {
        "none": None,
        "randaugment": lambda images: rand_augment(
            images, config.randaugment_ops, config.randaugment_magnitude, generator, host
        ),
        "augmix": lambda images: augmix(images, generator, host),
        "randomized-quantization": lambda images: randomized_quantization(images, regions, generator),
        "cssr": lambda images: cssr_augment(images, generator, host),
    }
    return known[config.augment]


def _augmentation_last(config: TrialConfig, generator: torch.Generator) -> Augmentation | None:
    """What belongs to `augment` once images are normalised."""
    return (lambda images: random_contrast(images, generator)) if config.augment == "cssr" else None
