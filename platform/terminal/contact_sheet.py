"""A picture of a protocol: known images by class, and images of each unknown set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from trainables.data.augment import centre
from trainables.data.sources import source_of
from trainables.data.trial_data import Samples, TrialData, build
from trainables.images.listing import U8, Progress
from trainables.images.parquet import Parquet
from trainables.settings.resolving import resolve

COLUMNS, ROWS = 12, 12  # images of a line; known classes that are shown


def contact_sheet(
    protocol: str, family: str, split: int, sets: Sequence[str], data_root: Path, file: Path, progress: Progress
) -> None:
    """Write the picture of one split. Raises `ConfigError` and `DataError`."""
    settings = {"method": "plain", "protocol": protocol, "split_family": family, "split": split}
    config = resolve({**settings, "backbone": "resnet18", "evaluate": list(sets)})
    data = build(config, data_root, progress=progress)
    lines = [
        *_known(data, _names(data.train.source.name, data_root)),
        *((name, _some(samples)) for name, samples in data.test.items() if name != "known"),
    ]
    figure = Figure(figsize=(COLUMNS * 0.8 + 2, len(lines) * 0.85 + 0.6), layout="constrained")
    figure.suptitle(f"{protocol}, split family {family}, split {split}: known classes, then unknown sets", fontsize=10)
    for row, (name, images) in enumerate(lines):
        axis = figure.add_subplot(len(lines), 1, row + 1)
        axis.imshow(np.concatenate(list(images), axis=1))
        axis.set_axis_off()
        axis.set_title(name, fontsize=7, loc="left", pad=2)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def _names(image_set: str, data_root: Path) -> Sequence[str]:
    """Names of the classes by their ids, where the set or its files say them."""
    source = source_of(image_set)
    layout = source.layout("train", data_root)
    return source.classes or (layout.class_names(data_root, "train") if isinstance(layout, Parquet) else ())


def _known(data: TrialData, names: Sequence[str]) -> Iterator[tuple[str, U8]]:
    """A line for each of the first known classes, as trained on."""
    for label, class_id in list(enumerate(data.classes))[:ROWS]:
        said = f"{class_id} {names[class_id]}" if class_id < len(names) else str(class_id)
        yield f"known: class {said}", _some(data.train, np.flatnonzero(data.train.labels == label))


def _some(samples: Samples, among: np.ndarray | None = None) -> U8:
    """Evenly spaced images, as a network sees them before they are normalised."""
    numbers = np.arange(len(samples)) if among is None else among
    chosen = numbers[np.linspace(0, len(numbers) - 1, COLUMNS).astype(int)]
    pool = samples.on(torch.device("cpu"))
    return centre(pool[torch.from_numpy(chosen)], pool.image_size).numpy()
