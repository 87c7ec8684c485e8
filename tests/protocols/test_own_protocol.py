"""A protocol of one's own: ten lines of YAML for a folder, a Parquet file or a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers import trees
from tests.helpers.sweeps import project, sweep
from trainables.data.trial_data import build
from trainables.images.listing import DataError
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve

BIRDS = """\
train: birds/train
test: birds/test
image_size: 32
known: [sparrow, robin]
unknown: [crow]
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def trial(**settings: Any) -> TrialConfig:
    return resolve({"method": "plain", "protocol": "birds.yaml", "split_family": "own", **settings})


def birds(root: Path, each: int = 3) -> None:
    for more, part in enumerate(("train", "test")):
        for value, name in enumerate(("crow", "robin", "sparrow")):
            for number in range(each):
                trees.save(root / "birds" / part / name / f"{number}.png", 80 * value + 2 * number + more)


def test_class_folders_are_numbered_as_the_file_names_them(tmp_path: Path) -> None:
    birds(tmp_path)
    Path("birds.yaml").write_text(BIRDS)
    data = build(trial(), tmp_path)
    assert (len(data.train), len(data.test["known"]), len(data.test["unknown"])) == (6, 6, 3)
    images = data.train.source.images[data.train.rows]
    assert [int(images[data.train.labels == label].max()) for label in (0, 1)] == [164, 84]  # sparrow, robin


def test_a_parquet_file_with_numbers_and_a_list_of_files_do_as_well(tmp_path: Path) -> None:
    for part, more in (("train", 0), ("test", 1)):
        images = [trees.encoded(10 * label + more) for label in (7, 3, 5)]
        pq.write_table(pa.table({"image": images, "label": [7, 3, 5]}), f"{part}.parquet")
        for number in (7, 3, 5):
            trees.save(tmp_path / "files" / part / f"{number}.png", 10 * number + more)
        trees.lines(Path(f"{part}.txt"), *(f"{part}/{number}.png {number}" for number in (7, 3, 5)))
    for suffix in ("parquet", "txt"):
        Path("birds.yaml").write_text(
            f"train: train.{suffix}\ntest: test.{suffix}\nimage_size: 32\nknown: [5, 7]\nunknown: [3]\nimages: files\n"
        )
        data = build(trial(), tmp_path)
        images = data.train.source.images[data.train.rows]
        assert [int(images[data.train.labels == label].max()) for label in (0, 1)] == [50, 70]
        assert len(data.test["unknown"]) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("image_size: 32", "image_size: 32px"), r"birds.yaml:3: image_size: '32px' is not a whole number"),
        (("image_size: 32", "image_size: 4"), r"birds.yaml:3: image_size: 4 is not in 8..1024 px"),
        (("unknown: [crow]", "unknown: [crow, robin]"), "unknown: robin is named twice"),
        (("known: [sparrow, robin]", "known: [sparrow]"), "known: a classifier needs at least 2 known classes"),
        (("unknown: [crow]\n", ""), "`unknown` is missing"),
        (("[crow]", "[1.5]"), r"birds.yaml:5: unknown.0: 1.5 is no text: put the name in quotes"),
        (("[crow]", "[no]"), r"birds.yaml:5: unknown.0: False is no text: put the name in quotes"),
        (("[sparrow, robin]", "[007, robin]"), r"birds.yaml:4: 007 would be read as 7: .* or quote it"),
        (("image_size", "image_sise"), r"unknown key \(did you mean 'image_size'\?\)"),
        (("train: birds/train", "train: {file: a.parquet}"), r"train: is not \{file: FILE.parquet, where: "),
    ],
)
def test_mistakes_in_the_file_are_told_by_line(changes: tuple[str, str], said: str) -> None:
    Path("birds.yaml").write_text(BIRDS.replace(*changes))
    with pytest.raises(ConfigError, match=said):
        trial()


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match=r"there is no file birds\.yaml: a protocol of one's own is named by its"):
        trial()


def test_a_class_that_has_no_folder_is_said_before_training(tmp_path: Path) -> None:
    birds(tmp_path)
    Path("birds.yaml").write_text(BIRDS.replace("crow", "raven"))
    with pytest.raises(DataError, match="has no folder of class raven; it has crow, robin, sparrow"):
        build(trial(), tmp_path)


def test_training_needs_folders_of_known_classes_alone(tmp_path: Path) -> None:
    birds(tmp_path)
    for image in (tmp_path / "birds" / "train" / "crow").iterdir():
        image.unlink()
    (tmp_path / "birds" / "train" / "crow").rmdir()
    Path("birds.yaml").write_text(BIRDS)
    data = build(trial(), tmp_path)
    assert (len(data.train), len(data.test["unknown"])) == (6, 3)


def test_other_unknown_classes_or_another_size_make_another_trial(tmp_path: Path) -> None:
    birds(tmp_path)
    identities = set()
    for text in (BIRDS, BIRDS.replace("[crow]", "[finch]"), BIRDS.replace("32", "48")):
        Path("birds.yaml").write_text(text)
        config = trial()
        identities.add(identity_of(config, dict.fromkeys(config.training_images, "0")))
    assert len(identities) == 3


def test_masks_that_are_not_there_are_said(tmp_path: Path) -> None:
    birds(tmp_path)
    Path("birds.yaml").write_text(BIRDS + "masks: true\n")
    with pytest.raises(DataError, match=r"birds/train has no masks, and birds.yaml needs them"):
        build(trial(), tmp_path)


def test_a_parquet_file_of_hugging_face_names_its_classes_and_may_lie_here(tmp_path: Path) -> None:
    features = '{"info": {"features": {"label": {"names": ["crow", "robin", "sparrow"], "_type": "ClassLabel"}}}}'
    images = [{"bytes": trees.encoded(10 * label), "path": None} for label in (0, 1, 2)]
    table = pa.table({"image": images, "label": [0, 1, 2]}).replace_schema_metadata({"huggingface": features})
    pq.write_table(table, "birds.parquet")
    others = [{"bytes": trees.encoded(10 * label + 1), "path": None} for label in (0, 1, 2)]
    pq.write_table(table.set_column(0, "image", pa.array(others)), "others.parquet")
    Path("birds.yaml").write_text(BIRDS.replace("birds/train", "birds.parquet").replace("birds/test", "others.parquet"))
    data = build(trial(), Path())
    assert data.train.source.labels.tolist() == [2, 1, 0]
    pq.write_table(table.set_column(1, "label", pa.array([0, 1, -1])), "birds.parquet")
    with pytest.raises(DataError, match="does not name the classes of all its labels"):
        build(trial(), Path())


@pytest.mark.slow
def test_a_sweep_trains_on_it(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    folder = project(
        tmp_path / "project",
        "name: toy\nbase: {protocol: birds.yaml, split_family: own, backbone: wrn10-1, epochs: 1, batch_size: 8}\n"
        "splits: [0]\nseeds: [0]\ncolumns: {AUROC: test/auroc}\nrows: [{name: Plain, set: {method: plain}}]\n",
    )
    birds(folder / "data", each=8)
    (folder / "birds.yaml").write_text(BIRDS)
    process = sweep(folder, "--data-root", "data")
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert "birds.yaml, family own: 16 training images of 2 classes, known 16, unknown 8" in said


def test_workers_elsewhere_get_the_file_at_the_same_place(tmp_path: Path) -> None:
    from platform.running.shipping import copy_code

    Path("mine").mkdir()
    Path("mine/birds.yaml").write_text(BIRDS)
    (tmp_path / "shipped").mkdir()
    copy_code(tmp_path / "shipped", [], ["mine/birds.yaml", "digits", str(tmp_path / "mine" / "birds.yaml")])
    assert (tmp_path / "shipped" / "mine" / "birds.yaml").read_text() == BIRDS
    assert sorted(p.name for p in (tmp_path / "shipped").iterdir()) == ["mine", "trainables"]
