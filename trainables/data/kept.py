"""What is kept of an image set: one Arrow file, which every process of a node maps.

Small images are decoded and kept as uint8; large ones stay encoded, and each is decoded once to see that it can be.
The pages of the file are shared: an extra trial costs no extra image memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from trainables.data.augment import Statistics
from trainables.data.encoded import NAME, Encoded, decode, is_turned, to_square, trouble
from trainables.data.listing import I64, U8, Content, DataError, Listing, Progress
from trainables.data.protocols import LARGE, images_key

BLOCK = 64  # images that a thread decodes at a time
WAITING = 2**28  # bytes of decoded images that may wait to be written
Items = Sequence[bytes | Path] | U8  # encoded, or arrays


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
        mean, std = total[:3], np.sqrt(total[3:] - total[:3] ** 2)
        return Statistics(tuple((mean / 255).tolist()), tuple((std / 255).tolist()))


def keep(path: Path, listing: Listing, size: int, pixels: int, what: str, progress: Progress | None) -> None:
    """Decode every image, and write what is to be kept of them. Raises `DataError` that names all broken ones."""
    count, channels, streamed = len(listing.labels), 3 if listing.masks is None else 4, size >= LARGE
    if streamed:
        masks = None if listing.masks is None else _encoded(listing.masks)
        listing = replace(listing, images=_encoded(listing.images), masks=masks)
    decoded = np.empty((0 if streamed else count, size, size, channels), dtype=np.uint8)
    sums = np.zeros((count, 6), dtype=np.int64)
    digest = hashlib.sha256()
    broken: dict[str, list[str]] = {}
    for i, (image, what_is_wrong) in enumerate(_decoded(listing, size, pixels)):
        if what_is_wrong:
            broken.setdefault(what_is_wrong, []).append(listing.name(i))
            continue
        if not streamed:
            decoded[i] = image
        flat = image[..., :3].reshape(-1, 3).astype(np.int64)
        sums[i] = *flat.sum(axis=0), *np.einsum("nc,nc->c", flat, flat)
        if progress and (i % 500 == 499 or i + 1 == count):
            progress(what, i + 1, count)
    if broken:
        lines = (
            f"{len(names)} images {said}: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
            for said, names in broken.items()
        )
        raise DataError(f"{listing.source}: {'; '.join(lines)}")
    columns: dict[str, Any] = {"label": listing.labels, "index": listing.index}
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
    _write(path, pa.table(columns).replace_schema_metadata({"info": json.dumps(info)}))


def _decoded(listing: Listing, size: int, pixels: int) -> Iterator[tuple[U8, str]]:
    """Every image as size,size,channels, in order, or what is wrong with it; in threads, for Pillow frees the lock."""
    nothing = np.empty(0, dtype=np.uint8)

    def one(i: int) -> tuple[U8, str]:
        try:
            image = _square(listing.images[i], size, pixels)
            if listing.masks is not None:
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


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=len(table))
            file.flush()
            os.replace(file.name, path)  # two processes may decode at once: the last one wins, both are right
        except BaseException:
            os.unlink(file.name)
            raise


def open_kept(path: Path, name: str, size: int, published: int = 0) -> ImageSet:
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    info = json.loads(batch.schema.metadata[b"info"])
    channels = info.pop("channels")
    sums = batch["sums"].values.to_numpy().reshape(-1, 6)
    images: U8 | Encoded
    if pa.types.is_fixed_size_binary(batch.schema.field("image").type):
        pixels = np.frombuffer(batch["image"].buffers()[1], dtype=np.uint8)
        images = pixels.reshape(len(batch), size, size, channels)
    else:
        masks = batch["mask"] if "mask" in batch.schema.names else None
        images = Encoded(batch["image"], masks, size)
    labels, index = batch["label"].to_numpy(), batch["index"].to_numpy()
    return ImageSet(name=name, images=images, labels=labels, index=index, sums=sums, published=published, **info)
