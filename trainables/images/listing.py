"""Images of a set as they lie on disk, not decoded yet, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.reading.yaml_file import printable

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Progress = Callable[[str, int, int], None]  # what is being read, done, total


class DataError(RuntimeError):
    """Images that are missing or broken; the message says which file and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(map(printable, message.split("\n"))))


class MissingImagesError(DataError):
    """A part of a set that is not there."""


class Content(NamedTuple):
    """What one part of an image set was, as it is recorded of a result."""

    fingerprint: str
    images: int  # that are here
    published: int  # 0 where the division is ours, or not known


@dataclass(frozen=True)
class Listing:
    """One part of an image set: N encoded images, or N,H,W or N,H,W,3 pixels where it is published as an array."""

    images: Sequence[bytes | Path] | U8
    labels: I64  # N, the set's own class ids
    index: I64  # N, the position in the published order
    source: str  # the file or folder that a message names
    masks: Sequence[bytes | Path] | U8 | None = None  # N, each image's object, white on black
    left_out: int = 0  # images of the source that are not exact copies of the published ones

    def name(self, i: int) -> str:
        """How a message names image `i`."""
        if isinstance(self.images, np.ndarray):
            return f"row {self.index[i]}"
        item = self.images[i]
        return printable(str(item)) if isinstance(item, Path) else f"row {self.index[i]}"


def listed(images: Sequence[Path], labels: Sequence[int], source: Path | str) -> Listing:
    """Image files in their order."""
    return Listing(images, np.asarray(labels, dtype=np.int64), np.arange(len(labels)), str(source))
