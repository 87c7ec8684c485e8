"""Decoding: from a file's bytes to a square of pixels, and sets of images that stay encoded."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from trainables.data.listing import U8

MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr")  # what becomes RGB without losing anything that one would see


class WrongImageError(ValueError):
    """An image that can be decoded and is not what the set should have; the message goes on from `3 images …`."""


def to_square(image: Image.Image, size: int, channels: int = 3) -> U8:
    """An image as size,size,3 (1 channel: size,size,1): its short side becomes `size`, and the middle is kept.

    Raises `WrongImageError` for a mode that has more than colours, as transparency or 16 bits.
    """
    if image.mode not in MODES:
        raise WrongImageError(f"have mode {image.mode}, not RGB: convert them")
    # A JPEG is decoded at an eighth, a quarter or a half of its size, where that is no smaller than what is kept.
    image.draft("RGB" if channels == 3 else "L", (size, size))
    with warnings.catch_warnings():  # palette images with transparency warn on convert
        warnings.simplefilter("ignore", UserWarning)
        image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


def decode(item: bytes | Path, size: int, pixels: int = 0, channels: int = 3) -> U8:
    """A file or its bytes as `to_square`. `pixels`: the side that the image must have; 0: any.

    Raises `WrongImageError`, and what Pillow does where it cannot be decoded.
    """
    with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
        if pixels and image.size != (pixels, pixels):
            raise WrongImageError(f"have {image.width} x {image.height} px, not {pixels} x {pixels}")
        return to_square(image, size, channels)


def trouble(error: Exception) -> str:
    """What is wrong with an image that could not be decoded, as `WrongImageError` says it."""
    if isinstance(error, WrongImageError):
        return str(error)
    if isinstance(error, FileNotFoundError | PermissionError):
        return "are not there" if isinstance(error, FileNotFoundError) else "may not be read"
    return "cannot be decoded"


@dataclass(frozen=True)
class Encoded:
    """Images of one part of a set, mapped from the cache: their bytes, or the paths of their files."""

    items: Any  # an Arrow array of bytes or of paths
    masks: Any  # the same, or None
    size: int  # px of what is decoded

    @property
    def channels(self) -> int:
        """Three, and a fourth for the mask of the object."""
        return 3 if self.masks is None else 4

    def __len__(self) -> int:
        return len(self.items)

    def decode(self, row: int, out: U8) -> None:
        """Image `row` into size,size,channels."""
        out[..., :3] = decode(_item(self.items[row]), self.size)
        if self.masks is not None:
            out[..., 3:] = decode(_item(self.masks[row]), self.size, channels=1)


def _item(value: Any) -> bytes | Path:
    """A scalar of Arrow: bytes, or a path."""
    found = value.as_py()
    return Path(found) if isinstance(found, str) else found
