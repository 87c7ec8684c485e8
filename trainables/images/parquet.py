"""Image sets in Parquet files, as Hugging Face and this project have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.images.listing import I64, DataError, Listing
from trainables.images.on_disk import entries, file_at, folder_at, nfc

# What Hugging Face's files call the two columns; the first that a file has is taken.
IMAGE, LABEL = ("image", "img"), ("label", "fine_label", "labels")


@dataclass(frozen=True)
class Parquet:
    """Parquet files with encoded images and class ids.

    `parts` maps a part to a name or a pattern (`*`, `?`); several files are read in the order of their names. Images
    are bytes or a struct with a field `bytes`. With `classes`, the labels of the file are places in the list of names
    that its metadata holds for the label's column; a class's id is the place of its name in `classes`, and other images
    are left out. `only` keeps the rows where a column has a value. With `masks`, each image's object is in a column
    `mask`.

    A column `exact` of truth values marks copies that are not exact: they are left out. A column `index` of whole
    numbers, each once, is the published order. Columns of these names that hold something else are not looked at.
    """

    parts: Mapping[str, str]
    classes: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # by part: column and value
    masks: bool = False

    @property
    def where(self) -> str:
        return f"{' and '.join(dict.fromkeys(self.parts.values()))} (columns image, label)"

    def files(self, root: Path, part: str) -> list[Path]:
        if part not in self.parts or "\0" in self.parts[part]:
            return []
        pattern = self.parts[part].replace("[", "[[]")  # brackets are part of a name
        return [file for path in sorted(root / name for name in glob(pattern, root_dir=root)) for file in _files(path)]

    def class_names(self, root: Path, part: str) -> list[str]:
        """Names of the classes by their ids, as the first file says them; none where it does not."""
        return list(self.classes) or next((_class_names(path) for path in self.files(root, part)), [])

    def read(self, root: Path, part: str) -> Listing:
        rows = self._rows(root, part, ("image", "mask") if self.masks else ("image",))
        masks = rows.table["mask"].to_pylist() if "mask" in rows.table.column_names else None
        return Listing(rows.table["image"].to_pylist(), rows.labels, rows.positions, rows.source, masks, rows.left_out)

    def labels_of(self, root: Path, part: str) -> I64:
        """The class ids of a part. The columns of images are not read."""
        return self._rows(root, part, ()).labels

    def _rows(self, root: Path, part: str, encoded: tuple[str, ...]) -> _Rows:
        """The rows of a part that are kept, with the columns `encoded`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        files = self.files(root, part)
        source = ", ".join(map(str, files))
        column, value = self.only.get(part, ("", ""))
        table = pa.concat_tables([_table(path, encoded, column) for path in files], promote_options="permissive")
        for name in (*encoded, "label"):
            if name in table.column_names and table[name].null_count:
                raise DataError(
                    f"{source}: column {name} is empty in {table[name].null_count} rows, the first is "
                    f"{pc.index(pc.is_null(table[name]), True)}"
                )
        kept = np.ones(len(table), dtype=bool)
        if column:
            kept &= table["where"].to_numpy() == value
        exact = np.asarray(table["exact"].fill_null(True)) if "exact" in table.column_names else kept
        left_out, kept = int((kept & ~exact).sum()), kept & exact
        if left_out and not kept.any():
            raise DataError(
                f"{source}: no row is an exact copy, says the column exact. Rename it if it says another thing"
            )
        labels = table["label"].to_numpy().astype(np.int64)
        if self.classes:
            labels = _renumbered(labels, self.classes, files, source)
            kept &= labels >= 0
        index = _published_order(table)
        return _Rows(
            table.select([n for n in encoded if n in table.column_names]).filter(kept),
            labels[kept],
            index[kept],
            source,
            left_out,
        )


class _Rows(NamedTuple):
    table: Any  # N rows of encoded images and masks
    labels: I64  # N
    positions: I64  # N, in the published order
    source: str
    left_out: int


def _files(path: Path) -> list[Path]:
    """A file; or those in a folder, as Spark writes a table."""
    if folder_at(path):
        return [file for e in entries(path) if e.name.endswith(".parquet") for file in file_at(Path(e.path))]
    return file_at(path)


def _table(path: Path, encoded: tuple[str, ...], column: str) -> Any:
    """What is needed of a file: `label`, `where`, what it has of `encoded`, and `exact` and `index` if they fit."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema = _schema(path)
    has = schema.names
    called = {"image": _first(IMAGE, has), "label": _first(LABEL, has)}
    if missing := [name for name, found in called.items() if not found]:
        raise DataError(f"{path} has no column {' and '.join(missing)}; it has {', '.join(has)}")
    if column and column not in has:
        raise DataError(f"{path} has no column {column}; it has {', '.join(has)}")
    if "mask" in encoded and "mask" in has:
        called["mask"] = "mask"
    for name in called.keys() & {"image", "mask"}:
        kind = schema.field(called[name]).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(f"{path}: column {called[name]} must hold encoded bytes, not {kind}")
    if not pa.types.is_integer(kind := schema.field(called["label"]).type):
        raise DataError(f"{path}: column {called['label']} must hold whole numbers, not {kind}")
    if column:
        called["where"] = column
    if "exact" in has and pa.types.is_boolean(schema.field("exact").type):
        called["exact"] = "exact"
    if "index" in has and pa.types.is_integer(schema.field("index").type):
        called["index"] = "index"
    if "image" not in encoded:
        del called["image"]
    try:
        table = pq.ParquetFile(path).read(columns=list(dict.fromkeys(called.values())))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    columns = {name: table[found] for name, found in called.items()}
    for name in columns.keys() & {"image", "mask"}:
        if pa.types.is_struct(columns[name].type):
            columns[name] = pc.struct_field(columns[name], "bytes")
        columns[name] = columns[name].cast(pa.large_binary())
    for name in columns.keys() & {"label", "index"}:
        columns[name] = columns[name].cast(pa.int64())
    if column:
        columns["where"] = columns["where"].cast(pa.string())
    return pa.table(columns)


def _first(names: tuple[str, ...], has: list[str]) -> str:
    return next((name for name in names if name in has), "")


def _schema(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _published_order(table: Any) -> I64:
    """The column `index` where it is a position of each row, else the rows' own numbers."""
    if "index" in table.column_names and not table["index"].null_count:
        index: npt.NDArray[np.int64] = table["index"].to_numpy().astype(np.int64)
        if len(np.unique(index)) == len(index) and index.min(initial=0) >= 0:
            return index
    return np.arange(len(table), dtype=np.int64)


def _renumbered(labels: I64, classes: tuple[str, ...], files: list[Path], source: str) -> I64:
    """Labels as places in `classes`, by the names that the files have for them; -1 for other classes."""
    of_each = {tuple(_class_names(path)) for path in files}
    if len(of_each) > 1:
        raise DataError(f"{source} do not name the same classes")
    names: list[str] = list(*of_each)
    if labels.max(initial=-1) >= len(names) or labels.min(initial=0) < 0:
        raise DataError(f"{source} does not name the classes of all its labels: name them by numbers")
    ids = {nfc(name): i for i, name in enumerate(classes)}
    if missing := [name for name in classes if nfc(name) not in names]:
        raise DataError(f"{source} has no class {', '.join(missing[:5])}; it has {', '.join(names[:30])}")
    if twice := [name for name in classes if names.count(nfc(name)) > 1]:
        raise DataError(f"{source} has several classes of the name {', '.join(twice[:5])}: name classes by numbers")
    return np.array([ids.get(name, -1) for name in names], dtype=np.int64)[labels]


def _class_names(path: Path) -> list[str]:
    """Names of the numbers in the label's column, where a file of this project or of Hugging Face says them."""
    schema = _schema(path)
    metadata = schema.metadata or {}
    names = _inner(metadata.get(b"info"), "classes")
    if b"info" not in metadata:
        names = _inner(metadata.get(b"huggingface"), "info", "features", _first(LABEL, schema.names), "names")
    return [nfc(str(name)) for name in names] if isinstance(names, list) else []


def _inner(text: bytes | None, *keys: str) -> Any:
    """What JSON has at these keys, one below the other; None where it has another shape."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return None
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found
