"""What is kept of an image set: one Arrow file, which every process of a node maps.

Small images are decoded and kept as uint8; large ones stay encoded, and each is decoded once to see that it can be.
The pages of the file are shared: an extra trial costs no extra image memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from trainables.data.augment import Statistics
from trainables.images.encoded import NAME, Encoded, WrongImageError, decode, is_turned, to_square, trouble
from trainables.images.listing import I64, U8, U64, Content, DataError, Listing, Progress
from trainables.protocols.protocols import LARGE, images_key

BLOCK = 64  # images that a thread decodes at a time
WAITING = 2**28  # bytes of decoded images that may wait to be written
DIGESTED = 2**22  # bytes of a file that a thread digests at a time
DIGITS = 16  # of a digest, in hex
INFO = {"fingerprint": str, "left_out": int, "source": str, "channels": int}  # beside the columns of the file
Items = Sequence[bytes | Path] | U8  # encoded, or arrays


class DamagedError(ValueError):
    """A file of the cache that is not what was written."""


@dataclass(frozen=True)
class ImageSet:
    """One part of a set. `labels` are the set's own class ids."""

    name: str
    images: U8 | Encoded  # N,S,S,3 uint8, read-only and shared; or still encoded. With masks, a fourth channel
    labels: I64
    index: I64  # position in the published order, where the source tells
    fingerprint: str  # of pixels or of the files' bytes, and of labels: 16 hex digits
    left_out: int  # images of the source that are not exact copies of the published ones
    source: str
    published: int = 0  # images that this part was published with; 0 where that is not known
    sums: I64 = field(default_factory=lambda: np.zeros((0, 6), dtype=np.int64))  # N,6: of pixels, and of their squares
    hashes: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))  # N, of each image's pixels as stored

    @property
    def size(self) -> int:
        """The side at which images are stored, in px."""
        return self.images.size if isinstance(self.images, Encoded) else self.images.shape[1]

    @property
    def channels(self) -> int:
        """Four where each image comes with the mask of its object, else three."""
        return self.images.channels if isinstance(self.images, Encoded) else self.images.shape[3]

    @property
    def key(self) -> str:
        """What its fingerprint is called, as `TrialConfig.training_images` has it."""
        return images_key(self.name, self.size)

    @property
    def content(self) -> Content:
        return Content(self.fingerprint, len(self.labels), self.published)

    @cached_property
    def classes(self) -> frozenset[int]:
        """The classes that it has an image of."""
        return frozenset(np.unique(self.labels).tolist())

    def statistics(self, rows: I64) -> Statistics:
        """Mean and standard deviation of each channel over all pixels of these images, in 0..1, by exact sums."""
        total = self.sums[rows].sum(axis=0) / (len(rows) * self.size**2)
        mean, std = total[:3], np.sqrt(np.maximum(total[3:] - total[:3] ** 2, 0))
        return Statistics(tuple((mean / 255).tolist()), tuple((std / 255).tolist()))


def keep(stem: Path, listing: Listing, size: int, pixels: int, what: str, progress: Progress | None) -> Path:
    """Decode every image, and write what is to be kept of them: to `<stem>.<digest of the file>.arrow`.

    Raises `DataError` that names all broken images.
    """
    count, channels, streamed = len(listing.labels), 3 if listing.masks is None else 4, size >= LARGE
    if streamed:
        masks = None if listing.masks is None else _encoded(listing.masks)
        listing = replace(listing, images=_encoded(listing.images), masks=masks)
    decoded = np.empty((0 if streamed else count, size, size, channels), dtype=np.uint8)
    sums = np.zeros((count, 6), dtype=np.int64)
    hashes = np.zeros(count, dtype=np.uint64)
    digest = hashlib.sha256()
    broken: dict[str, list[str]] = {}
    for i, (image, what_is_wrong) in enumerate(_decoded(listing, size, pixels)):
        if what_is_wrong:
            broken.setdefault(what_is_wrong, []).append(listing.name(i))
            continue
        if not streamed:
            decoded[i] = image
        pixels_of = np.ascontiguousarray(image[..., :3])  # without its mask: it is the same image
        hashes[i] = int.from_bytes(hashlib.sha256(pixels_of.data).digest()[:8], "little")
        flat = pixels_of.reshape(-1, 3).astype(np.int64)
        sums[i] = *flat.sum(axis=0), *np.einsum("nc,nc->c", flat, flat)
        if progress and (i % 500 == 499 or i + 1 == count):
            progress(what, i + 1, count)
    if broken:
        lines = (
            f"{len(names)} images {said}: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
            for said, names in broken.items()
        )
        raise DataError(f"{listing.source}: {'; '.join(lines)}")
    columns: dict[str, Any] = {"label": listing.labels, "index": listing.index, "hash": hashes}
    columns["sums"] = pa.FixedSizeListArray.from_arrays(sums.ravel(), 6)
    if streamed:
        columns |= _encoded_columns(listing, digest)
    else:
        digest.update(decoded.data)
        row = pa.binary(decoded[0].nbytes)
        columns["image"] = pa.FixedSizeBinaryArray.from_buffers(row, count, [None, pa.py_buffer(decoded)])
    digest.update(listing.labels.data)
    info = {
        "fingerprint": digest.hexdigest()[:16],
        "left_out": listing.left_out,
        "source": listing.source,
        "channels": channels,
    }
    return _write(stem, pa.table(columns).replace_schema_metadata({"info": json.dumps(info)}))


def _decoded(listing: Listing, size: int, pixels: int) -> Iterator[tuple[U8, str]]:
    """Every image as size,size,channels, in order, or what is wrong with it; in threads, for Pillow frees the lock."""
    nothing = np.empty(0, dtype=np.uint8)

    def one(i: int) -> tuple[U8, str]:
        try:
            image = _square(listing.images[i], size, pixels)
            if listing.masks is not None:
                if _turned(listing.images[i]) or _turned(listing.masks[i]):
                    raise WrongImageError("are turned by EXIF data, they or their masks: store both as they are seen")
                image = np.concatenate([image, _square(listing.masks[i], size, channels=1)], axis=-1)
            return image, ""
        except Exception as error:  # Pillow's readers raise nearly anything for bytes that are no image
            return nothing, trouble(error)

    count = len(listing.labels)
    if isinstance(listing.images, np.ndarray):  # nothing to decode: threads would only wait for each other
        yield from map(one, range(count))
        return
    blocks = [range(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)]
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        together = max(1, WAITING // (4 * BLOCK * size**2))  # a large set's images are not all in memory at once
        for first in range(0, len(blocks), together):
            for done in workers.map(lambda block: [one(i) for i in block], blocks[first : first + together]):
                yield from done


def _turned(item: bytes | Path | U8) -> bool:
    """Whether viewers turn an image: nobody knows whether its mask was drawn before or after."""
    return not isinstance(item, np.ndarray) and is_turned(item.read_bytes() if isinstance(item, Path) else item)


def _square(item: bytes | Path | U8, size: int, pixels: int = 0, channels: int = 3) -> U8:
    """An image that is encoded, or an array already."""
    if isinstance(item, np.ndarray):
        return item if item.shape == (size, size, channels) else to_square(Image.fromarray(item), size, channels)
    return decode(item, size, pixels, channels)


def _encoded(images: Items) -> Sequence[bytes | Path]:
    """What is an array, as PNG files: a set of small images is not to be enlarged in memory."""
    if not isinstance(images, np.ndarray):
        return images
    encoded = []
    for pixels in images:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        encoded.append(buffer.getvalue())
    return encoded


def _encoded_columns(listing: Listing, digest: Any) -> dict[str, pa.Array]:
    """Paths where the images are files, which stay where they are; else their bytes. Their content is digested."""
    columns = {}
    for name, items in (("image", listing.images), ("mask", listing.masks)):
        if items is None:
            continue
        for item in items:
            content = item.read_bytes() if isinstance(item, Path) else item
            digest.update(content)
            if is_turned(content):  # as it did not always: other pixels of the same bytes
                digest.update(b"upright")
        paths = [str(item.resolve()) for item in items if isinstance(item, Path)]
        if any("\udc80" <= c <= "\udcff" for path in paths for c in path if not path.isascii()):
            columns[name] = pa.array(map(os.fsencode, paths), NAME)
        else:
            columns[name] = pa.array(paths) if paths else pa.array(items, pa.large_binary())
    return columns


def _write(stem: Path, table: pa.Table) -> Path:
    """The digest is in the name, so that a file and its digest cannot come apart."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    part = stem.with_name(f".{stem.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=len(table))
            file.flush()
            os.fsync(file.fileno())
        path = stem.with_name(f"{stem.name}.{_digest(part)}.arrow")
        os.replace(part, path)  # two processes may decode at once: the last one wins, both are right
        return path
    finally:
        part.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """Of the blocks' digests, in threads: SHA-256 leaves the lock to others meanwhile."""
    with open(path, "rb") as file, ThreadPoolExecutor(os.cpu_count()) as workers:
        places = range(0, os.fstat(file.fileno()).st_size, DIGESTED)
        blocks = workers.map(lambda at: hashlib.sha256(os.pread(file.fileno(), DIGESTED, at)).digest(), places)
        return hashlib.sha256(b"".join(blocks)).hexdigest()[:DIGITS]


_whole: set[tuple[str, int, int, int]] = set()  # files whose digest this process has seen to be right


def _check_digest(path: Path) -> None:
    """Raises `DamagedError` where a file is not what its name says; a file is read for it once in a process."""
    stat = path.stat()
    key = (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if key not in _whole:
        if _digest(path) != path.name.split(".")[-2]:
            raise DamagedError("its bytes are not those that were written")
        _whole.add(key)


def kept_file(stem: Path) -> Path | None:
    """What `keep` has written for this stem, if it has."""
    with suppress(OSError):  # who writes there says what is wrong with the folder
        names = (n for n in sorted(os.listdir(stem.parent)) if n.startswith(f"{stem.name}.") and n.endswith(".arrow"))
        return next((stem.with_name(name) for name in names), None)
    return None


def open_kept(path: Path, name: str, size: int, published: int = 0) -> ImageSet:
    """Map what `keep` has written. Raises `DamagedError`, and `OSError` or `MemoryError` where there is no room."""
    _check_digest(path)
    file = pa.memory_map(str(path))
    try:
        return _image_set(pa.ipc.open_file(file).get_batch(0), name, size, published)
    except MemoryError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OSError, pa.ArrowException) as error:
        raise DamagedError(f"it does not hold what it should: {error!r}") from error


def _image_set(batch: pa.RecordBatch, name: str, size: int, published: int) -> ImageSet:
    info = json.loads(batch.schema.metadata[b"info"])
    if {key: type(value) for key, value in info.items()} != INFO:
        raise ValueError(f"info {info}")
    channels = info.pop("channels")
    columns = {column: batch[column].to_numpy() for column in ("label", "index", "hash")}
    sums = batch["sums"].values.to_numpy().reshape(len(batch), 6)
    images: U8 | Encoded
    if pa.types.is_fixed_size_binary(batch.schema.field("image").type):
        pixels = np.frombuffer(batch["image"].buffers()[1], dtype=np.uint8)
        images = pixels.reshape(len(batch), size, size, channels)
    else:
        masks = batch["mask"] if "mask" in batch.schema.names else None
        images = Encoded(batch["image"], masks, size)
    return ImageSet(
        name=name,
        images=images,
        labels=columns["label"],
        index=columns["index"],
        hashes=columns["hash"],
        sums=sums,
        published=published,
        **info,
    )
