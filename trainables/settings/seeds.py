"""The seeds of a trial: the same split and seed draw the same, whatever else is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trainables.settings.config import TrialConfig


def seeds(config: TrialConfig) -> tuple[int, int, int]:
    """Seeds of (weights and batches, choice of training images, draws on the host), derived from (seed, split)."""
    first, second, third = np.random.SeedSequence([config.seed, config.split]).generate_state(3, np.uint64)
    return int(first >> 1), int(second >> 1), int(third >> 1)
