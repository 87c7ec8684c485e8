"""Image sets as uint8, decoded once per node and memory-mapped by every process afterwards.

A set is read from torchvision's layout or from Parquet files with an `image` (bytes) and a `label`
column, resized to the protocol's size, and kept as one Arrow file in the cache folder. Processes of
a node that open it share its pages: an extra trial costs no extra image memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from trainables.cache import cache_folder

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]  # what is being read, done, total


class DataError(RuntimeError):
    """Images that are missing or broken; the message says which file and what to do."""


@dataclass(frozen=True)
class ImageSet:
    """A decoded set. `images` is N,H,W,3 uint8 (read-only, shared), `labels` the set's own class ids."""

    name: str
    images: U8
    labels: I64
    index: I64  # position in the published order, where the source tells
    fingerprint: str  # of pixels and labels: 16 hex digits
    left_out: int  # images of the source that are not exact copies of the published ones
    source: str


@dataclass(frozen=True)
class _Source:
    """Where a set's parts come from: Parquet files under the data root, and torchvision's class."""

    num_classes: int
    parquet: dict[str, str]
    torchvision: str | None = None
    training_images: int = 0  # as published; 0 where none are, or the division is ours


_SOURCES: dict[str, _Source] = {
    "digits": _Source(10, {}),
    "cifar10": _Source(10, {p: f"cifar10/{p}.parquet" for p in ("train", "test")}, "CIFAR10", 50_000),
    "cifar100": _Source(100, {p: f"cifar100/{p}.parquet" for p in ("train", "test")}, "CIFAR100", 50_000),
    "svhn": _Source(10, {p: f"svhn/{p}.parquet" for p in ("train", "test")}, "SVHN", 73_257),
    "tiny-imagenet": _Source(
        200, {"train": "tinyimagenet/train20.parquet", "test": "tinyimagenet/val.parquet"}, training_images=100_000
    ),
    "textures": _Source(47, {"test": "textures/dtd10_64.parquet"}),
}


def published_images(name: str) -> int:
    """How many training images a set was published with; 0 where it has none, or its division is ours."""
    return _SOURCES[name].training_images


@dataclass(frozen=True)
class _Decoded:
    images: U8
    labels: I64
    index: I64
    left_out: int = 0


def load_set(
    name: str,
    part: str,
    size: int,
    data_root: Path,
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> ImageSet:
    """Open a part (`train` or `test`) of a set at `size` pixels, decoding it first if no process has.

    Raises `DataError` where it is neither cached nor readable.
    """
    source = _SOURCES[name]
    path = data_root / source.parquet[part] if part in source.parquet else None
    read: Callable[[], _Decoded]
    if name == "digits":
        read = partial(_read_digits, part, size)
        stamp, origin = _digits_stamp(), "scikit-learn's handwritten digits"
    elif path is not None and path.is_file():
        stat = path.stat()
        read = partial(_read_parquet, path, size, source.num_classes, progress)
        stamp, origin = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}", str(path)
    elif source.torchvision:
        read = partial(_read_torchvision, name, source, part, size, data_root, download)
        stamp, origin = f"torchvision:{data_root.resolve()}", f"torchvision {source.torchvision} in {data_root}"
    else:
        raise DataError(f"{name} ({part}) is not under {data_root}: expected {path}. Pass --data-root FOLDER")
    key = hashlib.sha256(f"{stamp}:{size}".encode()).hexdigest()[:12]
    cached = cache_folder() / f"{name}-{part}-{size}px-{key}.arrow"
    if not cached.is_file():
        decoded = read()
        try:
            _write(cached, decoded, origin)
        except OSError as error:
            raise DataError(f"decoded images cannot be kept in {cached.parent}: {error}. Set OSR_CACHE") from error
    try:
        return _open(cached, name, size)
    except (OSError, pa.ArrowInvalid, KeyError) as error:  # a cache that a full disk cut short
        cached.unlink(missing_ok=True)
        raise DataError(f"{cached} was damaged ({error}) and has been removed; run the command again") from error


def _write(path: Path, decoded: _Decoded, origin: str) -> None:
    digest = hashlib.sha256(decoded.images.tobytes())
    digest.update(decoded.labels.tobytes())
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(decoded.images[0].nbytes), len(decoded.images), [None, pa.py_buffer(decoded.images.tobytes())]
    )
    info = {"fingerprint": digest.hexdigest()[:16], "left_out": decoded.left_out, "source": origin}
    table = pa.table({"image": pixels, "label": decoded.labels, "index": decoded.index})
    table = table.replace_schema_metadata({"info": json.dumps(info)})
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


def _open(path: Path, name: str, size: int) -> ImageSet:
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    info = json.loads(batch.schema.metadata[b"info"])
    pixels = np.frombuffer(batch["image"].buffers()[1], dtype=np.uint8)
    return ImageSet(
        name=name,
        images=pixels.reshape(len(batch), size, size, 3),
        labels=batch["label"].to_numpy(),
        index=batch["index"].to_numpy(),
        **info,
    )


def _digits_stamp() -> str:
    return f"scikit-learn {version('scikit-learn')}"


def _read_digits(part: str, size: int) -> _Decoded:
    """The 1,797 digits that scikit-learn ships; the first 1,000 in their order train, the rest test.

    The order is by writer, so the two parts share few of them. It is our division: the set has none.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    rows = slice(0, 1000) if part == "train" else slice(1000, None)
    grey = (bunch.images[rows] * (255 / 16)).round().astype(np.uint8)
    images = np.stack([_to_array(Image.fromarray(g), size) for g in grey])
    return _Decoded(images, bunch.target[rows].astype(np.int64), np.arange(len(bunch.target))[rows])


def _read_torchvision(name: str, source: _Source, part: str, size: int, root: Path, download: bool) -> _Decoded:
    """torchvision's own reader and layout; it checks the published MD5 sums before it reads a file."""
    import torchvision

    reader: Any = getattr(torchvision.datasets, str(source.torchvision))
    which = {"split": part} if name == "svhn" else {"train": part == "train"}
    try:
        data = reader(str(root), download=download, **which)
    except (RuntimeError, OSError) as error:  # urllib's errors are OSErrors
        tried = f"could not be downloaded ({error})" if download else "is not there"
        parquet = f", or {source.parquet[part]} (columns image, label)" if part in source.parquet else ""
        raise DataError(
            f"{name} {tried}. Looked under {root} for torchvision's {source.torchvision} files{parquet}. "
            + ("Without a network, put them there by hand" if download else "Pass --download to fetch them")
            + ", or name another folder with --data-root."
        ) from error
    raw = np.asarray(data.data)
    if name == "svhn":
        raw = raw.transpose(0, 2, 3, 1)
    labels = np.asarray(data.labels if name == "svhn" else data.targets, dtype=np.int64)
    if raw.shape[1:3] != (size, size):
        raw = np.stack([_to_array(Image.fromarray(x), size) for x in raw])
    return _Decoded(np.ascontiguousarray(raw), labels, np.arange(len(labels)))


def _read_parquet(path: Path, size: int, num_classes: int, progress: Progress | None) -> _Decoded:
    """Encoded images in a column `image`, class ids in `label`; rows with `exact=False` are left out."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    missing = {"image", "label"} - set(table.column_names)
    if missing:
        raise DataError(f"{path} has no column {' and '.join(sorted(missing))}; it has {', '.join(table.column_names)}")
    types = table.schema
    if not (pa.types.is_binary(types.field("image").type) or pa.types.is_large_binary(types.field("image").type)):
        raise DataError(f"{path}: column image must hold encoded bytes, not {types.field('image').type}")
    if not pa.types.is_integer(types.field("label").type):
        raise DataError(f"{path}: column label must hold whole numbers, not {types.field('label').type}")
    total = len(table)
    table = table.append_column("row", pa.array(np.arange(total)))
    if "exact" in table.column_names:
        table = table.filter(table["exact"])
    labels = table["label"].to_numpy().astype(np.int64)
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"{path}: labels must be in 0..{num_classes - 1} and at least one image must be there")
    row = table["row"].to_numpy()
    index = table["index"].to_numpy().astype(np.int64) if "index" in table.column_names else row
    images = np.empty((len(table), size, size, 3), dtype=np.uint8)
    broken = list(_decode(table["image"].to_pylist(), images, str(path), progress))
    if broken:
        rows = ", ".join(str(row[i]) for i in broken[:20]) + (" …" if len(broken) > 20 else "")
        raise DataError(f"{path}: {len(broken)} images cannot be decoded: rows {rows}")
    return _Decoded(images, labels, index, left_out=total - len(table))


def _decode(encoded: list[bytes], out: U8, what: str, progress: Progress | None) -> Iterator[int]:
    """Decode into `out` in threads (Pillow releases the GIL); yields the rows that cannot be."""

    def one(i: int) -> bool:
        try:
            out[i] = _to_array(Image.open(io.BytesIO(encoded[i])), out.shape[1])
        except (UnidentifiedImageError, OSError, ValueError):
            return False
        return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, ok in enumerate(pool.map(one, range(len(encoded)), chunksize=64)):
            if progress and (i % 500 == 499 or i + 1 == len(encoded)):
                progress(what, i + 1, len(encoded))
            if not ok:
                yield i


def _to_array(image: Image.Image, size: int) -> U8:
    with warnings.catch_warnings():  # palette images with transparency warn on convert
        warnings.simplefilter("ignore", UserWarning)
        image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)
