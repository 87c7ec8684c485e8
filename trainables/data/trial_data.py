"""What one trial trains on, is validated on and is tested on."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from trainables.config import TrialConfig
from trainables.data.protocols import PROTOCOLS, UNKNOWN, image_set_of, unknown_classes
from trainables.data.sets import I64, DataError, ImageSet, Progress, load_set
from trainables.seeds import seeds


@dataclass(frozen=True)
class ImagePool:
    """Images on a device, read in batches by sample number (0..n-1).

    On the CPU the set stays in its shared memory map and `rows` says which images belong; on an
    accelerator only those images are copied.
    """

    images: torch.Tensor  # N,H,W,3 uint8
    rows: torch.Tensor  # n
    labels: torch.Tensor  # n

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, ids: torch.Tensor) -> torch.Tensor:
        """Images B,H,W,3 uint8 of sample numbers `ids` (B)."""
        return self.images[self.rows[ids]]


@dataclass(frozen=True)
class Samples:
    """Rows of an image set, with training labels (`UNKNOWN` = -1 for samples of no known class)."""

    source: ImageSet
    rows: I64
    labels: I64
    _pools: dict[torch.device, ImagePool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def on(self, device: torch.device) -> ImagePool:
        """These images on `device`; they are moved there once."""
        if device not in self._pools:
            pixels, labels = self.source.images, torch.from_numpy(self.labels).to(device)
            if device.type == "cpu":
                self._pools[device] = ImagePool(_shared(pixels), torch.from_numpy(self.rows), labels)
            else:
                images = torch.from_numpy(pixels[self.rows]).to(device)
                self._pools[device] = ImagePool(images, torch.arange(len(self), device=device), labels)
        return self._pools[device]


@dataclass(frozen=True)
class TrialData:
    """Known classes are labelled 0..K-1 in the split's order; evaluation sets map name to samples.

    `outliers` are images of an auxiliary set that some methods train on beside the known classes.
    """

    classes: tuple[int, ...]
    image_size: int
    flip: bool
    train: Samples
    validation: dict[str, Samples] = field(default_factory=dict)
    test: dict[str, Samples] = field(default_factory=dict)
    outliers: Samples | None = None

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of each set that shapes the weights, by its name."""
        sets = [self.train, *([self.outliers] if self.outliers else [])]
        return {samples.source.name: samples.source.fingerprint for samples in sets}


Opened = Mapping[tuple[str, str], ImageSet]  # by name and part

KEPT = 2  # divisions that a process remembers, with the copies of their images on a device
_recent: dict[Hashable, TrialData] = {}


def build(
    config: TrialConfig, data_root: Path, *, download: bool = False, progress: Progress | None = None
) -> TrialData:
    """Load the sets that the trial needs and divide them. The test set is opened only where `config.test`.

    A trial that divides the same sets as one just before, in the same process, gets that one's: what is on a device
    stays there. Files are looked at anew each time, so changed ones are seen.

    The training set is cut to `images_per_class` first. Pseudo-unknown classes are a random choice among the
    known, all of their images unknown in validation; of every other known class, `holdout` is kept for it.
    """
    own, size = config.training_sets[0], PROTOCOLS[config.protocol].image_size
    wanted = [(name, "train") for name in config.training_sets]
    if config.test:
        sets = (image_set_of(config.protocol, name) for name in config.evaluation_sets)
        wanted += [(name, "test") for name in dict.fromkeys((own, *sets))]
    opened = {
        (name, part): load_set(name, part, size, data_root, download=download, progress=progress)
        for name, part in wanted
    }
    drawn = (config.images_per_class, config.holdout, config.pseudo_unknown)
    by_chance = (config.seed, config.split) if any(drawn) else ()
    contents = tuple((*place, s.source, s.left_out, s.fingerprint, s.index.tobytes()) for place, s in opened.items())
    tested = [(name, _unknown_classes(config, name)) for name in config.evaluation_sets] if config.test else []
    key = (config.protocol, config.known_classes, drawn, by_chance, tuple(tested), contents)
    data = _recent.pop(key, None) or _divide(config, opened)
    _recent[key] = data  # the newest is the last
    for oldest in list(_recent)[:-KEPT]:
        del _recent[oldest]
    return data


def _divide(config: TrialConfig, opened: Opened) -> TrialData:
    """What `build` says, of sets that are open."""
    protocol = PROTOCOLS[config.protocol]
    rng = np.random.default_rng(seeds(config)[1])
    known = config.known_classes
    hidden = rng.choice(known, size=config.pseudo_unknown, replace=False).tolist()
    classes = tuple(c for c in known if c not in hidden)

    source = opened[protocol.image_set, "train"]
    train, kept, unknown = [], [], []
    for c in known:
        of_class = rng.permutation(np.flatnonzero(source.labels == c))[: config.images_per_class]
        if len(of_class) == 0:
            raise DataError(f"{source.source} has no image of known class {c}")
        held_out = round(config.holdout * len(of_class))
        if c in hidden:
            unknown.append(of_class)
        else:
            if config.holdout and held_out == 0:
                raise DataError(
                    f"a holdout of {config.holdout:g} keeps none of the {len(of_class)} images of class {c}"
                )
            kept.append(of_class[:held_out])
            train.append(of_class[held_out:])

    validation: dict[str, Samples] = {}
    if config.holdout:
        validation["known"] = _known(source, _sorted(kept), classes)
    if hidden:
        validation["pseudo-unknown"] = _unknown(source, _sorted(unknown))

    test: dict[str, Samples] = {}
    if config.test:
        own = opened[protocol.image_set, "test"]
        is_known = np.isin(own.labels, classes)
        test["known"] = _known(own, np.flatnonzero(is_known), classes)
        for name in config.evaluation_sets:
            if name == protocol.image_set:
                test[name] = _unknown(own, np.flatnonzero(~is_known))
            else:
                other = opened[image_set_of(config.protocol, name), "test"]
                classes_of = _unknown_classes(config, name)
                wanted = np.isin(other.labels, classes_of) if classes_of else np.ones(len(other.labels), dtype=bool)
                if not wanted.any():
                    raise DataError(f"{other.source} has no image of the classes of {name}")
                test[name] = _unknown(other, np.flatnonzero(wanted))
    outliers = None
    for name in config.training_sets[1:]:
        auxiliary = opened[name, "train"]
        outliers = _unknown(auxiliary, np.arange(len(auxiliary.labels)))
    known_train = _known(source, _sorted(train), classes)
    return TrialData(classes, protocol.image_size, protocol.flip, known_train, validation, test, outliers)


def _unknown_classes(config: TrialConfig, name: str) -> tuple[int, ...] | None:
    return unknown_classes(config.protocol, config.split_family, config.split, name)


def _sorted(rows: list[I64]) -> I64:
    """In the order of the set: reading them then walks through memory once."""
    return np.sort(np.concatenate(rows))


def _known(source: ImageSet, rows: I64, classes: tuple[int, ...]) -> Samples:
    label_of = np.full(source.labels.max() + 1, UNKNOWN)
    label_of[list(classes)] = np.arange(len(classes))
    return Samples(source, rows, label_of[source.labels[rows]])


def _unknown(source: ImageSet, rows: I64) -> Samples:
    return Samples(source, rows, np.full(len(rows), UNKNOWN))


def _shared(pixels: np.ndarray) -> torch.Tensor:
    """A tensor over read-only memory: torch warns that it could be written to, which nothing here does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(pixels)
