"""The training loop that every method shares: model, learner, optimiser and schedule of one trial."""

from __future__ import annotations

import torch

from trainables.backbones import cells
from trainables.config import TrialConfig
from trainables.data.trial_data import TrialData, seeds
from trainables.learners import LEARNERS
from trainables.learners.base import Training
from trainables.models import build_model


class Trainer:
    """Everything that changes while a trial trains. Two of the same config, data and device are equal.

    On the CPU that holds to the last digit for the same number of threads.
    """

    def __init__(self, config: TrialConfig, data: TrialData, device: torch.device) -> None:
        weights_seed, _ = seeds(config)
        torch.manual_seed(weights_seed)
        torch.backends.cudnn.benchmark = True  # every batch has the same shape
        self.config = config
        self.device = device
        self.model = build_model(config.backbone, len(data.classes), data.image_size).to(device)
        self.model.to(memory_format=torch.channels_last)
        self.generator = torch.Generator(device).manual_seed(weights_seed)
        self.pool = data.train.on(device)
        training = Training(
            pool=self.pool,
            image_size=data.image_size,
            cells=cells(config.backbone, data.image_size),
            crop_padding=config.crop_padding,
            crop_fill=config.crop_fill,
            flip=data.flip,
            generator=self.generator,
        )
        self.learner = LEARNERS[config.method](config.learner, training)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            config.lr,
            config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
        rate = torch.optim.lr_scheduler
        if config.schedule == "cosine":
            self.schedule: rate.LRScheduler = rate.CosineAnnealingLR(self.optimizer, config.epochs)
        else:
            self.schedule = rate.ConstantLR(self.optimizer, factor=1)
        self.batch_size = min(config.batch_size, len(self.pool))
        # What is left over of an epoch's order is left out: a batch of one has no batch statistics.
        self.steps_per_epoch = len(self.pool) // self.batch_size

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
        self.schedule.step()
        return mean

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """One update on the batch of sample numbers `ids`; the loss, still on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss = self.learner.loss(self.model, ids)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()
