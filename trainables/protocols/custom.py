"""A protocol of one's own: a YAML file of ten lines, named by its path where a protocol is named.

    train: birds/train      # under the data root: a folder of class folders, a Parquet file, or a list of files
    test: birds/test
    image_size: 64
    known: [sparrow, robin, wren]
    unknown: [crow, magpie]

Class ids are places in `known` and then `unknown`, so that the file alone says which classes a trial knows. A part may
be some rows of a Parquet file, `{file: birds.parquet, where: {split: train}}`. Further keys: `flip: false`, `masks:
true` where a Parquet file has a column `mask`, and `images: FOLDER` that the paths of a list are below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trainables.images.layouts import ClassFolders, FileList, Layout, Scattered, labels_of
from trainables.images.listing import I64, DataError, Listing
from trainables.images.parquet import Parquet
from trainables.reading import yaml_file
from trainables.reading.finding import from_here
from trainables.reading.values import shown

_KEYS: dict[str, tuple[type, ...]] = {
    "train": (str, dict),
    "test": (str, dict),
    "image_size": (int,),
    "known": (list,),
    "unknown": (list,),
    "flip": (bool,),
    "masks": (bool,),
    "images": (str,),
}
_SAID = {str: "a text", dict: "a mapping", int: "a whole number", list: "a list", bool: "true or false"}
_NEEDED = ("train", "test", "image_size", "known", "unknown")
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class CustomProtocol:
    """What such a file says."""

    path: Path
    known: tuple[str, ...]
    unknown: tuple[str, ...]
    image_size: int
    flip: bool
    masks: bool
    layout: Layout

    @property
    def classes(self) -> tuple[str, ...]:
        return (*self.known, *self.unknown)

    @property
    def get(self) -> str:
        return f"{self.path} says where its images are"


def is_custom_protocol(protocol: object) -> bool:
    """Whether a protocol is named by its file."""
    return isinstance(protocol, str) and protocol.endswith(SUFFIXES)


def custom_protocol(name: str) -> CustomProtocol:
    """The protocol of a file. Raises `ValueError` that says what is wrong, with the line."""
    path = _find(name)
    return _read(path, path.stat().st_mtime_ns)


def _find(name: str) -> Path:
    if path := from_here(name):
        return path
    raise ValueError(f"there is no file {name}: a protocol of one's own is named by its path from here")


@cache
def _read(path: Path, changed: int) -> CustomProtocol:
    document = None
    try:
        document = yaml_file.load(path)
        problems = list(_problems(document.data))
    except yaml_file.ConfigError as error:
        raise ValueError(str(error)) from error
    if problems:
        raise ValueError(str(yaml_file.ConfigError(problems, document)))
    data = document.data
    known, unknown = tuple(map(str, data["known"])), tuple(map(str, data["unknown"]))
    layout = _layout(data, (*known, *unknown))
    return CustomProtocol(
        path, known, unknown, data["image_size"], data.get("flip", True), data.get("masks", False), layout
    )


def _problems(data: Any) -> Iterator[yaml_file.Problem]:
    if not isinstance(data, dict):
        yield yaml_file.Problem((), f"expected {', '.join(_NEEDED)}, one `key: value` a line")
        return
    for name in data:
        if name not in _KEYS:
            yield yaml_file.Problem((name,), f"unknown key{yaml_file.nearest(name, _KEYS)}; it has {', '.join(_KEYS)}")
        elif type(data[name]) not in _KEYS[name]:
            yield yaml_file.Problem((name,), f"{shown(data[name])} is not {' or '.join(_SAID[k] for k in _KEYS[name])}")
    for name in _NEEDED:
        if name not in data:
            yield yaml_file.Problem((), f"`{name}` is missing")
    lists = [data[n] for n in ("known", "unknown") if isinstance(data.get(n), list)]
    if len(lists) == 2:
        names = [str(n) for some in lists for n in some]
        if len(lists[0]) < 2:
            yield yaml_file.Problem(("known",), "a classifier needs at least 2 known classes")
        if not lists[1]:
            yield yaml_file.Problem(("unknown",), "is empty: with nothing unknown there is nothing to detect")
        for part in ("known", "unknown"):
            for place, name in enumerate(data[part]):
                if type(name) not in (str, int):
                    said = f"{shown(name)} is no text: put the name in quotes (YAML reads yes, no, on, off as values)"
                    yield yaml_file.Problem((part, place), said)
        if twice := sorted({n for n in names if names.count(n) > 1}):
            yield yaml_file.Problem(("unknown",), f"{', '.join(twice)} is named twice")
    for part in ("train", "test"):
        of = data.get(part)
        if isinstance(of, dict) and (set(of) != {"file", "where"} or not _is_one_condition(of["where"])):
            yield yaml_file.Problem((part,), "is not {file: FILE.parquet, where: {COLUMN: 'VALUE'}}")
    if "train" in data and data["train"] == data.get("test"):
        yield yaml_file.Problem(("test",), "is what `train` is: train and test on different images")
    if isinstance(data.get("image_size"), int) and not 8 <= data["image_size"] <= 1024:
        yield yaml_file.Problem(("image_size",), f"{data['image_size']} is not in 8..1024 px")


def _is_one_condition(where: Any) -> bool:
    return isinstance(where, dict) and len(where) == 1 and all(isinstance(v, str) for v in where.values())


def _layout(data: dict[str, Any], classes: tuple[str, ...]) -> Layout:
    """By what the parts are called: Parquet files, lists, or else folders."""
    parts, only = {}, {}
    for part in ("train", "test"):
        of = data[part]
        parts[part] = of["file"] if isinstance(of, dict) else of
        if isinstance(of, dict):
            ((column, value),) = of["where"].items()
            only[part] = (column, value)
    numbers = all(map(_is_number, classes))
    suffixes = {Path(path).suffix.lower() for path in parts.values()}
    if suffixes == {".parquet"}:
        masks = data.get("masks", False)
        return (
            _Renumbered(Parquet(parts, (), only, masks), classes) if numbers else Parquet(parts, classes, only, masks)
        )
    if suffixes == {".txt"}:
        return _Renumbered(FileList(parts, data.get("images", ".")), classes)
    return _Folders(parts, classes, len(data["known"]))


def _is_number(name: str) -> bool:
    """Whether a class is named by its number; -1 stands for unknown images in lists of this field."""
    return name.removeprefix("-").isdigit()


@dataclass(frozen=True)
class _Folders:
    """A folder a class; for training, of the known ones alone."""

    parts: Mapping[str, str]
    classes: tuple[str, ...]  # the first `known` of them are
    known: int

    @property
    def where(self) -> str:
        return self._layout("test").where

    def files(self, root: Path, part: str) -> list[Path]:
        return self._layout(part).files(root, part)

    def read(self, root: Path, part: str) -> Listing:
        return self._layout(part).read(root, part)

    def _layout(self, part: str) -> ClassFolders:
        needed = self.classes[: self.known] if part == "train" else self.classes
        return ClassFolders(self.parts, len(needed), needed)


@dataclass(frozen=True)
class _Renumbered:
    """A layout whose labels are numbers, with the classes that a file names, by their number, in its order."""

    layout: Layout
    classes: tuple[str, ...]

    @property
    def where(self) -> str:
        return self.layout.where

    def files(self, root: Path, part: str) -> list[Path]:
        return self.layout.files(root, part)

    def also_read(self, root: Path, part: str) -> Sequence[bytes | Path]:
        return self.layout.also_read(root, part) if isinstance(self.layout, Scattered) else ()

    def read(self, root: Path, part: str) -> Listing:
        found = self.layout.read(root, part)
        labels = self._places(found.labels, found.source)
        kept = np.flatnonzero(labels >= 0).tolist()
        images = [found.images[i] for i in kept]
        masks = [found.masks[i] for i in kept] if found.masks is not None else None
        return Listing(images, labels[kept], found.index[kept], found.source, masks, found.left_out)

    def labels_of(self, root: Path, part: str) -> I64:
        found = labels_of(self.layout, root, part)
        labels = self._places(found, ", ".join(map(str, self.files(root, part))))
        return labels[labels >= 0]

    def _places(self, labels: I64, source: str) -> I64:
        """Labels as places in `classes`; -1 for other ones."""
        if wrong := [c for c in self.classes if not _is_number(c)]:
            raise DataError(f"{source} has numbers as labels: name classes by them, not {wrong[0]!r}")
        place = {int(name): i for i, name in enumerate(self.classes)}
        return np.array([place.get(label, -1) for label in labels.tolist()], dtype=np.int64)
