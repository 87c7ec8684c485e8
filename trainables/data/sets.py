"""Image sets by name, read once on a machine and memory-mapped by every process afterwards."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from trainables.cache import cache_folder
from trainables.data.kept import DamagedError, ImageSet, keep, kept_file, open_kept
from trainables.data.layouts import Layout
from trainables.data.listing import DataError, Listing, Progress
from trainables.data.sources import Source, source_of

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
    stamp = f"{FORMAT}:{layout!r}:{'|'.join(_stamp(path) for path in layout.files(data_root, part))}:{size}"
    key = hashlib.sha256(os.fsencode(stamp)).hexdigest()[:12]
    stem = cache_folder() / f"{Path(name).name[:60]}-{part}-{size}px-{key}"
    said: Exception | None = None
    for _ in range(2):  # what was damaged is made once more
        try:
            kept = kept_file(stem)
            if kept is None:
                listing = _read(layout, part, data_root)
                _check(listing, source, part)
                kept = keep(stem, listing, size, source.pixels, f"{name}, {part}", progress)
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


def _read(layout: Layout, part: str, data_root: Path) -> Listing:
    try:
        return layout.read(data_root, part)
    except (IndexError, KeyError, ValueError) as error:  # a list of images with a line that is cut short, or the like
        files = ", ".join(map(str, layout.files(data_root, part)))
        raise DataError(f"{files}: not as published ({error!r}). Expected {layout.where}") from error


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
    if len(labels) > (published := source.images[part]) > 0:
        raise DataError(
            f"{listing.source} has {len(labels):,} images, and {source.name} ({part}) was published with "
            f"{published:,}: take out what is there twice, or does not belong to it"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= source.num_classes))
    if len(wrong):
        raise DataError(
            f"{listing.source}: labels must be in 0..{source.num_classes - 1}; {len(wrong):,} are not, the first of "
            f"{listing.name(int(wrong[0]))}, which is {labels[wrong[0]]}"
        )
