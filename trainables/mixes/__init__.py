"""What is done to a batch of images and labels, one mix a file."""

from __future__ import annotations

from trainables.mixes.backmix import BackMix
from trainables.mixes.base import Mix
from trainables.mixes.cutmix import CutMix, DecoupledCutMix
from trainables.mixes.cutout import CutOut
from trainables.mixes.mixup import MixUp
from trainables.mixes.none import NoMix
from trainables.settings.custom import custom_part, is_custom

MIXES: dict[str, type[Mix]] = {
    "none": NoMix,
    "cutout": CutOut,
    "mixup": MixUp,
    "cutmix": CutMix,
    "decoupled-cutmix": DecoupledCutMix,
    "backmix": BackMix,
}


def mix_class(name: str) -> type[Mix]:
    """The mix of a name, built in or one's own (`ValueError` where that one cannot be used)."""
    return custom_part(name).part if is_custom(name) else MIXES[name]
