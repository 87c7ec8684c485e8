"""Image sets by name, read once on a machine and memory-mapped by every process afterwards."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from trainables.cache import cache_folder
from trainables.data.kept import ImageSet, keep, open_kept
from trainables.data.layouts import as_published
from trainables.data.listing import DataError, Listing, Progress
from trainables.data.sources import Source, source_of

FORMAT = 4  # goes up when what a cache file holds changes


def load_set(
    name: str,
    part: str,
    size: int,
    data_root: Path,
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> ImageSet:
    """Open a part (`train` or `test`) of a set at `size` pixels, reading its files first if no process has.

    Raises `DataError` where it is neither cached nor readable.
    """
    source = source_of(name)
    part = source.part(part)
    layout = source.layout(part, data_root)
    if layout is None and download:
        source.fetch(data_root)
        layout = source.layout(part, data_root)
    if layout is None:
        raise source.missing(part, data_root, tried=download)
    stamp = f"{FORMAT}:{layout!r}:{'|'.join(_stamp(path) for path in layout.files(data_root, part))}:{size}"
    key = hashlib.sha256(os.fsencode(stamp)).hexdigest()[:12]
    short = name.replace("/", "-")
    cached = cache_folder() / f"{short}-{part}-{size}px-{key}.arrow"
    if not cached.is_file():
        with as_published(layout, data_root, part):
            listing = layout.read(data_root, part)
        _check(listing, source, part)
        try:
            keep(cached, listing, size, source.pixels, f"{name}, {part}", progress)
        except OSError as error:
            raise DataError(f"images cannot be kept in {cached.parent}: {error}. Set OSR_CACHE") from error
    try:
        return open_kept(cached, name, size, source.images[part])
    except (OSError, pa.ArrowInvalid, KeyError) as error:  # a cache that a full disk cut short
        cached.unlink(missing_ok=True)
        raise DataError(f"{cached} was damaged ({error}) and has been removed; run the command again") from error


def _stamp(path: Path) -> str:
    """What changes with a file, or with what a folder lists: names, sizes and times, without looking deeper. A file
    that is changed in place further below goes unnoticed."""
    try:
        stat = path.stat()
        if not path.is_dir():
            return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        found = ((e, e.stat(follow_symlinks=os.path.exists(e.path))) for e in entries)  # a link may lead nowhere
        lines = (f"{e.name}:{s.st_mtime_ns}:{0 if e.is_dir() else s.st_size}" for e, s in found)
        return f"{path.resolve()}:{hashlib.sha256(os.fsencode('|'.join(lines))).hexdigest()}"
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _check(listing: Listing, source: Source, part: str) -> None:
    labels = listing.labels
    if len(labels) == 0:
        raise DataError(f"{listing.source} has no image")
    if len(labels) != len(listing.images):
        raise DataError(f"{listing.source} has {len(listing.images):,} images and {len(labels):,} labels")
    if wrong_number := source.too_many(part, len(labels)):
        raise DataError(f"{listing.source} {wrong_number}")
    wrong = np.flatnonzero((labels < 0) | (labels >= source.num_classes))
    if len(wrong):
        raise DataError(
            f"{listing.source}: labels must be in 0..{source.num_classes - 1}; {len(wrong):,} are not, the first of "
            f"{listing.name(int(wrong[0]))}, which is {labels[wrong[0]]}"
        )
