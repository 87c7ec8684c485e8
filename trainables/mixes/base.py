"""What a mix is given, and what it makes: batches of training images.

Shapes: B batch, H W images, C channels, K classes, h w positions of the network's last map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from trainables.data.augment import View, crop_and_flip, draw_view, normalise
from trainables.data.pools import ImagePool

Augmentation = Callable[[torch.Tensor], torch.Tensor]  # a batch of images to the same shape, each by its own draws


@dataclass(frozen=True)
class TrainingImages:
    """The training images, how they are augmented, and the generators of every random draw of a batch.

    Batches are global: what a mix draws is the same in each process of a trial.
    """

    pool: ImagePool
    num_classes: int
    image_size: int
    map_side: int  # positions of the network's last map, along one side
    crop_padding: int
    crop_fill: str
    flip: bool
    generator: torch.Generator  # on the pool's device
    host: torch.Generator  # on the CPU: draws that decide what a step does, without waiting for the device
    augmentation_first: Augmentation | None = None  # before crop and flip
    augmentation: Augmentation | None = None  # after them
    augmentation_last: Augmentation | None = None  # of normalised images B,C,H,W; the others of uint8 B,H,W,C

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
        normalised = normalise(seen, self.pool.statistics)
        return self.augmentation_last(normalised) if self.augmentation_last else normalised

    def augment(self, images_BHWC: torch.Tensor) -> tuple[torch.Tensor, View]:
        """`through` a view of each image that is drawn here."""
        view = self.draw_view(len(images_BHWC))
        return self.through(view, images_BHWC), view

    def coin(self, probability: float) -> bool:
        """True with `probability`, the same in every process."""
        return torch.rand((), generator=self.host).item() < probability


class Batch(NamedTuple):
    """Images to train on, and what is known of them.

    Sample b shows its own image by the part `lam_B[b]`, and the rest is image `partners_B[b]` of the batch. Both are
    None where every image has one label only. `targets_BK` replaces the labels where a mix says them as probabilities.
    """

    ids_B: torch.Tensor  # sample numbers, distinct
    labels_B: torch.Tensor
    images_BCHW: torch.Tensor
    view: View  # which part of its stored image each one is
    raw_BCHW: torch.Tensor  # the same images before they were mixed; `images_BCHW` itself where nothing was
    partners_B: torch.Tensor | None = None
    lam_B: torch.Tensor | None = None  # lambda, 0..1
    targets_BK: torch.Tensor | None = None
    foreground_BCHW: torch.Tensor | None = None  # images for the mix to `look` at; None: those that are trained on


class Mix(ABC):
    """What is done to a batch of images and labels before a network sees it."""

    looks: ClassVar[bool] = False  # whether it wants to see the foreground that the network finds, by `look`

    def __init__(self, settings: Any, images: TrainingImages) -> None:
        self.settings = settings
        self.images = images

    def raw(self, ids_B: torch.Tensor) -> Batch:
        """The batch of sample numbers `ids_B`, augmented and not mixed."""
        labels = self.images.pool.labels[ids_B]
        images, view = self.images.augment(self.images.pool[ids_B])
        return Batch(ids_B, labels, images, view, images)

    @abstractmethod
    def batch(self, ids_B: torch.Tensor) -> Batch:
        """The batch of sample numbers `ids_B` (distinct) to train on."""

    def term(self, logits_BK: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        """What the mix adds to any loss of a mixed batch, a scalar; None for nothing."""
        return None

    def start_epoch(self) -> None:  # noqa: B027 (most mixes do nothing)
        """Called before the first batch of each epoch."""

    def look(self, batch: Batch, foreground_Bhw: torch.Tensor) -> None:  # noqa: B027
        """Take note of how much each position speaks for the true class, 0..1, in the output for the batch."""

    def state(self) -> dict[str, Any]:
        """What changes while it trains: tensors, numbers, texts, lists and dicts."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from what `state` gave; its tensors may be on another device."""


class SeenMix(Mix):
    """A mix of images as the network sees them: a coin for each batch, then mixed or raw."""

    def batch(self, ids_B: torch.Tensor) -> Batch:
        raw = self.raw(ids_B)
        return self.mix(raw) if self.images.coin(self.settings.mix_probability) else raw

    @abstractmethod
    def mix(self, raw: Batch) -> Batch:
        """A raw batch, mixed with draws of its own."""
