"""The lists of known and unknown classes are those that were published."""

import hashlib
import json
from typing import Any

import pytest

from tests.helpers.paths import ROOT
from trainables.protocols.protocols import (
    PROTOCOLS,
    evaluation_sets,
    known_classes,
    num_splits,
    unknown_classes,
)


@pytest.mark.parametrize("family", ["agc", "osrci", "cssr", "ssb", "backmix"])
def test_split_lists_are_the_published_ones(family: str) -> None:
    digest = hashlib.sha256((ROOT / "trainables/protocols/splits" / f"{family}.json").read_bytes()).hexdigest()
    assert digest == SPLIT_SHA256[family]


SPLIT_SHA256 = json.loads((ROOT / "tests" / "protocols" / "split_checksums.json").read_text())


@pytest.mark.parametrize(
    ("protocol", "family", "split", "classes"),
    [
        ("cifar10", "osrci", 0, (0, 1, 2, 4, 5, 9)),
        ("cifar10", "agc", 0, (0, 6, 4, 9, 1, 7)),
        ("cifar10", "cssr", 4, (0, 2, 3, 5, 6, 7)),
        ("cifar10", "full", 0, tuple(range(10))),
        ("digits", "agc", 1, (3, 2, 6, 9, 4, 0)),
        ("cifar-plus", "osrci", 3, (0, 1, 8, 9)),
        ("cifar-plus", "agc", 0, (4, 7, 9, 1)),
        ("svhn", "agc", 0, (5, 3, 7, 2, 8, 6)),
    ],
)
def test_known_classes_are_the_familys_list_in_its_order(protocol: str, family: str, split: int, classes: Any) -> None:
    assert known_classes(protocol, family, split) == classes


def test_tiny_imagenet_knows_20_of_its_classes() -> None:
    for family in ("osrci", "agc", "cssr"):
        assert [len(known_classes("tiny-imagenet", family, split)) for split in range(5)] == [20] * 5


def test_cifar_plus_is_unknown_by_the_familys_classes_of_cifar100() -> None:
    assert evaluation_sets("cifar-plus", "osrci") == ("cifar-plus-10", "cifar-plus-50")
    assert unknown_classes("cifar-plus", "osrci", 0, "cifar-plus-10") == (3, 15, 19, 21, 42, 46, 66, 72, 78, 98)
    for family in ("osrci", "agc"):
        for count in (10, 50):
            listed = [unknown_classes("cifar-plus", family, split, f"cifar-plus-{count}") or () for split in range(5)]
            assert [len(set(classes)) for classes in listed] == [count] * 5
    assert unknown_classes("cifar10", "full", 0, "cifar100") is None


def test_every_split_of_every_family_has_distinct_valid_classes() -> None:
    for name, protocol in PROTOCOLS.items():
        for family in protocol.families:
            for split in range(num_splits(name, family)):
                classes = known_classes(name, family, split)
                assert len(set(classes)) == len(classes)
                assert set(classes) <= set(range(protocol.num_classes))


def test_full_training_has_unknowns_from_other_sets_only() -> None:
    assert evaluation_sets("cifar10", "full")[:3] == ("cifar100", "svhn", "tiny-imagenet")
    assert evaluation_sets("cifar10", "osrci")[0] == "cifar10"
