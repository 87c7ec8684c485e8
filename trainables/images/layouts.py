"""How published image sets lie on disk: a reader for each layout, which lists images and decodes none.

Reading and fetching raise `DataError`.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np

from trainables.images.listing import I64, DataError, Listing, listed
from trainables.images.on_disk import (
    as_named,
    check_no_device,
    class_folders,
    file_at,
    folder_at,
    images_below,
    lines_of,
    nfc,
)


class Layout(Protocol):
    @property
    def where(self) -> str:
        """What a message says to put under the data root."""

    def files(self, root: Path, part: str) -> list[Path]:
        """The files or folders that a part of the set is read from; none where it is not there."""

    def read(self, root: Path, part: str) -> Listing:
        """A part that is there."""


@runtime_checkable
class Scattered(Layout, Protocol):
    """A layout that reads more than `files` and what is below them."""

    def also_read(self, root: Path, part: str) -> Sequence[bytes | Path]:
        """The further files and folders."""


@runtime_checkable
class Fetched(Layout, Protocol):
    """A layout that can be downloaded."""

    @property
    def url(self) -> str:
        """Where it comes from; empty where nobody may fetch it."""

    def fetch(self, root: Path) -> None:
        """Put all parts under the data root."""


@runtime_checkable
class Counted(Layout, Protocol):
    """A layout that can tell its labels without the images that `read` would decode or hold in memory."""

    def labels_of(self, root: Path, part: str) -> I64:
        """The class ids of the images of a part that is there; without those that a list names and that are not."""


def labels_of(layout: Layout, root: Path, part: str) -> I64:
    """The class ids of the images of a part that are there. No image is decoded. Raises `DataError`."""
    with as_published(layout, root, part):
        if isinstance(layout, Counted):
            return layout.labels_of(root, part)
        listing = layout.read(root, part)
    if isinstance(listing.images, np.ndarray):
        return listing.labels
    return listing.labels[[not isinstance(item, Path) or os.path.isfile(item) for item in listing.images]]


@contextmanager
def as_published(layout: Layout, root: Path, part: str) -> Iterator[None]:
    """Raises `DataError` for what a reader stumbles on: a list of images with a line that is cut short, or the like."""
    try:
        yield
    except (IndexError, KeyError, ValueError) as error:
        files = ", ".join(map(str, layout.files(root, part)))
        raise DataError(f"{files}: not as published ({error!r}). Expected {layout.where}") from error


@dataclass(frozen=True)
class TorchVision:
    """A class of torchvision.datasets, which reads, checks and downloads its own layout. `parts` are its arguments."""

    name: str
    folder: str  # of that layout, under the data root, or its file of a `{part}`
    parts: Mapping[str, tuple[Mapping[str, Any], ...]]  # several: one after the other, as one part
    url: str = "torchvision's"

    @property
    def where(self) -> str:
        files = dict.fromkeys(self.folder.format(part=part) for part in self.parts)
        return f"torchvision's {self.name} files ({' and '.join(files)})"

    def files(self, root: Path, part: str) -> list[Path]:
        path = root / self.folder.format(part=part)
        return [path] if part in self.parts and path.exists() else []

    def read(self, root: Path, part: str) -> Listing:
        images, labels = [], []
        for arguments in self.parts[part]:
            found, ids = _content(self._open(root, arguments, download=False))
            images.append(found)
            labels.append(ids)
        together = np.concatenate(images) if isinstance(images[0], np.ndarray) else [p for some in images for p in some]
        ids = np.concatenate(labels)
        return Listing(together, ids, np.arange(len(ids)), str(root / self.folder.format(part=part)))

    def fetch(self, root: Path) -> None:
        for arguments in (a for part in self.parts.values() for a in part):
            self._open(root, arguments, download=True)

    def _open(self, root: Path, arguments: Mapping[str, Any], download: bool) -> Any:
        import torchvision

        for part in self.parts:
            check_no_device(root / self.folder.format(part=part))
        try:
            return getattr(torchvision.datasets, self.name)(str(root), download=download, **arguments)
        except (RuntimeError, OSError, ValueError, EOFError) as error:  # urllib's errors are OSErrors
            did = "could not be downloaded" if download else "cannot be read"
            raise DataError(f"torchvision's {self.name} in {root} {did}: {error}") from error


def _content(data: Any) -> tuple[Any, Any]:
    """The images, as an array or paths, and the labels of a torchvision data set: it has no common way to list them."""
    for name in ("_samples", "samples", "imgs"):
        if hasattr(data, name):
            return [Path(path) for path, _ in getattr(data, name)], np.array([i for _, i in getattr(data, name)])
    if hasattr(data, "_image_files"):
        return [Path(path) for path in data._image_files], np.asarray(data._labels, dtype=np.int64)
    labels = np.asarray(data.labels if hasattr(data, "labels") else data.targets, dtype=np.int64)
    images = np.asarray(data.data)
    if type(data).__name__ == "SVHN":
        images = images.transpose(0, 2, 3, 1)
    if type(data).__name__ == "EMNIST":
        images, labels = images.transpose(0, 2, 1), labels - 1  # published on their side, letters from 1
    return images, labels


@dataclass(frozen=True)
class ClassFolders:
    """A folder with one folder a class; a class's id is the place of its name among the sorted ones.

    All `num_classes` must be there, or the ids would shift. With `classes`, the id is the place of the name there.
    """

    parts: Mapping[str, str]
    num_classes: int
    classes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"{' and '.join(dict.fromkeys(self.parts.values()))}, each with a folder a class"

    def files(self, root: Path, part: str) -> list[Path]:
        return folder_at(root / self.parts[part]) if part in self.parts else []

    def read(self, root: Path, part: str) -> Listing:
        folder = root / self.parts[part]
        found = class_folders(folder)
        names = list(self.classes) or list(found)
        if missing := [name for name in self.classes if nfc(name) not in found]:
            raise DataError(
                f"{folder} has no folder of class {', '.join(missing[:5])}; it has {', '.join(list(found)[:10])}"
            )
        if len(names) != self.num_classes:
            raise DataError(f"{folder} has {len(names)} folders of classes, and the set has {self.num_classes}")
        images, labels = [], []
        for label, name in enumerate(names):
            of_class = images_below(found[nfc(name)], home=folder)
            if not of_class:
                raise DataError(f"{found[nfc(name)]} has no image: its class would be empty")
            images += of_class
            labels += [label] * len(of_class)
        return listed(images, labels, folder)


class Archived:
    """A layout that one published archive, unpacked under the data root, makes."""

    folder: str  # that it makes
    url: str  # of the archive
    md5: str  # of the archive

    @property
    def where(self) -> str:
        return f"{self.folder}, the published archive unpacked"

    def fetch(self, root: Path) -> None:
        fetch_archive(self.url, root, self.md5, urlsplit(self.url).path.rpartition("/")[2])


@dataclass(frozen=True)
class Images(Archived):
    """A folder of images without classes; all of them have the label 0."""

    folder: str
    url: str = ""
    md5: str = ""

    @property
    def where(self) -> str:
        return f"{self.folder}, a folder of images"

    def files(self, root: Path, part: str) -> list[Path]:
        return folder_at(root / self.folder)

    def read(self, root: Path, part: str) -> Listing:
        images = images_below(root / self.folder)
        if not images:
            raise DataError(f"{root / self.folder} has no image")
        return listed(images, [0] * len(images), root / self.folder)


@dataclass(frozen=True)
class FileList:
    """A text file with an image a line: its path below `folder`, and its class id where the set has classes.

    Spaces, a tab or a comma are between them, and the path may be in double quotes. A class id may be -1, as OpenOOD's
    lists have it for unknown images. Without `labels` images have no class: all get 0, whatever the list says.
    """

    parts: Mapping[str, str]
    folder: str
    labels: bool = True

    @property
    def where(self) -> str:
        lists = " and ".join(dict.fromkeys(self.parts.values()))
        line = "path and class id" if self.labels else "its path"
        return f"{lists}, an image a line ({line}), with the images in {self.folder}"

    def files(self, root: Path, part: str) -> list[Path]:
        return file_at(root / self.parts[part]) if part in self.parts else []

    def also_read(self, root: Path, part: str) -> Sequence[bytes | Path]:
        images = self.read(root, part).images
        assert not isinstance(images, np.ndarray)
        return images

    def read(self, root: Path, part: str) -> Listing:
        path = root / self.parts[part]
        images, labels = [], []
        for number, line in enumerate(lines_of(path), 1):
            found = _LINE.fullmatch(line)
            if self.labels and not found:
                raise DataError(f"{path}:{number}: expected the path of an image and its class id, not {line!r}")
            name, label = (found["path"], int(found["label"])) if found else (line, 0)
            images.append(as_named(root / self.folder / name.strip('"')))
            labels.append(label if self.labels else 0)
        if not images:
            raise DataError(f"{path} lists no image")
        return listed(images, labels, path)


_LINE = re.compile(r"(?P<path>.*[^\s,])(?:\s*,\s*|\s+)(?P<label>-?[0-9]+)")


@dataclass(frozen=True)
class Array:
    """Images in a NumPy file, N,H,W,3 bytes, without classes."""

    path: str

    @property
    def where(self) -> str:
        return f"{self.path}, an array of images"

    def files(self, root: Path, part: str) -> list[Path]:
        return file_at(root / self.path)

    def read(self, root: Path, part: str) -> Listing:
        path = root / self.path
        try:
            images = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} is not an array of NumPy's: {error}") from error
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise DataError(f"{path} holds {images.dtype} of shape {images.shape}, not bytes of shape (N, H, W, 3)")
        return Listing(images, np.zeros(len(images), dtype=np.int64), np.arange(len(images)), str(path))


def fetch_archive(url: str, root: Path, md5: str, name: str) -> None:
    """Download an archive into the data root as `name`, check its sum and unpack it there: whole, or not at all."""
    from torchvision.datasets.utils import download_url, extract_archive

    archive = root / name
    file_at(archive)  # nothing is written into a pipe
    try:
        root.mkdir(parents=True, exist_ok=True)
        download_url(url, str(root), name, md5)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as scratch:
            extract_archive(str(archive), scratch)
            for made in Path(scratch).iterdir():
                if (root / made.name).is_dir():  # of an archive that was unpacked in part
                    shutil.copytree(made, root / made.name, dirs_exist_ok=True)
                else:
                    made.replace(root / made.name)
        archive.unlink()
    except (RuntimeError, OSError, EOFError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{url} could not be downloaded into {root}: {error}") from error


def class_id(ids: Mapping[str, int], name: str, where: Path) -> int:
    if name not in ids:
        raise DataError(f"{where} does not list {name!r}")
    return ids[name]
