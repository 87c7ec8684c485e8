"""Every protocol has the classes, images and unknown sets that the literature means by its name."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import trees
from tests.helpers.paths import ROOT, SHARED
from trainables.data.augment import GREY
from trainables.data.sources import SOURCES
from trainables.data.trial_data import TrialData, build
from trainables.images.encoded import Encoded
from trainables.images.listing import DataError
from trainables.protocols.protocols import (
    PROTOCOLS,
    evaluation_sets,
    known_classes,
    num_splits,
    part_of_set,
    partition,
    protocol_of,
    stored_size,
    unknown_classes,
)
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve

needs_images = pytest.mark.skipif(not SHARED.is_dir(), reason="the real images are not on this machine")
CPU = torch.device("cpu")


def trial(**settings: Any) -> TrialConfig:
    return resolve({"method": "plain", "backbone": "resnet18", **settings})


def counts(data: TrialData) -> dict[str, int]:
    return {"train": len(data.train), **{name: len(samples) for name, samples in data.test.items()}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "shared_cache" not in request.keywords:
        monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("protocol", "family", "known", "unknown"),
    [
        ("mnist", "agc", 6, 4),
        ("svhn", "osrci", 6, 4),
        ("cifar10", "agc", 6, 4),
        ("tiny-imagenet", "agc", 20, 180),
        ("imagenet30", "backmix", 10, 20),
        ("strong-correlation", "backmix", 5, 5),
        ("cub", "ssb", 100, 100),
        ("stanford-cars", "ssb", 98, 98),
        ("aircraft", "ssb", 50, 50),
        ("coco", "backmix", 12, 6),
    ],
)
def test_every_split_knows_as_many_classes_as_published(protocol: str, family: str, known: int, unknown: int) -> None:
    for split in range(num_splits(protocol, family)):
        assert len(known_classes(protocol, family, split)) == known
    assert PROTOCOLS[protocol].num_classes == known + unknown


@pytest.mark.parametrize(
    ("protocol", "easy", "medium", "hard"),
    [("cub", 32, 34, 34), ("stanford-cars", 76, 15, 7), ("aircraft", 20, 17, 13)],
)
def test_the_semantic_shift_benchmark_has_three_unknown_sets(protocol: str, easy: int, medium: int, hard: int) -> None:
    sets = evaluation_sets(protocol, "ssb")
    assert sets == tuple(f"{protocol}-{level}" for level in ("easy", "medium", "hard", "medium-hard"))
    *listed, both = [unknown_classes(protocol, "ssb", 0, name) or () for name in sets]
    assert [len(classes) for classes in listed] == [easy, medium, hard]
    assert both == (*listed[1], *listed[2])  # what tables call Hard
    together = {*known_classes(protocol, "ssb", 0), *(c for classes in listed for c in classes)}
    assert together == set(range(PROTOCOLS[protocol].num_classes))


@pytest.mark.skipif(not (SHARED.parent / "splits" / "ssb.json").is_file(), reason="the published lists are not here")
def test_the_lists_of_the_semantic_shift_benchmark_are_the_published_ones() -> None:
    published = json.loads((SHARED.parent / "splits" / "ssb.json").read_text())["datasets"]
    for theirs, ours in (("cub", "cub"), ("scars", "stanford-cars"), ("aircraft", "aircraft")):
        assert list(known_classes(ours, "ssb", 0)) == published[theirs]["known_classes"]
        for level, classes in published[theirs]["unknown_classes"].items():
            assert list(unknown_classes(ours, "ssb", 0, f"{ours}-{level.lower()}") or ()) == classes


@pytest.mark.parametrize(
    ("protocol", "family", "distinct"), [("cifar10", "agc", 4), ("svhn", "agc", 4), ("mnist", "agc", 5)]
)
def test_repeated_partitions_are_seen(protocol: str, family: str, distinct: int) -> None:
    assert len({partition(protocol, family, split) for split in range(5)}) == distinct


def test_every_unknown_set_of_every_protocol_is_a_set() -> None:
    for name, protocol in PROTOCOLS.items():
        for family in protocol.families:
            for unknown in evaluation_sets(name, family):
                assert part_of_set(name, unknown).images in SOURCES


def test_large_images_are_stored_larger_than_they_are_seen() -> None:
    assert [stored_size(px) for px in (32, 64, 224, 448)] == [32, 64, 256, 512]


def test_a_protocol_that_does_not_exist_is_said_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'cifar-10' is not a protocol \(did you mean 'cifar10'\?\)"):
        trial(protocol="cifar-10")


# On real images, as far as they are here


@needs_images
@pytest.mark.shared_cache
def test_mnist_with_letters_and_clothes_as_unknown(tmp_path: Path) -> None:
    raw = SHARED / "mnist" / "MNIST" / "raw"
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for file in raw.iterdir():
        unpack = gzip.decompress if file.suffix == ".gz" else lzma.decompress
        (tmp_path / "MNIST" / "raw" / file.stem).write_bytes(unpack(file.read_bytes()))
    for name in ("emnist_letters", "fashionmnist_subset"):
        (tmp_path / name).symlink_to(SHARED / name)
    sets = ["mnist", "emnist-letters", "fashion-mnist"]
    data = build(trial(protocol="mnist", split_family="agc", evaluate=sets), tmp_path)
    assert data.classes == (2, 4, 5, 9, 8, 3)
    assert counts(data) == {"train": 35152, "known": 5899, "mnist": 4101, "emnist-letters": 1560, "fashion-mnist": 1500}
    assert not data.flip


@needs_images
@pytest.mark.shared_cache
def test_cifar10_beside_other_sets() -> None:
    sets = ["cifar100", "tiny-imagenet", "textures", "imagenet-samples"]
    data = build(trial(protocol="cifar10", split_family="full", evaluate=sets), SHARED)
    unknown = {"cifar100": 10_000, "tiny-imagenet": 10_000, "textures": 1_200, "imagenet-samples": 1_000}
    assert counts(data) == {"train": 49_067, "known": 9_812, **unknown}


@needs_images
@pytest.mark.shared_cache
def test_tiny_imagenet_of_split_0_is_whole_and_other_splits_are_refused_before_training() -> None:
    from platform.planning.plan import ImageSets

    images = ImageSets(SHARED)
    config = trial(protocol="tiny-imagenet", split_family="agc")
    assert counts(images.of(config)) == {"train": 10_000, "known": 1_000, "tiny-imagenet": 9_000}
    with pytest.raises(
        DataError, match=r"train20.parquet has no image of \d+ classes known in split 1 of tiny-imagenet"
    ):
        images.of(config.at(1, 0))


def test_all_sets_that_are_missing_are_told_at_once(tmp_path: Path) -> None:
    from platform.files.search_file import load
    from platform.planning.plan import ImageSets, Sweep, make_plan

    spec = load(ROOT / "search_spaces" / "protocols" / "large.yaml").profile("paper")
    with pytest.raises(DataError) as error:
        make_plan([Sweep(tmp_path, spec, "paper", ())], ImageSets(tmp_path), lambda path, profile: {})
    lines = str(error.value).splitlines()
    named = [line.split(" is not")[0].removesuffix(" (train and test)") for line in lines]
    assert named == ["imagenet30", "cub", "stanford-cars", "aircraft"]
    assert all("Looked for" in line for line in lines)


@needs_images
@pytest.mark.shared_cache
def test_statistics_are_those_of_the_known_classes_training_images() -> None:
    config = trial(protocol="cifar10", split_family="osrci", split=1, normalisation="training")
    data = build(config, SHARED)
    pixels = data.train.source.images[data.train.rows].reshape(-1, 3)
    assert data.train.statistics.mean == pytest.approx(pixels.mean(axis=0) / 255)
    squares = [np.bincount(pixels[:, c], minlength=256) @ np.arange(256) ** 2 / len(pixels) for c in range(3)]
    std = np.sqrt(np.array(squares) - pixels.mean(axis=0) ** 2) / 255
    assert data.train.statistics.std == pytest.approx(std)
    assert data.test["known"].statistics == data.train.statistics


def test_images_of_the_training_set_have_mean_0_and_spread_1_for_the_network() -> None:
    train = build(trial(protocol="digits", normalisation="training"), Path()).train
    seen = train.on(CPU).seen(torch.arange(len(train)))
    assert seen.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-4)
    assert seen.std(dim=(0, 2, 3)).tolist() == pytest.approx([1] * 3, abs=1e-4)


def test_the_papers_constants_are_named_options() -> None:
    assert build(trial(protocol="digits"), Path()).train.statistics.mean == (0.5, 0.5, 0.5)
    cifar = build(trial(protocol="digits", normalisation="cifar10"), Path()).train.statistics
    assert cifar.mean == (0.4914, 0.4822, 0.4465)
    assert cifar.std == (0.2023, 0.1994, 0.2010)


def test_statistics_and_image_size_make_another_trial() -> None:
    base = trial(protocol="digits")
    prints = {"digits": "0", "digits@64px": "0"}
    others = [{"normalisation": "training"}, {"image_size": 64}]
    assert len({identity_of(base, prints), *(identity_of(trial(protocol="digits", **o), prints) for o in others)}) == 3


def test_the_protocols_own_image_size_is_the_same_trial_said_or_not() -> None:
    assert trial(protocol="digits", image_size=32) == trial(protocol="digits")


def test_one_set_at_two_sizes_has_two_fingerprints_in_a_plan() -> None:
    from platform.planning.plan import ImageSets, Plan

    plan = Plan([], ImageSets(Path()))
    small, large = trial(protocol="digits", image_size=16), trial(protocol="digits")
    alone = [plan.identity(config) for config in (small, large)]
    assert [plan.identity(config) for config in (small, large)] == alone
    assert set(plan.images.fingerprints) == {"digits", "digits@16px"} == set(plan.images.trained_on)
    assert identity_of(small, build(small, Path()).fingerprints) == alone[0]


def test_outliers_are_not_of_the_set_that_the_trial_is_tested_on() -> None:
    with pytest.raises(ConfigError, match="cifar100 is what the trial is tested on"):
        trial(method="oe", protocol="cifar-plus", split_family="osrci", outlier_set="cifar100")


def test_statistics_are_of_the_images_that_train_alone() -> None:
    few = build(trial(protocol="digits", normalisation="training", images_per_class=4, holdout=0.25), Path()).train
    assert len(few) == 18
    pixels = few.source.images[few.rows].reshape(-1, 3)
    assert few.statistics.mean == pytest.approx(pixels.mean(axis=0) / 255)


def test_images_may_be_made_smaller_for_a_reduced_run() -> None:
    data = build(trial(protocol="digits", image_size=16), Path())
    assert data.image_size == 16
    assert data.train.on(CPU)[torch.arange(2)].shape == (2, 16, 16, 3)


# Views of images with masks

CROPS = """\
train: {file: coco_crops/crops.parquet, where: {coco_split: train}}
test: {file: coco_crops/crops.parquet, where: {coco_split: val}}
image_size: 64
masks: true
known: [person, bowl, chair, cup, dining table]
unknown: [broccoli, wine glass, banana, knife, pizza, elephant, truck]
"""


@needs_images
@pytest.mark.shared_cache
@pytest.mark.parametrize("view", ["raw", "fg", "fg-raw", "fg-bg"])
def test_real_coco_objects_before_other_backgrounds(tmp_path: Path, view: str) -> None:
    (tmp_path / "crops.yaml").write_text(CROPS)
    sets = ["unknown", "unknown-fg-bg", "unknown-fg"]
    data = build(
        trial(protocol=str(tmp_path / "crops.yaml"), split_family="own", training_view=view, evaluate=sets),
        SHARED,
    )
    unknown = {"unknown": 56, "unknown-fg-bg": 56, "unknown-fg": 56}
    known = {"known": 61, "known-unknown-fg-bg": 61, "known-unknown-fg": 61}
    assert counts(data) == {"train": 71, **known, **unknown}
    stored = torch.from_numpy(data.train.source.images[data.train.rows].copy())
    shown = data.train.for_training(CPU, torch.Generator().manual_seed(0))[torch.arange(71)]
    object_ = stored[..., 3] > 127
    assert torch.equal(shown[object_], stored[..., :3][object_])
    elsewhere, mine = shown[~object_], stored[..., :3][~object_]
    same = (elsewhere == mine).all(dim=-1).float().mean()
    grey = (elsewhere == GREY).all(dim=-1).float().mean()
    assert (same > 0.99) == (view == "raw")
    assert (grey == 1) == (view == "fg")
    assert (0.05 < grey < 0.9) == (view == "fg-bg")


def test_backgrounds_of_test_images_are_the_same_each_time_and_of_training_images_are_not() -> None:
    settings = {"protocol": "cut-digits", "training_view": "fg-raw", "evaluate": ["cut-digits-fg-bg"]}
    data = build(trial(**settings), Path())
    test, ids = data.test["known-cut-digits-fg-bg"].on(CPU), torch.arange(40)
    assert torch.equal(test[ids], test[ids])
    train = data.train.for_training(CPU, torch.Generator().manual_seed(0))
    assert not torch.equal(train[ids], train[ids])
    assert torch.equal(data.train.on(CPU)[ids], data.train.on(CPU)[ids])


def test_views_need_masks() -> None:
    with pytest.raises(ConfigError, match="fg needs masks of the objects: digits has none"):
        trial(protocol="digits", training_view="fg")


def test_a_trial_on_other_backgrounds_is_judged_beside_known_images_on_them(tmp_path: Path) -> None:
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    from trainables.one_trial import run_trial

    sets = ["cut-digits", "cut-digits-fg-bg", "cut-digits-fg"]
    settings = {"protocol": "cut-digits", "backbone": "wrn10-1", "epochs": 2, "batch_size": 64, "evaluate": sets}
    config = resolve({"method": "plain", **settings})
    (*_, last) = run_trial(config, build(config, Path()), CPU, tmp_path)
    scores = pd.read_parquet(tmp_path / "scores.parquet").query("part == 'test'")
    for name, beside in [("cut-digits", "known"), *((s, f"known-{s}") for s in sets[1:])]:
        known, unknown = scores[scores["set"] == beside], scores[scores["set"] == name]
        truth = [1] * len(known) + [0] * len(unknown)
        auroc = roc_auc_score(truth, [*known["msp"], *unknown["msp"]])
        assert last.metrics[f"test/{name}/msp/auroc"] == pytest.approx(auroc)
        accuracy = (known["prediction"] == known["label"]).mean()
        assert last.metrics.get(f"test/{name}/accuracy", last.metrics["test/accuracy"]) == pytest.approx(accuracy)
    assert "test/cut-digits/accuracy" not in last.metrics


# Protocols whose real images are not here: a tree in their layout


@pytest.mark.parametrize(
    ("protocol", "make"), [("cub", trees.cub), ("aircraft", trees.aircraft), ("stanford-cars", trees.stanford_cars)]
)
def test_the_semantic_shift_benchmark_is_streamed_at_448_px(tmp_path: Path, protocol: str, make: Any) -> None:
    make(tmp_path)
    sets = evaluation_sets(protocol, "ssb")
    config = trial(protocol=protocol, split_family="ssb", evaluate=list(sets))
    data = build(config, tmp_path)
    assert isinstance(data.train.source.images, Encoded)
    unknown = {name: len(unknown_classes(protocol, "ssb", 0, name) or ()) for name in sets}
    known = len(config.known_classes)
    assert counts(data) == {"train": known, "known": known, **unknown}
    assert data.test["known"].on(CPU).seen(torch.arange(1)).shape == (1, 3, 448, 448)


def test_imagenet30_knows_its_first_ten_classes(tmp_path: Path) -> None:
    trees.imagenet30(tmp_path)
    data = build(trial(protocol="imagenet30", split_family="backmix"), tmp_path)
    assert data.classes == tuple(range(10))
    assert counts(data) == {"train": 10, "known": 10, "imagenet30": 20}


def test_coco_is_one_training_and_four_ways_to_test(tmp_path: Path) -> None:
    from trainables.data.composed import COCO_CLASSES

    trees.coco(tmp_path, list(COCO_CLASSES))
    trees.save(tmp_path / "iNaturalist" / "images" / "a.jpg", 5)
    sets = ["coco", "coco-fg-bg", "coco-fg", "inaturalist"]
    one = trial(protocol="coco", split_family="backmix", evaluate=sets)
    data = build(one, tmp_path)
    assert [len(data.test[name]) for name in ("known", *sets)] == [12, 6, 6, 6, 1]
    assert {data.train.on(CPU)[torch.arange(3)].shape} == {(3, 256, 256, 3)}
    alone = trial(protocol="coco", split_family="backmix", evaluate=["coco"])
    assert identity_of(one, data.fingerprints) == identity_of(alone, data.fingerprints)


def test_waterbirds_has_spurious_and_other_unknown_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables.data import composed

    monkeypatch.setattr(composed, "SPURIOUS", 2)
    trees.cub(tmp_path, classes=20)
    trees.places(tmp_path, each=20)
    trees.svhn(tmp_path, monkeypatch)
    data = build(trial(protocol="waterbirds-0.9", split_family="full", evaluate=["landscapes", "svhn"]), tmp_path)
    assert counts(data) == {"train": 20, "known": 20, "landscapes": 8, "svhn": 10}


def test_medical_images(tmp_path: Path) -> None:
    for flag, classes, columns in (("octmnist", 4, 1), ("pneumoniamnist", 2, 1), ("chestmnist", 2, 14)):
        trees.medmnist(tmp_path, flag, classes, columns)
    for name, others in (
        ("octmnist", ["pneumoniamnist", "chestmnist"]),
        ("pneumoniamnist", ["chestmnist", "octmnist"]),
    ):
        data = build(trial(protocol=name, split_family="full", evaluate=others), tmp_path)
        assert counts(data) == {"train": 8, "known": 8, **dict.fromkeys(others, 8)}


def test_svhn_is_divided_by_its_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.svhn(tmp_path, monkeypatch)
    for family in ("osrci", "agc", "cssr"):
        data = build(trial(protocol="svhn", split_family=family), tmp_path)
        assert counts(data) == {"train": 6, "known": 6, "svhn": 4}


def test_the_large_scale_table_reads_lists_of_imagenet21k(tmp_path: Path) -> None:
    trees.tiny_imagenet(tmp_path)
    for name in ("easy", "hard"):
        trees.save(tmp_path / "imagenet21k" / "n1" / f"{name}.JPEG", 250)
        trees.lines(tmp_path / "imagenet21k" / f"{name}.txt", f"n1/{name}.JPEG")
    sets = ["imagenet21k-easy", "imagenet21k-hard"]
    data = build(trial(protocol="tiny-imagenet", split_family="full", evaluate=sets), tmp_path)
    assert counts(data) == {"train": 200, "known": 200, **dict.fromkeys(sets, 1)}


def test_every_known_set_of_cifar100_has_images_of_others_only(tmp_path: Path) -> None:
    assert "cifar100" not in evaluation_sets("cifar100", "full")
    assert evaluation_sets("cifar100", "full")[0] == "cifar10"
    assert protocol_of("cifar100").num_classes == 100
