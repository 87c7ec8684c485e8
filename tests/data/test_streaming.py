"""Large images: decoded ahead of need, the same pixels in whatever order they are asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.augment import HALF, View, cam_to_stored, centre, crop_and_flip, draw_view, middle_view
from trainables.data.pools import AHEAD, StreamedPool
from trainables.data.sets import load_set
from trainables.data.trial_data import build
from trainables.images.encoded import Encoded, decode
from trainables.one_trial import run_trial
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """ImageNet30 in miniature: three pictures a class, each of its own noise."""
    rng = np.random.default_rng(0)
    for number in range(30):
        for part in ("train", "test"):
            for i in range(3):
                pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                path = tmp_path / f"one_class_{part}" / f"class {number:02}" / f"{i}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC).save(path)
    return tmp_path


def trial(**settings: Any) -> TrialConfig:
    base = {"method": "plain", "protocol": "imagenet30", "split_family": "backmix", "backbone": "wrn10-1"}
    return resolve({**base, "batch_size": 4, "epochs": 1, **settings})


def stream(photos: Path) -> tuple[StreamedPool, list[np.ndarray]]:
    """A pool of all training images, and what each should be."""
    data = load_set("imagenet30", "train", 256, photos)
    assert isinstance(data.images, Encoded)
    rows = torch.arange(len(data.labels))
    pool = StreamedPool(data.images, rows, torch.from_numpy(data.labels.copy()), CPU, 224, HALF, threads=2)
    return pool, [decode(Path(item.as_py()), 256) for item in data.images.items]


def test_batches_that_were_announced_and_others_are_the_same_pixels(photos: Path) -> None:
    pool, exact = stream(photos)
    batches = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0)).split(16)
    pool.ahead(batches)
    for number, ids in enumerate(batches):
        assert np.array_equal(pool[ids], [exact[i] for i in ids])
        if number == 2:  # a learner that looks at some other image in between
            assert np.array_equal(pool[torch.tensor([3])], [exact[3]])


def test_a_batch_that_is_asked_for_twice_in_a_row_is_decoded_once(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, exact = stream(photos)
    decoded: list[int] = []
    real = Encoded.decode
    monkeypatch.setattr(Encoded, "decode", lambda self, row, out: (decoded.append(row), real(self, row, out)))
    ids = torch.tensor([3, 1])
    for _ in range(2):
        assert np.array_equal(pool[ids], [exact[i] for i in ids])
    assert sorted(decoded) == [1, 3]


def test_an_epoch_that_is_left_in_the_middle_is_forgotten(photos: Path) -> None:
    pool, exact = stream(photos)
    first, second = (torch.randperm(len(pool)).split(16) for _ in range(2))
    pool.ahead(first)
    assert np.array_equal(pool[first[0]], [exact[i] for i in first[0]])
    pool.ahead(second)
    assert np.array_equal(pool[second[0]], [exact[i] for i in second[0]])


def test_a_few_batches_are_decoded_before_they_are_asked_for(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, _ = stream(photos)
    decoded: list[int] = []
    enough = threading.Event()
    real = Encoded.decode

    def counted(source: Encoded, row: int, out: Any) -> None:
        real(source, row, out)
        decoded.append(row)
        if len(decoded) >= AHEAD * 8:
            enough.set()

    monkeypatch.setattr(Encoded, "decode", counted)
    pool.ahead(torch.arange(len(pool)).split(8))
    assert enough.wait(timeout=30)
    assert sorted(decoded) == list(range(AHEAD * 8))


def test_an_image_that_breaks_after_it_was_looked_at_ends_the_trial_with_its_name(photos: Path) -> None:
    pool, _ = stream(photos)
    (photos / "one_class_train" / "class 00" / "0.JPEG").write_bytes(b"gone")
    pool.ahead([torch.arange(4)])
    with pytest.raises(OSError, match=r"class 00/0\.JPEG"):
        pool[torch.arange(4)]


@pytest.mark.parametrize("method", [pytest.param("plain", marks=pytest.mark.slow), "backmix"])
def test_a_trial_of_large_images_runs_from_files_to_metrics(photos: Path, tmp_path: Path, method: str) -> None:
    config = trial(method=method, images_per_class=2)
    (*_, last) = run_trial(config, build(config, photos), CPU, tmp_path / "out")
    assert 0 <= last.metrics["test/imagenet30/msp/auroc"] <= 1
    assert (tmp_path / "out" / "scores.parquet").is_file()


def test_training_on_a_stream_equals_training_from_memory(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for large in (True, False):
        if not large:
            monkeypatch.setattr("trainables.data.kept.LARGE", 10_000)  # decoded, and kept under the same name
            monkeypatch.setenv("OSR_CACHE", str(photos / "other"))
        data = build(trial(test=False, images_per_class=2), photos)
        assert isinstance(data.train.source.images, Encoded) == large
        trainer = Trainer(trial(test=False, images_per_class=2), data, CPU)
        losses.append(trainer.epoch())
    assert losses[0] == losses[1]


def test_images_are_not_copied_where_they_are_files(photos: Path) -> None:
    data = load_set("imagenet30", "train", 256, photos)
    assert isinstance(data.images, Encoded)
    cached = next((photos / "cache").glob("imagenet30-train-*.arrow"))
    assert cached.stat().st_size < 200_000
    rows = np.flatnonzero(data.labels == 3)
    pixels = np.stack([decode(Path(data.images.items[i].as_py()), 256) for i in rows]).reshape(-1, 3)
    assert data.statistics(rows).mean == pytest.approx(pixels.mean(axis=0) / 255)
    assert data.statistics(rows).std == pytest.approx(pixels.std(axis=0) / 255)


def test_small_images_are_not_enlarged_in_memory() -> None:
    data = load_set("cut-digits", "test", 256, Path())
    small = load_set("cut-digits", "test", 32, Path())
    assert isinstance(data.images, Encoded)
    assert data.images.channels == 4
    out = np.empty((256, 256, 4), dtype=np.uint8)
    data.images.decode(5, out)
    assert isinstance(small.images, np.ndarray)
    assert abs(out[::8, ::8, :3].astype(int) - small.images[5, ..., :3]).mean() < 12


MEMORY = """
import sys, resource
from pathlib import Path
from trainables.data.sets import load_set
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = load_set("imagenet30", "train", 256, Path(sys.argv[1]))
print(len(data.labels) * 256 * 256 * 3 // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_set_of_large_images_is_opened_without_its_pixels(photos: Path) -> None:
    load_set("imagenet30", "train", 256, photos)
    done = subprocess.run([sys.executable, "-c", MEMORY, str(photos)], capture_output=True, text=True, check=True)
    pixels_kb, own_kb = map(int, done.stdout.split())
    assert own_kb < pixels_kb / 2


# Views of images that are stored larger than they are seen


def test_a_crop_of_a_stored_image_is_the_one_that_its_view_says() -> None:
    images = torch.arange(2 * 10 * 10 * 3).remainder(251).to(torch.uint8).view(2, 10, 10, 3)
    view = View(torch.tensor([0, 3]), torch.tensor([2, 1]), torch.tensor([False, True]))
    seen = crop_and_flip(images, view, "black", 7)
    assert torch.equal(seen[0], images[0, 0:7, 2:9])
    assert torch.equal(seen[1], images[1, 3:10, 1:8].flip(1))
    middle = crop_and_flip(images, middle_view(2, 10 - 6, CPU), "black", 6)
    assert torch.equal(middle, centre(images, 6))


def test_crops_lie_anywhere_in_the_stored_image_and_its_padding() -> None:
    view = draw_view(4_000, 2, True, torch.Generator().manual_seed(0), spare=3)
    assert set(view.top_B.tolist()) == set(view.left_B.tolist()) == set(range(-2, 6))


def test_a_map_of_a_crop_comes_back_to_where_it_was_in_the_stored_image() -> None:
    """An 8 x 8 image of which 6 x 6 are seen, a position a pixel: the bank has as many over all of the image."""
    stored = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0))  # a smooth map over all of the image
    across = torch.nn.functional.interpolate(stored[None], size=(48, 48), mode="bilinear", align_corners=False)[0]
    view = View(torch.tensor([1]), torch.tensor([2]), torch.tensor([True]))
    pixel = 6  # of the map for each of the image
    seen = across[:, pixel : 7 * pixel, 2 * pixel : 8 * pixel].flip(2)
    cam = torch.nn.functional.avg_pool2d(seen, pixel)
    back, inside = cam_to_stored(cam, view, 6, 8)
    expected = across.view(1, 6, 8, 6, 8).mean(dim=(2, 4))  # a position of the bank is 8/6 pixels wide
    assert inside.sum() == 16  # of 36 positions; the crop leaves out the middles of the first and last lines, and more
    assert (back - expected)[inside].abs().max() < 0.12
    assert (back - expected)[inside].abs().mean() < 0.04
