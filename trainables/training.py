"""The training loop that every method shares: model, learner, optimiser and schedule of one trial."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainables.backbones import cells, parse_backbone
from trainables.config import TrialConfig
from trainables.data.augmentations import augmix, rand_augment, randomized_quantization
from trainables.data.trial_data import TrialData, seeds
from trainables.distributed import ALONE, Processes
from trainables.learners import LEARNERS
from trainables.learners.base import Augmentation, Training
from trainables.models import build_model
from trainables.schedules import rate_factor
from trainables.teacher import load_teacher


class Trainer:
    """Everything that changes while a trial trains. Two of the same config, data and device are equal.

    On the CPU that holds to the last digit for the same number of threads. `teacher` is the file of the weights that
    the trial's teacher ended with, where it has one. Raises `TeacherError` where they are missing or do not fit.
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
        self.model = build_model(config.backbone, len(data.classes), data.image_size).to(device)
        self.model.to(memory_format=torch.channels_last)
        self.generator = torch.Generator(device).manual_seed(weights_seed)
        self.host = torch.Generator().manual_seed(host_seed)  # on a CPU, equal seeds would be equal numbers
        self.pool = data.train.on(device)
        frozen = load_teacher(config, data, teacher, device)
        training = Training(
            pool=self.pool,
            num_classes=len(data.classes),
            image_size=data.image_size,
            cells=cells(config.backbone, data.image_size),
            crop_padding=config.crop_padding,
            crop_fill=config.crop_fill,
            flip=data.flip,
            generator=self.generator,
            host=self.host,
            cam_by_gradient=parse_backbone(config.backbone).family == "vit",
            num_features=self.model.num_features,
            num_teacher_features=frozen.num_features if frozen else 0,
            augmentation=_augmentation(config, self.generator, self.host),
            teacher=frozen,
            outliers=data.outliers.on(device) if data.outliers else None,
            processes=processes,
        )
        self.learner = LEARNERS[config.method](config.learner, training)
        self.trained: nn.Module = self.model
        if processes.size > 1:
            if device.type == "cuda":
                self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
            self.trained = DistributedDataParallel(self.model, broadcast_buffers=False)
            torch.manual_seed(weights_seed + processes.rank)  # dropout: to each part of the batch its own
        self.optimizer = _optimizer(config, [*self.model.parameters(), *self.learner.parameters()])
        # What is left over of an epoch's order is left out: a batch of one has no batch statistics.
        self.batch_size = min(config.batch_size, len(self.pool)) // processes.size * processes.size
        self.steps_per_epoch = len(self.pool) // self.batch_size
        factor = partial(rate_factor, config, steps_per_epoch=self.steps_per_epoch)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def epoch(self) -> float:
        """Train on every image once, in a new order; the mean loss. The host waits for the device once.

        Raises `FloatingPointError` where the loss is not finite.
        """
        self.model.train()
        self.learner.start_epoch()
        order = torch.randperm(len(self.pool), generator=self.generator, device=self.device)
        total = torch.zeros((), device=self.device)
        for ids in order[: self.steps_per_epoch * self.batch_size].view(-1, self.batch_size):
            total += self.step(ids)
        mean = (total / self.steps_per_epoch).item()
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss is {mean}: try a lower lr than {self.config.lr:g}")
        return mean

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """One update on the global batch of sample numbers `ids`; the loss, still on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss = self.learner.loss(self.trained, ids)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


def _optimizer(config: TrialConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters, config.lr, config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov
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
    }
    return known[config.augment]
