"""The classes of ImageNet-21k that are tested as unknown beside ImageNet's own (Vaze et al., ICLR 2022).

The list beside this file has the two levels of the Semantic Shift Benchmark, Easy of 1,000 classes and Hard of 980, as
they are in the release winter21, and for each class the numbers of its 50 validation images. The release fall11, which
nobody offers any more, has 20 further Hard classes, whose images no list names.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from trainables.images.listing import Listing, listed
from trainables.images.on_disk import file_at

Level = Literal["easy", "hard"]
LEVELS: tuple[Level, ...] = ("easy", "hard")


@cache
def class_lists() -> dict[str, Any]:
    """`easy` and `hard`: the numbers of each class's images, by its wnid; `hard_of_fall11_alone`: wnids."""
    content = (files(__package__) / "imagenet21k.json.xz").read_bytes()
    lists: dict[str, Any] = json.loads(lzma.decompress(content))
    return lists


@dataclass(frozen=True)
class ImageNet21k:
    """One level, all images with the label 0. The images are as the release unpacks, a folder a class."""

    level: Level
    folder: str = "imagenet21k"

    @property
    def where(self) -> str:
        return f"{self.folder}/WNID/WNID_NUMBER.JPEG, ImageNet-21k (winter21) as it unpacks"

    def files(self, root: Path, part: str) -> list[Path]:
        return file_at(self._images(root)[0])  # a folder of them would be walked through, with millions of others

    def also_read(self, root: Path, part: str) -> Sequence[bytes | Path]:
        return self._images(root)

    def read(self, root: Path, part: str) -> Listing:
        images = self._images(root)
        return listed(images, [0] * len(images), root / self.folder)

    def _images(self, root: Path) -> list[Path]:
        classes = class_lists()[self.level].items()
        return [root / self.folder / wnid / f"{wnid}_{number}.JPEG" for wnid, numbers in classes for number in numbers]
