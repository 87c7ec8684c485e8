"""The parts of a trial are different images, whatever their sets are called and wherever their files lie."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from platform.planning.plan import ImageSets
from tests.helpers import trees
from tests.helpers.paths import SHARED
from trainables.data.leaks import Subset, check_disjoint
from trainables.data.trial_data import TrialData, build
from trainables.images.listing import DataError
from trainables.protocols.origins import same_collection
from trainables.protocols.protocols import PROTOCOLS, evaluation_sets, part_of_set
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve

OWN = "image_size: 32\nknown: [0, 1, 2, 3, 4, 5]\nunknown: [6, 7, 8, 9]\nflip: false\n"
SEARCHED = {"holdout": 0.1, "pseudo_unknown": 2, "test": False}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(tmp_path)
    if "shared_cache" not in request.keywords:
        monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


def trial(**settings: Any) -> TrialConfig:
    return resolve({"method": "plain", **settings})


def own(trained: slice, tested: slice, **settings: Any) -> TrialConfig:
    """A protocol of one's own over rows of the digits, a file a part."""
    digits = load_digits()
    for name, rows in (("train", trained), ("test", tested)):
        images = []
        for pixels in digits.images[rows]:
            buffer = io.BytesIO()
            Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(buffer, "PNG")
            images.append(buffer.getvalue())
        pq.write_table(pa.table({"image": images, "label": digits.target[rows]}), f"{name}.parquet")
    Path("own.yaml").write_text(f"train: train.parquet\ntest: test.parquet\n{OWN}")
    return trial(protocol="own.yaml", split_family="own", **settings)


def digits_as_outliers(**settings: Any) -> TrialData:
    return build(own(slice(0, 400), slice(1000, None), method="oe", outlier_set="digits", **settings), Path())


@pytest.mark.parametrize("settings", [{}, SEARCHED])
def test_a_set_that_is_made_of_the_same_images_is_no_outlier(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"outlier_set: digits shows images of scikit-learn's digits, as cut-digits"):
        trial(method="oe", protocol="cut-digits", outlier_set="digits", **settings)


@pytest.mark.parametrize(
    ("tested", "outliers"),
    [("imagenet-resize", "tiny-imagenet"), ("lsun-crop", "lsun-fix"), ("lsun-resize", "lsun-fix")],
)
def test_other_cuts_of_what_is_tested_are_no_outliers(tested: str, outliers: str) -> None:
    with pytest.raises(ConfigError, match=f"outlier_set: {outliers} shows images of .*, as {tested} does, which"):
        trial(method="oe", protocol="cifar10", split_family="full", evaluate=[tested], outlier_set=outliers)


def test_outliers_are_compared_with_what_is_trained_on_by_their_pixels() -> None:
    with pytest.raises(DataError, match=r"244 of 1,000 outliers are training images too \(train\.parquet and scikit-"):
        digits_as_outliers()


def test_pseudo_unknown_images_among_the_outliers_are_found_by_their_pixels() -> None:
    """What a search is judged by was trained on as unknown: the same digits, by another name and of another file."""
    hidden = build(own(slice(0, 400), slice(1000, None), **SEARCHED), Path()).validation["pseudo-unknown"]
    digits = build(trial(protocol="digits"), Path()).train.source
    outliers = Subset(digits, np.arange(len(digits.labels)))
    with pytest.raises(DataError, match=f"{len(hidden)} of {len(hidden)} pseudo-unknown images are outliers too"):
        check_disjoint({"outliers": outliers}, {"pseudo-unknown images": Subset(hidden.source, hidden.rows)})


@pytest.mark.parametrize(("first", "second", "said"), [(5, 1000, "5 of 1,000 second"), (1000, 5, "5 of 5 second")])
def test_a_small_part_that_lies_in_a_large_one_is_found_whichever_comes_first(
    first: int, second: int, said: str
) -> None:
    source = build(trial(protocol="digits"), Path()).train.source
    parts = {name: Subset(source, np.arange(count)) for name, count in (("first", first), ("second", second))}
    with pytest.raises(DataError, match=f"{said} are first too"):
        check_disjoint(parts, {})


def test_tested_images_among_the_outliers_are_found_by_their_pixels() -> None:
    config = own(slice(1000, None), slice(0, 1000), method="oe", outlier_set="digits")
    with pytest.raises(DataError, match=r"are outliers too .*: choose another outlier_set"):
        build(config, Path())


def test_a_protocol_of_ones_own_that_tests_on_its_training_file_is_refused_by_line() -> None:
    Path("own.yaml").write_text(f"train: some.parquet\ntest: some.parquet\n{OWN}")
    with pytest.raises(ConfigError, match=r"own\.yaml:2: test: is what `train` is: train and test on different images"):
        trial(protocol="own.yaml", split_family="own")


def test_a_copy_of_the_training_file_under_another_name_is_refused() -> None:
    with pytest.raises(DataError, match=r"test images are training images too .*: train and test on different images"):
        build(own(slice(0, 400), slice(0, 400)), Path())


def test_a_leak_that_another_split_has_shows_in_planning() -> None:
    """A class is trained and tested on the same images; in the first split it is unknown, in another one known."""
    config = trial(protocol="cifar10", split_family="agc")
    other = config.at(2, 0)
    leaking = next(c for c in other.known_classes if c not in config.known_classes)
    labels = [c for c in range(10) for _ in range(2)]
    Path("cifar10").mkdir()
    for more, part in enumerate(("train", "test")):
        greys = [20 * c + 2 * (i % 2) + (more if c != leaking else 0) for i, c in enumerate(labels)]
        pq.write_table(pa.table({"image": list(map(trees.encoded, greys)), "label": labels}), f"cifar10/{part}.parquet")
    images = ImageSets(Path())
    assert len(images.of(config).train) == 12
    with pytest.raises(DataError, match="2 of 12 known test images are training images too"):
        images.of(other)


def test_a_few_images_that_are_shared_are_told_and_not_refused() -> None:
    data = build(own(slice(0, 1002), slice(1000, None)), Path())
    assert data.duplicates == ("2 of 797 images of test.parquet are in train.parquet too",)


def test_every_protocol_tests_on_images_of_other_collections_than_it_trains_on() -> None:
    for name, protocol in PROTOCOLS.items():
        for family in protocol.families:
            sets = {part_of_set(name, s).images for s in evaluation_sets(name, family)} - {protocol.image_set}
            assert not [s for s in sets if same_collection(s, protocol.image_set)], name


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="the real CIFAR-10 is not on this machine")
@pytest.mark.shared_cache
def test_duplicates_of_cifar10_are_counted_and_not_refused() -> None:
    data = build(trial(protocol="cifar10", split_family="full", evaluate=["cifar100"]), SHARED)
    assert len(data.train) == 49_067
    # A cache names the folder by the way in which its images were first read, which may be another link to it.
    said = [re.sub(r"\S+/(cifar\d+/)", r"\1", text) for text in data.duplicates]
    assert said == [
        f"1 of 10,000 images of cifar100/test.parquet are in cifar10/{part}.parquet too" for part in ("train", "test")
    ]
