"""Parquet files: whose names a label has, and columns that are called as ours are and hold something else."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers import trees
from trainables.data.sets import load_set
from trainables.images.listing import DataError
from trainables.images.parquet import Parquet

FINE, COARSE = ["apple", "bear", "beaver", "bed"], ["fish", "flowers"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


def labels(path: Path, **arguments: Any) -> list[int]:
    layout = Parquet({"train": path.name}, **arguments)
    listing = layout.read(path.parent, "train")
    assert layout.labels_of(path.parent, "train").tolist() == listing.labels.tolist()
    return listing.labels.tolist()


@pytest.mark.parametrize("column", ["label", "labels", "fine_label"])
def test_class_names_are_those_of_the_column_that_became_the_label(tmp_path: Path, column: str) -> None:
    columns = {"coarse_label": [1, 0, 1, 0], column: [0, 1, 2, 3]}
    path = trees.parquet(tmp_path / "a.parquet", columns, {"coarse_label": COARSE, column: FINE})
    assert labels(path, classes=("bed", "apple")) == [1, 0]
    with pytest.raises(DataError, match="has no class fish; it has apple, bear, beaver, bed"):
        labels(path, classes=("fish",))


def test_a_label_without_names_does_not_borrow_those_of_another_column(tmp_path: Path) -> None:
    path = trees.parquet(tmp_path / "a.parquet", {"coarse_label": [1, 0], "label": [0, 1]}, {"coarse_label": COARSE})
    with pytest.raises(DataError, match="does not name the classes of all its labels: name them by numbers"):
        labels(path, classes=("fish", "flowers"))


def test_a_label_is_preferred_to_a_fine_one_and_both_in_one_file_are_no_error(tmp_path: Path) -> None:
    path = trees.parquet(tmp_path / "a.parquet", {"fine_label": [3, 2], "label": [1, 0]}, {"label": ["a", "b"]})
    assert labels(path) == [1, 0]
    assert labels(path, classes=("b", "a")) == [0, 1]


def test_two_classes_of_one_name_are_not_merged(tmp_path: Path) -> None:
    path = trees.parquet(tmp_path / "a.parquet", {"label": [0, 1, 2]}, {"label": ["crane", "crane", "owl"]})
    with pytest.raises(DataError, match="has several classes of the name crane: name classes by numbers"):
        labels(path, classes=("crane", "owl"))


@pytest.mark.parametrize("metadata", ["[]", "{", '{"info": [1]}', '{"info": {"features": {"label": 3}}}'])
def test_metadata_of_another_shape_names_no_class(tmp_path: Path, metadata: str) -> None:
    table = pa.table({"image": [trees.encoded(0)], "label": [0]}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    assert labels(tmp_path / "a.parquet") == [0]
    with pytest.raises(DataError, match="does not name the classes"):
        labels(tmp_path / "a.parquet", classes=("a",))


def test_columns_called_index_exact_or_mask_that_mean_something_else_are_left_alone(tmp_path: Path) -> None:
    other = {"index": ["a", "b", "c"], "exact": ["yes", "no", None], "mask": [3, None, 4]}
    listing = Parquet({"train": "a.parquet"}).read(
        trees.parquet(tmp_path / "a.parquet", {"label": [2, 0, 1], **other}).parent, "train"
    )
    assert (listing.labels.tolist(), listing.index.tolist()) == ([2, 0, 1], [0, 1, 2])
    assert (listing.left_out, listing.masks) == (0, None)


@pytest.mark.parametrize("index", [[7, 7, 8], [0, None, 2], [-1, 0, 1]])
def test_an_index_that_is_no_position_of_each_row_is_the_rows_number(tmp_path: Path, index: list[int | None]) -> None:
    path = trees.parquet(tmp_path / "a.parquet", {"label": [0, 1, 2], "index": index})
    assert Parquet({"train": "a.parquet"}).read(path.parent, "train").index.tolist() == [0, 1, 2]


def test_shards_that_each_count_from_0_are_numbered_through(tmp_path: Path) -> None:
    for shard in range(2):
        trees.parquet(tmp_path / f"train-{shard}.parquet", {"label": [0, 1], "index": [0, 1]})
    assert Parquet({"train": "train-*.parquet"}).read(tmp_path, "train").index.tolist() == [0, 1, 2, 3]


def test_rows_that_are_not_said_to_be_inexact_are_kept(tmp_path: Path) -> None:
    path = trees.parquet(tmp_path / "a.parquet", {"label": [0, 1, 2], "exact": [None, False, True], "index": [5, 6, 7]})
    listing = Parquet({"train": "a.parquet"}).read(path.parent, "train")
    assert (listing.labels.tolist(), listing.index.tolist(), listing.left_out) == ([0, 2], [5, 7], 1)
    trees.parquet(path, {"label": [0, 1], "exact": [False, False]})
    with pytest.raises(DataError, match="no row is an exact copy, says the column exact"):
        labels(path)


def test_masks_are_read_where_they_are_wanted(tmp_path: Path) -> None:
    masks = [trees.encoded(255), None]
    path = trees.parquet(tmp_path / "a.parquet", {"label": [0, 1], "mask": masks})
    assert Parquet({"train": "a.parquet"}).read(path.parent, "train").masks is None
    with pytest.raises(DataError, match="column mask is empty in 1 rows, the first is 1"):
        labels(path, masks=True)
    trees.parquet(path, {"label": [0, 1], "mask": masks[:1] * 2})
    assert Parquet({"train": "a.parquet"}, masks=True).read(path.parent, "train").masks == masks[:1] * 2
    trees.parquet(path, {"label": [0, 1], "mask": [1, 2]})
    with pytest.raises(DataError, match="column mask must hold encoded bytes, not int64"):
        labels(path, masks=True)


def test_rows_are_chosen_by_a_column_of_any_kind_with_nulls(tmp_path: Path) -> None:
    path = trees.parquet(tmp_path / "a.parquet", {"label": [0, 1, 2], "fold": [1, None, 2]})
    assert labels(path, only={"train": ("fold", "2")}) == [2]


def test_brackets_in_a_path_are_part_of_its_name(tmp_path: Path) -> None:
    path = trees.parquet(tmp_path / "birds [v1]" / "train[0].parquet", {"label": [1]})
    assert labels(path) == [1]
    assert Parquet({"train": "birds [v1]/train*.parquet"}).read(tmp_path, "train").labels.tolist() == [1]


def test_a_folder_of_files_as_spark_writes_it_is_one_table(tmp_path: Path) -> None:
    for part in (1, 0):
        trees.parquet(tmp_path / "a.parquet" / f"part-{part}.parquet", {"label": [part]})
    (tmp_path / "a.parquet" / "_SUCCESS").touch()
    assert labels(tmp_path / "a.parquet") == [0, 1]


def test_names_are_the_same_in_composed_and_decomposed_unicode(tmp_path: Path) -> None:
    path = trees.parquet(tmp_path / "a.parquet", {"label": [0, 1]}, {"label": ["cafe\u0301", "\u00fcber"]})
    assert labels(path, classes=("u\u0308ber", "caf\u00e9")) == [1, 0]


def test_a_whole_file_beside_its_shards_is_not_read_twice(tmp_path: Path) -> None:
    for name, rows in (("all", 600), ("all-00000-of-00002", 300), ("all-00001-of-00002", 300)):
        trees.parquet(tmp_path / "imagenet1k_samples" / f"{name}.parquet", {"label": [0] * rows})
    with pytest.raises(
        DataError, match=r"has 1,200 images, and imagenet-samples \(all\) was published with 1,000: take"
    ):
        load_set("imagenet-samples", "test", 32, tmp_path)
