"""What every learner is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainables.data.augment import View, crop_and_flip, draw_view, normalise
from trainables.data.trial_data import ImagePool


@dataclass(frozen=True)
class Training:
    """The training images, how they are augmented, and the generator of every random draw of a batch."""

    pool: ImagePool
    image_size: int
    cells: int  # of a class activation map, along one side
    crop_padding: int
    crop_fill: str
    flip: bool
    generator: torch.Generator  # on the pool's device

    def augment(self, images_BHWC: torch.Tensor) -> tuple[torch.Tensor, View]:
        """Stored uint8 images, mixed or not, as the network sees them: cropped, flipped, normalised B,C,H,W."""
        view = draw_view(len(images_BHWC), self.crop_padding, self.flip, self.generator)
        return normalise(crop_and_flip(images_BHWC, view, self.crop_fill)), view
