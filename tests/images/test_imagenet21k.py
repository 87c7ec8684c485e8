"""The lists of ImageNet-21k's unknown classes that come with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import trees
from tests.helpers.paths import SHARED
from trainables.data.sets import load_set
from trainables.images.imagenet21k import ImageNet21k, class_lists
from trainables.images.listing import DataError

LISTS = SHARED.parent / "splits" / "imagenet21k.json"


def test_the_levels_have_the_published_classes_and_fifty_images_of_each() -> None:
    easy, hard = class_lists()["easy"], class_lists()["hard"]
    assert (len(easy), len(hard)) == (1000, 980)
    assert not easy.keys() & hard.keys()
    assert {len(set(numbers)) for level in (easy, hard) for numbers in level.values()} == {50}
    fall11 = class_lists()["hard_of_fall11_alone"]
    assert len(fall11) == 20
    assert not hard.keys() & set(fall11)


@pytest.mark.skipif(not LISTS.is_file(), reason="the published lists are not on this machine")
def test_the_lists_are_those_that_were_published() -> None:
    published = json.loads(LISTS.read_text())
    for level in ("easy", "hard"):
        assert list(class_lists()[level]) == published["release"]["winter21"][level]
        assert class_lists()[level] == {c: sorted(published["images"][c]) for c in class_lists()[level]}
    fall11 = {*class_lists()["hard"], *class_lists()["hard_of_fall11_alone"]}
    assert fall11 == set(published["release"]["fall11"]["hard"])


def test_a_level_is_the_listed_images_of_the_release_and_no_others(tmp_path: Path) -> None:
    images = ImageNet21k("hard").read(tmp_path, "all").images
    assert len(images) == 49_000
    assert images[0] == tmp_path / "imagenet21k" / "n01848648" / "n01848648_1003.JPEG"


def test_listed_images_that_are_not_there_are_told(tmp_path: Path) -> None:
    trees.save(tmp_path / "imagenet21k" / "n01848648" / "n01848648_1003.JPEG")
    with pytest.raises(DataError, match=r"n01848648_\d+.JPEG"):
        load_set("imagenet21k-hard", "test", 32, tmp_path)
