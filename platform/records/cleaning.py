"""What lies on the disk beside results: how much, what it is good for, and what of it nobody needs any more."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from platform.files.names import plain
from platform.records.files import local_folder
from platform.records.listing import Records
from platform.tracking.address import short_name
from platform.tracking.locks import in_use
from trainables.storage.cache import cache_folder

# What each is good for, in the order in which they are shown.
KINDS = {
    "checkpoints": "an unfinished trial goes on from its own; of a finished one they are left over",
    "teachers": "weights that students and evaluations read; fetched from the store again where they are wanted",
    "studies": "a search goes on from its own, and without it would propose anew",
    "images": "decoded image sets of all that runs on this machine; read again where a trial wants one",
    "indexes": "what this machine knows of a store, so that it need not be asked; made again at the next look",
    "deleted": "runs that were deleted in MLflow, with their files; until then they can be restored",
    "undelivered": "records that MLflow has not taken: the next sweep delivers them, all but refused ones",
}


@dataclass(frozen=True)
class Item:
    """Something of a kind, removed as a whole."""

    kind: str
    name: str  # a path, or the id of a run
    paths: tuple[Path, ...]
    size: int  # bytes
    needed: str = ""  # why it stays; empty: nobody needs it

    @classmethod
    def of(cls, kind: str, name: Path | str, paths: Sequence[Path], needed: str = "") -> Item:
        return cls(kind, str(name), tuple(paths), sum(map(_size, paths)), needed)


def survey(records: Records, storage: Path) -> list[Item]:
    """All that there is under `storage`, in the cache of this machine, and of deleted runs in the store."""
    busy = "a sweep is running" if in_use(storage / "outbox") or _running(records) else ""
    return [
        *_checkpoints(records, storage / "trials", busy),
        *_teachers(records, storage / "teachers", busy),
        *_studies(records, storage / "studies", busy),
        *_images(cache_folder()),
        *(Item.of("indexes", path, [path]) for path in sorted(cache_folder().glob("index-*.sqlite"))),
        *_deleted(records),
        *_undelivered(storage / "outbox"),
    ]


def remove(items: list[Item], records: Records) -> Iterator[Item]:
    """Remove what nobody needs of `items`; each when it is gone. Raises `OSError`, `TrackingError`."""
    chosen = [item for item in items if not item.needed]
    deleted = [item for item in chosen if item.kind == "deleted"]
    if deleted:
        records.reader.erase([item.name for item in deleted])
        yield from deleted
    for item in chosen:
        if item.kind == "deleted":
            continue
        for path in item.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        yield item


def _running(records: Records) -> bool:
    return any(records.status(sweep) == "running" for sweep in records.sweeps)


def _checkpoints(records: Records, folder: Path, busy: str) -> Iterator[Item]:
    own = folder / short_name(records.reader.uri)
    for path in _within(own):
        finished = path.name in records.reader.finished
        yield Item.of("checkpoints", path, [path], busy or ("" if finished else "its trial is not finished"))
    for other in (path for path in _within(folder) if path != own):
        if any((other / name).is_dir() for name in ("checkpoints", "files")):  # a trial's, of before stores had folders
            yield Item.of("checkpoints", other, [other], busy)
            continue
        for path in _within(other):
            yield Item.of("checkpoints", path, [path], "it is of another store")


def _teachers(records: Records, folder: Path, busy: str) -> Iterator[Item]:
    for identity, paths in _by_stem(folder, "*.*").items():
        again = identity in records.reader.finished
        yield Item.of("teachers", folder / identity, paths, busy or ("" if again else "no run of the store has it"))


def _studies(records: Records, folder: Path, busy: str) -> Iterator[Item]:
    over = {plain(sweep.experiment) for sweep in records.sweeps if sweep.finished}
    for name, paths in _by_stem(folder, "*.log*").items():
        yield Item.of("studies", folder / name, paths, busy or ("" if name in over else "its search is not over"))


def _images(folder: Path) -> Iterator[Item]:
    paths = sorted(folder.glob("*.arrow"))
    mapped = _mapped() if paths else set()
    for path in paths:
        yield Item.of("images", path, [path], "a process reads it" if str(path) in mapped else "")


def _mapped() -> set[str]:
    """The files that processes of this machine have mapped into their memory, as far as one may look."""
    found: set[str] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            found |= {part.path for part in process.memory_maps()}
    return found


def _deleted(records: Records) -> Iterator[Item]:
    for run_id, files in records.reader.deleted().items():
        folder = local_folder(files)
        yield Item.of("deleted", run_id, [folder] if folder else [])


def _undelivered(folder: Path) -> Iterator[Item]:
    for path in _within(folder):
        if path.suffix != ".lock":
            yield Item.of("undelivered", path, [path], "it is nowhere else")


def _within(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _by_stem(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """The files of a folder by their name without its endings."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(pattern)):
        found.setdefault(re.sub(r"(\.(pt|sha256|log|lock))+$", "", path.name), []).append(path)
    return found


def _size(path: Path) -> int:
    with suppress(OSError):
        if path.is_dir():
            return sum(_size(inner) for inner in path.iterdir())
        return path.stat().st_size
    return 0
