"""What every learner is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainables.data.augment import View, crop_and_flip, draw_view, normalise
from trainables.data.pools import ImagePool
from trainables.models.cam import foreground
from trainables.models.output import Output
from trainables.processes import ALONE, Processes

Augmentation = Callable[[torch.Tensor], torch.Tensor]  # uint8 B,H,W,C to the same, each image by its own draws


@dataclass(frozen=True)
class Training:
    """The training images, how they are augmented, and the generators of every random draw of a batch.

    Batches are global: what a learner sees is the same in each process of a trial.
    """

    pool: ImagePool
    num_classes: int
    image_size: int
    cells: int  # of a class activation map, along one side
    crop_padding: int
    crop_fill: str
    flip: bool
    generator: torch.Generator  # on the pool's device
    host: torch.Generator  # on the CPU: draws that decide what a step does, without waiting for the device
    cam_by_gradient: bool  # a ViT's, which needs the graph of the pass that it comes from
    num_features: int  # of the network that is trained
    num_teacher_features: int = 0
    augmentation_first: Augmentation | None = None  # before crop and flip
    augmentation: Augmentation | None = None  # after them
    teacher: nn.Module | None = None  # frozen, in eval mode
    outliers: ImagePool | None = None
    processes: Processes = ALONE

    @property
    def spare(self) -> int:
        """By how many px images are stored larger than the network sees them."""
        return self.pool.stored_size - self.image_size

    def draw_view(self, batch: int) -> View:
        """A random crop of each image, and whether it is mirrored."""
        return draw_view(batch, self.crop_padding, self.flip, self.generator, self.spare)

    def through(self, view: View, images_BHWC: torch.Tensor) -> torch.Tensor:
        """Stored uint8 images, mixed or not, as the network sees them: cropped, flipped, normalised B,C,H,W."""
        if self.augmentation_first:
            images_BHWC = self.augmentation_first(images_BHWC)
        seen = crop_and_flip(images_BHWC, view, self.crop_fill, self.image_size)
        if self.augmentation:
            seen = self.augmentation(seen)
        return normalise(seen, self.pool.statistics)

    def augment(self, images_BHWC: torch.Tensor) -> tuple[torch.Tensor, View]:
        """`through` a view of each image that is drawn here."""
        view = self.draw_view(len(images_BHWC))
        return self.through(view, images_BHWC), view

    def coin(self, probability: float) -> bool:
        """True with `probability`, the same in every process."""
        return torch.rand((), generator=self.host).item() < probability

    def forward(self, model: nn.Module, images_BCHW: torch.Tensor) -> Output:
        """Logits and features of the whole batch; each process runs the network on its own part."""
        output = model(self.processes.mine(images_BCHW))
        return Output(self.processes.gather(output.logits_BK), self.processes.gather(output.features_BC), None)

    def forward_with_cam(
        self, model: nn.Module, images_BCHW: torch.Tensor, labels_B: torch.Tensor
    ) -> tuple[Output, torch.Tensor]:
        """`forward`, and the rough foreground of each image, B,h,w in 0..1, from the same pass."""
        output = model(self.processes.mine(images_BCHW))
        cam = foreground(output, self.processes.mine(labels_B))
        gathered = Output(self.processes.gather(output.logits_BK), self.processes.gather(output.features_BC), None)
        return gathered, self.processes.gather(cam)

    @torch.no_grad()
    def teach(self, images_BCHW: torch.Tensor) -> Output:
        """What the teacher says of the whole batch. Raises `RuntimeError` where the trial has none."""
        if self.teacher is None:
            raise RuntimeError("this method needs a teacher's weights")
        return self.forward(self.teacher, images_BCHW)


class Learner(ABC):
    """A training method: what one batch does. The loop in `trainables.training.loop` is the same for all of them."""

    def __init__(self, settings: Any, training: Training) -> None:
        self.settings = settings
        self.training = training

    def start_epoch(self) -> None:  # noqa: B027 (most methods do nothing)
        """Called before the first batch of each epoch."""

    def parameters(self) -> list[nn.Parameter]:
        """What is trained beside the network."""
        return []

    def state(self) -> dict[str, Any]:
        """What changes while it trains: tensors, numbers, strings, lists and dicts. A learner that keeps more than
        `parameters` adds it to this, so that an interrupted trial goes on as if nothing had happened."""
        return {"parameters": [p.detach() for p in self.parameters()]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; its tensors may be on another device."""
        with torch.no_grad():
            for parameter, saved in zip(self.parameters(), state["parameters"], strict=True):
                parameter.copy_(saved)

    @abstractmethod
    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar, of the batch of sample numbers `ids_B` (distinct)."""
