"""Images whose class is one coloured square, and trials on them."""

import numpy as np

from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve


def squares(images: int = 600, classes: int = 3) -> tuple[TrialData, np.ndarray]:
    """Noise with one 8 px square whose colour is the class; and for each image, the 8 x 8 positions it covers."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 160, (images, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, classes, images)
    positions = np.zeros((images, 8, 8), dtype=bool)
    for i, label in enumerate(labels):
        row, col = rng.integers(0, 7, 2)
        pixels[i, 4 * row : 4 * row + 8, 4 * col : 4 * col + 8, label] = 255
        positions[i, row : row + 2, col : col + 2] = True
    source = ImageSet("squares", pixels, labels, np.arange(images), "squares", 0, "drawn here")
    return TrialData(tuple(range(classes)), 32, True, Samples(source, np.arange(images), labels)), positions


def config(**settings: object) -> TrialConfig:
    base = {"method": "backmix", "backbone": "wrn10-1", "epochs": 4, "batch_size": 50, "split": 1}
    return resolve({**base, **settings})
