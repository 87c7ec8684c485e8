"""Image sets by name, read once on a machine and memory-mapped by every process afterwards."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy as np

from trainables.data.kept import DamagedError, ImageSet, keep, kept_file, open_kept
from trainables.data.sources import Source, source_of
from trainables.images.layouts import Layout, Scattered, as_published
from trainables.images.listing import DataError, Listing, Progress
from trainables.storage.cache import cache_folder

FORMAT = 5  # goes up when what a cache file holds changes


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
    stamp = f"{FORMAT}:{layout!r}:{_stamp(layout, part, data_root)}:{size}"
    key = hashlib.sha256(os.fsencode(stamp)).hexdigest()[:12]
    stem = cache_folder() / f"{Path(name).name[:60]}-{part}-{size}px-{key}"
    said: Exception | None = None
    for _ in range(2):  # what was damaged is made once more
        kept = kept_file(stem)
        if kept is None:
            with as_published(layout, data_root, part):
                listing = layout.read(data_root, part)
            _check(listing, source, part)
        try:
            kept = kept or keep(stem, listing, size, source.pixels, f"{name}, {part}", progress)
            return open_kept(kept, name, size, source.images[part])
        except DamagedError as error:
            said = error
            assert kept
            kept.unlink(missing_ok=True)
        except FileNotFoundError as error:  # another process found it damaged
            said = error
        except DataError:
            raise
        except (OSError, MemoryError, RuntimeError) as error:  # the last: no room for threads
            raise DataError(_no_room(stem.parent, error)) from error
    raise DataError(_no_room(stem.parent, said))


def _no_room(folder: Path, error: Exception | None) -> str:
    said = str(error) or "no memory"
    return f"images cannot be kept in {folder}: {said}. Set OSR_CACHE to another folder, or allow more memory"


def _stamp(layout: Layout, part: str, data_root: Path) -> str:
    """What changes with all that is read of a part: names, sizes and times of its files, however deep they lie."""
    digest = hashlib.sha256()
    for path in layout.files(data_root, part):
        try:
            _add(digest, str(path.resolve()), path.stat())
            if path.is_dir():
                _add_below(digest, path, frozenset())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
    for item in layout.also_read(data_root, part) if isinstance(layout, Scattered) else ():
        with suppress(OSError):  # who reads it says what is not there
            assert isinstance(item, Path)
            _add(digest, str(item), item.stat())
            if item.is_dir():
                _add_below(digest, item, frozenset())
    return digest.hexdigest()


def _add(digest: Any, name: str, stat: os.stat_result) -> None:
    size = 0 if S_ISDIR(stat.st_mode) else stat.st_size
    digest.update(os.fsencode(f"{name}\0{stat.st_mtime_ns}\0{size}\0"))


def _add_below(digest: Any, folder: Path | str, above: frozenset[tuple[int, int]]) -> None:
    """All below a folder; a link to one that it lies in is not followed."""
    here = os.stat(folder)
    if (here.st_dev, here.st_ino) in above:
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        try:
            stat = entry.stat()
        except OSError:  # a link may lead nowhere, or to itself: who reads the folder names it
            stat = entry.stat(follow_symlinks=False)
        _add(digest, entry.name, stat)
        if S_ISDIR(stat.st_mode):
            _add_below(digest, entry.path, above | {(here.st_dev, here.st_ino)})


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
