"""Decoding: from a file's bytes to a square of pixels, and sets of images that stay encoded."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image, ImageOps

from trainables.images.listing import U8
from trainables.images.on_disk import is_special

# What becomes RGB without losing anything that one would see; with an alpha channel, if all of it is opaque.
MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA", "LA", "PA")


NAME = pa.binary()  # of a path that is not UTF-8; images are `large_binary`


class WrongImageError(ValueError):
    """An image that can be decoded and is not what the set should have; the message goes on from `3 images …`."""


def to_square(image: Image.Image, size: int, channels: int = 3) -> U8:
    """An image as size,size,3 (1 channel: size,size,1): its short side becomes `size`, and the middle is kept.

    It is turned upright as its EXIF data say, as viewers, annotation tools and Hugging Face's loader show it.
    torchvision's loader does not; sets that are published at one size have no such images.
    Raises `WrongImageError` for a mode that has more than colours, as 16 bits, and for a pixel that is not opaque.
    """
    if image.mode not in MODES:
        raise WrongImageError(f"have mode {image.mode}, not RGB: convert them")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise WrongImageError("have transparent pixels: draw them on a background")
    # A JPEG is decoded at an eighth, a quarter or a half of its size, where that is no smaller than what is kept.
    image.draft("RGB" if channels == 3 else "L", (size, size))
    with warnings.catch_warnings():  # palette images with transparency warn on convert
        warnings.simplefilter("ignore", UserWarning)
        image = image.convert("RGB" if channels == 3 else "L")
    turn = _TURNS.get(orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


# By EXIF's number, as in Pillow's ImageOps.exif_transpose.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """How an image has to be turned, as EXIF numbers it; 1 where it stands upright or does not say."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # data that are damaged say nothing, and Pillow raises nearly anything for them
        return 1


def is_turned(content: bytes) -> bool:
    """Whether a file's image does not stand upright as it is stored."""
    if not any(name in content for name in _SAID_BY):  # to open a PNG for it is to decode it
        return False
    with Image.open(io.BytesIO(content)) as image:
        return orientation(image) in _TURNS


# In JPEG; PNG; WebP; and as XMP in all of them. Pillow turns a TIFF itself, and always did.
_SAID_BY = (b"Exif", b"eXIf", b"exif", b"EXIF", b"tiff:Orientation")


def decode(item: bytes | Path, size: int, pixels: int = 0, channels: int = 3) -> U8:
    """A file or its bytes as `to_square`. `pixels`: the side that the image must have; 0: any.

    Raises `WrongImageError`, and what Pillow does where it cannot be decoded.
    """
    if isinstance(item, Path) and is_special(item):
        raise WrongImageError("are pipes or devices")
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
    """A scalar of Arrow: bytes, or a path, as text or, where it is not UTF-8, as short bytes."""
    found = value.as_py()
    if isinstance(found, str):
        return Path(found)
    return Path(os.fsdecode(found)) if value.type == NAME else found
