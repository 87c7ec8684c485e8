"""How fast images come: python -m benchmarks.loading [DATA]

Small images: seconds to open CIFAR-10 where this machine has decoded it before, every pixel read, in a process of its
own (with DATA, a data root that has it). Large images: images/s at 224 px, cropped, mirrored and normalised, of JPEG
files of 500 x 375 px made of scikit-learn's photographs, beside torchvision's ImageFolder in a DataLoader that does the
same to each image. Both take turns with the same number of workers (threads here, processes there), several rounds.
What a GPU would do to the batches is done by the main thread here, on one core: with torch's default of all cores it
fights the workers for them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from trainables.data.augment import HALF, crop_and_flip, draw_view, normalise
from trainables.data.kept import keep, open_kept
from trainables.data.pools import StreamedPool
from trainables.images.encoded import Encoded
from trainables.images.layouts import ClassFolders

IMAGES, BATCH, ROUNDS = 1_600, 64, 3
SEEN, STORED = 224, 256
AGAIN = """
import sys, time
from pathlib import Path
from trainables.data.sets import load_set
started = time.perf_counter()
data = load_set("cifar10", "train", 32, Path(sys.argv[1]))
opened = time.perf_counter() - started
data.images.max()
print(opened, time.perf_counter() - started, len(data.labels))
"""


def main() -> None:
    console = Console()
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        runs = [
            subprocess.run([sys.executable, "-c", AGAIN, sys.argv[1]], capture_output=True, text=True, check=True)
            for _ in range(4)
        ]
        opened, read, count = (
            median(map(float, values)) for values in zip(*(r.stdout.split() for r in runs[1:]), strict=True)
        )
        console.print(
            f"CIFAR-10, {count:,.0f} decoded images: opened in {opened:.3f} s, every pixel read in {read:.3f} s"
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _make(folder / "photos")
        os.environ["OSR_CACHE"] = str(folder)
        started = time.perf_counter()
        listing = ClassFolders({"train": "photos"}, 4).read(folder, "train")
        kept = keep(folder / "photos", listing, STORED, 0, "photos", None)
        console.print(f"{IMAGES:,} large images looked at for the first time: {time.perf_counter() - started:.1f} s")
        images = open_kept(kept, "photos", STORED).images
        assert isinstance(images, Encoded)
        speeds: dict[tuple[str, int], list[float]] = {}
        for _ in track(range(ROUNDS), "timing", console=console, transient=True):
            for workers in (1, 2, 4):
                for name, batches in (
                    ("ours", _ours(images, workers)),
                    ("torchvision", _theirs(folder / "photos", workers)),
                ):
                    speeds.setdefault((name, workers), []).append(_speed(batches))
        table = Table(title=f"images/s at {SEEN} px, {os.cpu_count()} cores, median of {ROUNDS}", title_justify="left")
        for column in ("workers", "here", "ImageFolder + DataLoader", "ratio"):
            table.add_column(column, justify="right")
        for workers in (1, 2, 4):
            ours, theirs = (median(speeds[name, workers]) for name in ("ours", "torchvision"))
            table.add_row(str(workers), f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}")
        console.print(table)


def _speed(batches: Iterator[torch.Tensor]) -> float:
    """Images/s after the first batch, which waits for workers to start."""
    next(batches)
    started, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
    return count / (time.perf_counter() - started)


def _ours(images: Encoded, workers: int) -> Iterator[torch.Tensor]:
    rows = torch.arange(len(images))
    pool = StreamedPool(images, rows, torch.zeros(len(images)), torch.device("cpu"), SEEN, HALF, workers)
    generator = torch.Generator().manual_seed(0)
    batches = torch.randperm(len(images), generator=generator).split(BATCH)
    pool.ahead(batches)
    for ids in batches:
        view = draw_view(len(ids), 0, True, generator, STORED - SEEN)
        yield normalise(crop_and_flip(pool[ids], view, "black", SEEN))


def _theirs(folder: Path, workers: int) -> Iterator[torch.Tensor]:
    transform = transforms.Compose(
        [
            transforms.Resize(STORED),
            transforms.RandomCrop(SEEN),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(HALF.mean, HALF.std),
        ]
    )
    for images, _ in DataLoader(ImageFolder(str(folder), transform), BATCH, shuffle=True, num_workers=workers):
        yield images


def _make(folder: Path) -> None:
    """Photographs of 500 x 375 px in four classes: real pixels, each cut elsewhere."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        photo = photos[number % 2]
        left, top = (int(rng.integers(0, side + 1)) for side in (photo.width - 500, photo.height - 375))
        path = folder / str(number % 4) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.crop((left, top, left + 500, top + 375)).save(path, quality=90)


if __name__ == "__main__":
    main()
