"""Image sets, splits, and what a trial sees of them."""

import hashlib
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision

from tests.helpers import trees
from tests.helpers.cifar10 import png, write_cifar10
from tests.helpers.paths import SHARED
from trainables.data import kept
from trainables.data.sets import load_set
from trainables.data.trial_data import build
from trainables.images.listing import DataError
from trainables.protocols.protocols import (
    UNKNOWN,
    unknown_classes,
)
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve

needs_cifar = pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="the real CIFAR-10 is not on this machine")


def trial(**settings: Any) -> TrialConfig:
    return resolve({"method": "plain", "protocol": "digits", **settings})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "shared_cache" not in request.keywords:
        monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


@needs_cifar
@pytest.mark.shared_cache
def test_cifar_plus_10_and_50_are_one_training_on_other_unknown_images() -> None:
    ten, fifty = (trial(protocol="cifar-plus", split_family="osrci", evaluate=[f"cifar-plus-{n}"]) for n in (10, 50))
    tested = [build(config, SHARED).test for config in (ten, fifty)]
    assert len(tested[0]["cifar-plus-10"]) == 1_000
    assert len(tested[1]["cifar-plus-50"]) == 5_000
    assert set(tested[0]["cifar-plus-10"].source.labels[tested[0]["cifar-plus-10"].rows]) == set(
        unknown_classes("cifar-plus", "osrci", 0, "cifar-plus-10") or ()
    )
    prints = build(ten, SHARED).fingerprints
    assert identity_of(ten, prints) == identity_of(fifty, prints)


@needs_cifar
@pytest.mark.shared_cache
def test_splits_with_the_same_known_classes_keep_their_own_unknown_ones() -> None:
    config = trial(protocol="cifar-plus", split_family="osrci")
    one, other = (build(config.at(split, 0), SHARED).test["cifar-plus-10"] for split in (0, 1))
    assert set(one.source.labels[one.rows]) != set(other.source.labels[other.rows])


def test_digits_are_divided_into_known_and_unknown_with_labels_in_the_splits_order() -> None:
    config = trial(split=0)
    data = build(config, Path())
    assert data.classes == (2, 4, 5, 9, 8, 3)
    source = data.train.source.labels
    assert (np.array(data.classes)[data.train.labels] == source[data.train.rows]).all()
    assert set(data.test["known"].source.labels[data.test["known"].rows]) == set(data.classes)
    assert set(data.test["digits"].source.labels[data.test["digits"].rows]) == {0, 1, 6, 7}
    assert (data.test["digits"].labels == UNKNOWN).all()
    assert not data.flip


def test_a_search_trial_sees_training_images_only_and_each_in_one_role() -> None:
    data = build(trial(holdout=0.1, pseudo_unknown=2, test=False), Path())
    assert data.test == {}
    assert len(data.classes) == 4
    parts = [data.train, data.validation["known"], data.validation["pseudo-unknown"]]
    rows = np.concatenate([p.rows for p in parts])
    assert len(set(rows)) == len(rows)
    assert all(p.source is data.train.source for p in parts)
    assert not set(parts[2].source.labels[parts[2].rows]) & set(data.classes)
    assert len(parts[1]) == pytest.approx(0.1 * (len(parts[0]) + len(parts[1])), abs=3)


def test_images_per_class_cuts_every_class_before_the_holdout() -> None:
    data = build(trial(images_per_class=20, holdout=0.1, pseudo_unknown=2, test=False), Path())
    assert np.bincount(data.train.labels).tolist() == [18] * 4
    assert len(data.validation["known"]) == 8
    assert len(data.validation["pseudo-unknown"]) == 40


def test_a_set_is_decoded_once_and_mapped_afterwards(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    first = load_set("cifar10", "train", 32, tmp_path)
    calls: list[int] = []
    second = load_set("cifar10", "train", 32, tmp_path, progress=lambda *args: calls.append(1))
    assert not calls
    assert np.array_equal(first.images, second.images)
    assert not second.images.flags.writeable
    assert first.fingerprint == second.fingerprint
    assert [int(first.images[i, 0, 0, 0]) for i in (0, 1, 19)] == [0, 1, 181]


def test_what_was_tested_is_known_by_fingerprint_count_and_published_count(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    config = trial(protocol="cifar10", split_family="osrci", evaluate=["cifar10"])
    before = build(config, tmp_path).tested
    assert {name: content[1:] for name, content in before.items()} == {"known": (20, 10_000), "cifar10": (20, 10_000)}
    labels = [c for c in range(10) for _ in range(2)]
    table = pa.table({"image": [png(20 * c + 7) for c in labels], "label": labels})
    pq.write_table(table, tmp_path / "cifar10" / "test.parquet")
    after = build(config, tmp_path).tested
    assert before["known"].fingerprint != after["known"].fingerprint == after["cifar10"].fingerprint
    assert build(trial(), Path()).tested["digits"].published == 0  # the division is ours


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    before = load_set("cifar10", "train", 32, tmp_path)
    write_cifar10(tmp_path, image=[png(7)] * 20)
    after = load_set("cifar10", "train", 32, tmp_path)
    assert before.fingerprint != after.fingerprint


def test_an_image_that_arrives_deep_in_a_tree_is_seen(tmp_path: Path) -> None:
    trees.save(tmp_path / "Places" / "images" / "a" / "1.png", 1)
    before = load_set("places", "test", 32, tmp_path)
    trees.save(tmp_path / "Places" / "images" / "a" / "2.png", 2)
    assert (len(before.labels), len(load_set("places", "test", 32, tmp_path).labels)) == (1, 2)


def test_an_image_of_a_list_that_is_replaced_is_seen(tmp_path: Path) -> None:
    trees.lines(tmp_path / "imagenet21k" / "easy.txt", "n1/a.png")
    values = []
    for value in (3, 200):
        trees.save(tmp_path / "imagenet21k" / "n1" / "a.png", value)
        values += trees.greys(load_set("imagenet21k-easy", "test", 64, tmp_path))
    assert values == [3, 200]


def test_a_list_of_classes_that_is_changed_is_seen(tmp_path: Path) -> None:
    trees.tiny_imagenet(tmp_path)
    before = load_set("tiny-imagenet", "test", 64, tmp_path)
    wnids = tmp_path / "tiny-imagenet-200" / "wnids.txt"
    wnids.write_text(wnids.read_text().replace("n00000001\n", "") + "n99999999\n")
    with pytest.raises(DataError, match="n00000001"):
        load_set("tiny-imagenet", "test", 64, tmp_path)
    assert len(before.labels) == 200


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    trees.save(tmp_path / "Places" / "images" / "1.png", 1)
    (tmp_path / "Places" / "images" / "me.png").symlink_to("me.png")
    with pytest.raises(DataError, match=r"me\.png"):
        load_set("places", "test", 32, tmp_path)


def test_a_cache_folder_that_is_a_file_is_told_with_what_to_set(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match=r"images cannot be kept in .*cache: .*Set OSR_CACHE"):
        load_set("cifar10", "train", 32, tmp_path)


@pytest.mark.parametrize("place", [0, 300, 2_000, 40_000, -5])
def test_a_cache_with_flipped_bytes_is_made_again(tmp_path: Path, place: int) -> None:
    write_cifar10(tmp_path)
    before = load_set("cifar10", "train", 32, tmp_path)
    (cached,) = (tmp_path / "cache").glob("cifar10-train-*.arrow")
    content = bytearray(cached.read_bytes())
    for at in range(5):
        content[(place + at) % len(content)] ^= 0xFF
    cached.unlink()
    cached.write_bytes(content)
    after = load_set("cifar10", "train", 32, tmp_path)
    assert np.array_equal(before.images, after.images)
    assert before.fingerprint == after.fingerprint


@pytest.mark.parametrize("info", [None, "[]", "{}", '{"fingerprint": 1, "left_out": 0, "source": "", "channels": 3}'])
def test_a_cache_with_its_digest_and_other_content_is_made_again(tmp_path: Path, info: str | None) -> None:
    write_cifar10(tmp_path)
    load_set("cifar10", "train", 32, tmp_path)
    (cached,) = (tmp_path / "cache").glob("cifar10-train-*.arrow")
    table = pa.ipc.open_file(cached.read_bytes()).read_all()
    stem = cached.with_name(cached.name.split(".")[0])
    cached.unlink()
    kept._write(stem, table.replace_schema_metadata(info and {"info": info}))
    assert len(load_set("cifar10", "train", 32, tmp_path).labels) == 20


def test_images_of_one_colour_cannot_be_normalised_by_their_own_spread(tmp_path: Path) -> None:
    write_cifar10(tmp_path, ["train"], image=[png(7)] * 20)
    write_cifar10(tmp_path, ["test"])
    with pytest.raises(DataError, match="one value in all training images: set normalisation: half"):
        build(trial(protocol="cifar10", split_family="osrci", normalisation="training"), tmp_path)


def test_rows_that_are_not_exact_are_left_out_and_counted(tmp_path: Path) -> None:
    write_cifar10(tmp_path, exact=[i % 4 != 0 for i in range(20)])
    data = load_set("cifar10", "train", 32, tmp_path)
    assert (len(data.labels), data.left_out) == (15, 5)


def test_broken_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    write_cifar10(tmp_path, exact=[i > 3 for i in range(20)], image=[png(1)] * 19 + [b"broken"])
    with pytest.raises(DataError, match="1 images cannot be decoded: row 19"):
        load_set("cifar10", "train", 32, tmp_path)


def test_a_part_of_samples_has_images_of_its_own() -> None:
    train = build(trial(), Path()).train
    cpu = torch.device("cpu")
    assert len(train.on(cpu)) == len(train)
    few = replace(train, rows=train.rows[:10], labels=train.labels[:10])
    assert len(few.on(cpu)) == 10
    assert few.on(cpu) is few.on(cpu)


def test_a_holdout_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"a holdout of 0\.1 keeps none of the 4 images"):
        build(trial(images_per_class=4, holdout=0.1), Path())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": None}, "has no column label"),
        ({"label": list("abcdefghijklmnopqrst")}, "column label must hold whole numbers, not string"),
        ({"image": ["a"] * 20}, "column image must hold encoded bytes, not string"),
        ({"label": [10] + [0] * 19}, "labels must be in 0..9"),
        ({"image": [b"no image"] * 3 + [png(0)] * 17}, "3 images cannot be decoded: row 0, row 1, row 2"),
    ],
)
def test_broken_parquet_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_cifar10(tmp_path, **changes)
    with pytest.raises(DataError, match=said):
        load_set("cifar10", "train", 32, tmp_path)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    file = tmp_path / "cifar10" / "train.parquet"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match=r"train\.parquet cannot be read as Parquet"):
        load_set("cifar10", "train", 32, tmp_path)


def test_missing_images_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10/train\*\.parquet .*--download"):
        load_set("cifar10", "train", 32, tmp_path)
    with pytest.raises(DataError, match=r"--data-root"):
        load_set("textures", "test", 32, tmp_path)


def test_torchvisions_layout_is_read_by_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official batch files, in miniature; torchvision checks their MD5 before it reads them."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    sums = {}
    for name, label in [("train", 3), ("test", 5), ("meta", 0)]:
        pixels = np.zeros((4, 3, 32, 32), dtype=np.uint8)
        pixels[:, 0], pixels[:, 2] = 10, 30
        content = {"data": pixels.reshape(4, -1), "labels": [label] * 4, "label_names": list("abcdefghij")}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    reader = torchvision.datasets.CIFAR10
    monkeypatch.setattr(reader, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(reader, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(reader, "meta", {"filename": "meta", "key": "label_names", "md5": sums["meta"]})
    test = load_set("cifar10", "test", 32, tmp_path)
    assert test.labels.tolist() == [5] * 4
    assert test.images[0, 0, 0].tolist() == [10, 0, 30]
    (folder / "test").write_bytes(b"not the published file")
    with pytest.raises(DataError, match=r"torchvision.s CIFAR10 in .* cannot be read"):
        load_set("cifar10", "test", 40, tmp_path)


MEMORY = """
import sys
from pathlib import Path
from trainables.data.sets import load_set

def own_kb():
    return next(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Anonymous:"))

before = own_kb()
data = load_set("cifar10", "train", 32, Path(sys.argv[1]))
assert data.images.sum(dtype="int64") > 0
print(data.images.nbytes // 1024, own_kb() - before)
"""


@needs_cifar
@pytest.mark.shared_cache
def test_real_cifar10_is_read_and_its_inexact_images_counted() -> None:
    config = trial(protocol="cifar10", split_family="osrci", evaluate=["cifar10", "cifar100"])
    data = build(config, SHARED)
    assert len(data.train) == 29_988
    assert data.train.source.left_out == 0
    assert data.test["known"].source.left_out == 188
    assert len(data.test["known"]) + len(data.test["cifar10"]) == 9_812
    assert len(data.test["cifar100"]) == 10_000


@needs_cifar
@pytest.mark.shared_cache
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_opens_decoded_images_holds_none_of_its_own() -> None:
    load_set("cifar10", "train", 32, SHARED)
    done = subprocess.run([sys.executable, "-c", MEMORY, str(SHARED)], capture_output=True, text=True, check=True)
    images_kb, own_kb = map(int, done.stdout.split())
    assert images_kb > 140_000
    assert own_kb < images_kb / 2  # libraries: the pages of the images are the file's
