"""How published image sets lie on disk: a reader for each layout, which lists images and decodes none.

Reading and fetching raise `DataError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np

from trainables.data.listing import DataError, Listing, listed

IMAGES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class Layout(Protocol):
    @property
    def where(self) -> str:
        """What a message says to put under the data root."""

    def files(self, root: Path, part: str) -> list[Path]:
        """The files or folders that a part of the set is read from; none where it is not there."""

    def read(self, root: Path, part: str) -> Listing:
        """A part that is there."""


@runtime_checkable
class Fetched(Layout, Protocol):
    """A layout that can be downloaded."""

    @property
    def url(self) -> str:
        """Where it comes from; empty where nobody may fetch it."""

    def fetch(self, root: Path) -> None:
        """Put all parts under the data root."""


@dataclass(frozen=True)
class Parquet:
    """Parquet files with encoded images and class ids, as Hugging Face has them.

    `parts` maps a part to a pattern; several files are read in the order of their names. Images are bytes or a struct
    with a field `bytes`. With `classes`, the labels of the file are places in the list of names that its metadata
    holds; a class's id is the place of its name in `classes`, and other images are left out. `only` keeps the rows
    where a column has a value.
    """

    parts: Mapping[str, str]
    classes: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # by part: column and value

    @property
    def where(self) -> str:
        return f"{' and '.join(dict.fromkeys(self.parts.values()))} (columns image, label)"

    def files(self, root: Path, part: str) -> list[Path]:
        if part not in self.parts:
            return []
        return sorted(root / found for found in glob(self.parts[part], root_dir=root))

    def read(self, root: Path, part: str) -> Listing:
        files = self.files(root, part)
        table = _table(files)
        source = ", ".join(map(str, files))
        column, value = self.only.get(part, ("", ""))
        rows = np.arange(len(table))
        kept = np.ones(len(table), dtype=bool)
        if column:
            if column not in table.column_names:
                raise DataError(f"{source} has no column {column}; it has {', '.join(table.column_names)}")
            kept &= np.asarray(table[column].to_pylist()) == value
        if "exact" in table.column_names:
            exact = table["exact"].to_numpy()
            left_out, kept = int((kept & ~exact).sum()), kept & exact
        else:
            left_out = 0
        labels = table["label"].to_numpy().astype(np.int64)
        if self.classes:
            of_each = {tuple(_class_names(path)) for path in files}
            names = list(of_each.pop())
            if of_each:
                raise DataError(f"{source} do not name the same classes")
            if labels.max(initial=-1) >= len(names) or labels.min(initial=0) < 0:
                raise DataError(f"{source} does not name the classes of all its labels: name them by numbers")
            if missing := [name for name in self.classes if name not in names]:
                raise DataError(f"{source} has no class {', '.join(missing[:5])}; it has {', '.join(names[:30])}")
            ids = {name: i for i, name in enumerate(self.classes)}
            labels = np.array([ids.get(name, -1) for name in names], dtype=np.int64)[labels]
            kept &= labels >= 0
        index = table["index"].to_numpy().astype(np.int64) if "index" in table.column_names else rows
        table = table.filter(kept)
        masks = table["mask"].to_pylist() if "mask" in table.column_names else None
        return Listing(table["image"].to_pylist(), labels[kept], index[kept], source, masks, left_out)


def _table(files: Sequence[Path]) -> Any:
    """The files as one table with the columns `image`, bytes, and `label`, whole numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = []
    for path in files:
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}") from error
        names = {"img": "image", "labels": "label", "fine_label": "label"}
        found = table.column_names
        table = table.rename_columns([names[n] if n in names and names[n] not in found else n for n in found])
        if missing := {"image", "label"} - set(table.column_names):
            wanted = " and ".join(sorted(missing))
            raise DataError(f"{path} has no column {wanted}; it has {', '.join(table.column_names)}")
        for name in {"image", "mask"} & set(table.column_names):
            kind = table.schema.field(name).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                column = table.column_names.index(name)
                table = table.set_column(column, name, pc.struct_field(table[name], "bytes"))
        kind = table.schema.field("image").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(f"{path}: column image must hold encoded bytes, not {kind}")
        if not pa.types.is_integer(table.schema.field("label").type):
            kind = table.schema.field("label").type
            raise DataError(f"{path}: column label must hold whole numbers, not {kind}")
        for name in {"image", "label", "mask"} & set(table.column_names):
            if table[name].null_count:
                row = pc.index(pc.is_null(table[name]), True)
                raise DataError(f"{path}: column {name} is empty in {table[name].null_count} rows, the first is {row}")
        tables.append(table)
    return pa.concat_tables(tables, promote_options="default")


def _class_names(path: Path) -> list[str]:
    """Names of the classes by number, as a file of this project or of Hugging Face has them, if it has."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata or {}
    if b"info" in metadata:
        return list(json.loads(metadata[b"info"]).get("classes", []))
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return list(next((f["names"] for f in features.values() if isinstance(f, dict) and "names" in f), []))


@dataclass(frozen=True)
class TorchVision:
    """A class of torchvision.datasets, which reads, checks and downloads its own layout. `parts` are its arguments."""

    name: str
    folder: str  # of that layout, under the data root, or its file of a `{part}`
    parts: Mapping[str, tuple[Mapping[str, Any], ...]]  # several: one after the other, as one part
    url: str = "torchvision's"

    @property
    def where(self) -> str:
        return f"torchvision's {self.name} files ({self.folder})"

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
        folder = root / self.parts[part] if part in self.parts else None
        return [folder] if folder and folder.is_dir() else []

    def read(self, root: Path, part: str) -> Listing:
        folder = root / self.parts[part]
        found = sorted(p.name for p in _entries(folder) if p.is_dir())
        names = list(self.classes) or found
        if missing := [name for name in self.classes if name not in found]:
            raise DataError(f"{folder} has no folder of class {', '.join(missing[:5])}; it has {', '.join(found[:10])}")
        if len(names) != self.num_classes:
            raise DataError(f"{folder} has {len(names)} folders of classes, and the set has {self.num_classes}")
        images, labels = [], []
        for label, name in enumerate(names):
            of_class = images_below(folder / name)
            if not of_class:
                raise DataError(f"{folder / name} has no image: its class would be empty")
            images += of_class
            labels += [label] * len(of_class)
        return listed(images, labels, folder)


@dataclass(frozen=True)
class Images:
    """A folder of images without classes; all of them have the label 0."""

    folder: str
    url: str = ""  # of an archive that makes this folder
    md5: str = ""

    @property
    def where(self) -> str:
        return f"{self.folder}, a folder of images"

    def files(self, root: Path, part: str) -> list[Path]:
        folder = root / self.folder
        return [folder] if folder.is_dir() else []

    def read(self, root: Path, part: str) -> Listing:
        images = images_below(root / self.folder)
        if not images:
            raise DataError(f"{root / self.folder} has no image")
        return listed(images, [0] * len(images), root / self.folder)

    def fetch(self, root: Path) -> None:
        fetch_archive(self.url, root, self.md5, urlsplit(self.url).path.rpartition("/")[2])


@dataclass(frozen=True)
class FileList:
    """A text file with an image a line: its path below `folder`, and its class id where the set has classes."""

    parts: Mapping[str, str]
    folder: str

    @property
    def where(self) -> str:
        lists = " and ".join(dict.fromkeys(self.parts.values()))
        return f"{lists}, an image a line (path and class id), with the images in {self.folder}"

    def files(self, root: Path, part: str) -> list[Path]:
        path = root / self.parts[part] if part in self.parts else None
        return [path] if path and path.is_file() else []

    def read(self, root: Path, part: str) -> Listing:
        path = root / self.parts[part]
        images, labels = [], []
        for number, line in enumerate(lines_of(path), 1):
            name, _, label = line.rpartition(" ") if line.rpartition(" ")[2].isdigit() else (line, "", "0")
            if not name:
                raise DataError(f"{path}:{number}: expected the path of an image and its class id, not {line!r}")
            images.append(root / self.folder / name)
            labels.append(int(label))
        if not images:
            raise DataError(f"{path} lists no image")
        return listed(images, labels, path)


@dataclass(frozen=True)
class Array:
    """Images in a NumPy file, N,H,W,3 bytes, without classes."""

    path: str

    @property
    def where(self) -> str:
        return f"{self.path}, an array of images"

    def files(self, root: Path, part: str) -> list[Path]:
        return [root / self.path] if (root / self.path).is_file() else []

    def read(self, root: Path, part: str) -> Listing:
        path = root / self.path
        try:
            images = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} is not an array of NumPy's: {error}") from error
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise DataError(f"{path} holds {images.dtype} of shape {images.shape}, not bytes of shape (N, H, W, 3)")
        return Listing(images, np.zeros(len(images), dtype=np.int64), np.arange(len(images)), str(path))


def images_below(folder: Path) -> list[Path]:
    """Every image file below a folder, in the order of their paths."""
    found: list[Path] = []
    for entry in _entries(folder):
        if entry.is_dir():
            found += images_below(entry)
        elif entry.suffix.lower() in IMAGES:
            found.append(entry)
    return found


def fetch_archive(url: str, root: Path, md5: str = "", name: str = "") -> None:
    """Download an archive into the data root and unpack it there."""
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        root.mkdir(parents=True, exist_ok=True)
        download_and_extract_archive(url, str(root), filename=name or None, md5=md5 or None, remove_finished=True)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{url} could not be downloaded into {root}: {error}") from error


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def class_id(ids: Mapping[str, int], name: str, where: Path) -> int:
    if name not in ids:
        raise DataError(f"{where} does not list {name!r}")
    return ids[name]
