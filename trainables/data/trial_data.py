"""What one trial trains on, is validated on and is tested on."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from trainables.data.augment import HALF, NORMALISATIONS, Statistics
from trainables.data.kept import ImageSet
from trainables.data.leaks import Subset, check_disjoint, duplicates
from trainables.data.pools import ImagePool, MaskedPool, MemoryPool, StreamedPool
from trainables.data.sets import load_set
from trainables.images.encoded import Encoded
from trainables.images.listing import I64, Content, DataError, Progress
from trainables.processes import ALONE, Processes
from trainables.protocols.protocols import UNKNOWN, part_of_set, protocol_of, stored_size, unknown_classes
from trainables.settings.config import TrialConfig
from trainables.settings.seeds import seeds


@dataclass(frozen=True)
class Samples:
    """Rows of an image set, with training labels (`UNKNOWN` = -1 for samples of no known class)."""

    source: ImageSet
    rows: I64
    labels: I64
    image_size: int = 0  # px that the network sees; 0: as stored
    statistics: Statistics = HALF
    view: str = "raw"  # of an image with a mask
    _pools: dict[torch.device, ImagePool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def on(self, device: torch.device) -> ImagePool:
        """These images on `device`; they are moved there once. Images with masks are in their view."""
        if device not in self._pools:
            pool = self._all_channels(device)
            if self.source.channels == 4:
                partners = torch.randperm(len(self), generator=torch.Generator().manual_seed(0)).to(device)
                pool = MaskedPool(pool, self.view, partners)
            self._pools[device] = pool
        return self._pools[device]

    def for_training(self, device: torch.device, host: torch.Generator, processes: Processes = ALONE) -> ImagePool:
        """These images on `device`, for all `processes` of a trial; a background is another one at each look."""
        if isinstance(self.source.images, Encoded):
            pool = self._all_channels(device, processes)
        else:
            pool = self.on(device)
            pool = pool.pool if isinstance(pool, MaskedPool) else pool
        return MaskedPool(pool, self.view, host=host) if self.source.channels == 4 else pool

    def _all_channels(self, device: torch.device, processes: Processes = ALONE) -> ImagePool:
        """These images with their masks, where they have some."""
        pixels, labels = self.source.images, torch.from_numpy(self.labels).to(device)
        if isinstance(pixels, Encoded):
            seen = (self.image_size or pixels.size, self.statistics)
            rows, threads = torch.from_numpy(self.rows), torch.get_num_threads()
            return StreamedPool(pixels, rows, labels, device, *seen, threads, processes)
        if device.type == "cpu":
            images, rows = _shared(pixels), torch.from_numpy(self.rows)
        else:
            images, rows = torch.from_numpy(pixels[self.rows]).to(device), torch.arange(len(self), device=device)
        return MemoryPool(images, rows, labels, self.image_size, self.statistics)


@dataclass(frozen=True)
class TrialData:
    """Known classes are labelled 0..K-1 in the split's order; evaluation sets map name to samples. `train` has no
    sample where nothing is trained.

    `outliers` are images of an auxiliary set that some methods train on beside the known classes. In `test`, `known`
    are the known images; an unknown set that shows them otherwise comes with its own, `known-<name of the set>`.
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
        """Of each set that shapes the weights, by `TrialConfig.training_images`."""
        sets = [*([self.train] if len(self.train) else []), *([self.outliers] if self.outliers else [])]
        return {samples.source.key: samples.source.fingerprint for samples in sets}

    @property
    def tested(self) -> dict[str, Content]:
        """The test images that are here, whole parts of sets, by what is tested on them: `known` and each unknown set.

        A result belongs to these images: other ones of the same name may give other numbers.
        """
        return {name: samples.source.content for name, samples in self.test.items() if not name.startswith("known-")}

    @property
    def duplicates(self) -> tuple[str, ...]:
        """What to say of sets that share images: so few that the trial is not refused, or none that it uses."""
        learnt = [self.train, *([self.outliers] if self.outliers else [])]
        return tuple(duplicates(samples.source for samples in (*learnt, *self.test.values())))


Opened = Mapping[tuple[str, str], ImageSet]  # by name and part

# What a message calls the parts of a trial.
TRAINING, OUTLIERS, VALIDATED, TESTED = "training images", "outliers", "{} validation images", "known test images"

KEPT = 2  # divisions that a process remembers, with the copies of their images on a device
_recent: dict[Hashable, TrialData] = {}


def build(
    config: TrialConfig, data_root: Path, *, download: bool = False, progress: Progress | None = None
) -> TrialData:
    """Load the sets that the trial needs and divide them. The test set is opened only where `config.test`.

    A trial that divides the same sets as one just before, in the same process, gets that one's: what is on a device
    stays there. Files are looked at anew each time, as far as `trainables.data.sets` does.

    The training set is cut to `images_per_class` first. Pseudo-unknown classes are a random choice among the
    known, all of their images unknown in validation; of every other known class, `holdout` is kept for it.
    """
    size = stored_size(config.seen_size)
    opened = {
        (name, part): load_set(name, part, size, data_root, download=download, progress=progress)
        for name, part in needed(config)
    }
    drawn = (config.images_per_class, config.holdout, config.pseudo_unknown)
    by_chance = (config.seed, config.split) if any(drawn) else ()
    contents = tuple((*place, s.source, s.left_out, s.fingerprint, s.index.tobytes()) for place, s in opened.items())
    tested = [(name, _unknown_classes(config, name)) for name in config.evaluation_sets] if config.test else []
    shown = (config.seen_size, config.normalisation, config.training_view, config.flips)
    key = (config.protocol, config.known_classes, drawn, by_chance, shown, tuple(tested), contents)
    data = _recent.pop(key, None) or _divide(config, opened)
    _recent[key] = data  # the newest is the last
    for oldest in list(_recent)[:-KEPT]:
        del _recent[oldest]
    return data


def needed(config: TrialConfig) -> list[tuple[str, str]]:
    """The sets that a trial needs, and of each the part that serves to `train` or to `test`."""
    wanted = [(name, "train") for name in config.training_sets]
    if config.test:
        sets = (part_of_set(config.protocol, name).images for name in config.evaluation_sets)
        own = protocol_of(config.protocol).image_set
        wanted += [(name, "test") for name in dict.fromkeys((own, *sets))]
    return wanted


def check_split(config: TrialConfig, data: TrialData) -> None:
    """Whether the sets that `data` divides serve `config`, on another split, as well: they have an image of every class
    that it needs, and none that is both trained and tested on.

    Raises `DataError` that names the file and the classes.
    """
    place = f"split {config.split} of {config.protocol}, family {config.split_family}"
    if len(data.train):
        _need(data.train.source, config.known_classes, f"known in {place}")
    if data.test:
        _need(data.test["known"].source, config.known_classes, f"known in {place}")
        for name in config.evaluation_sets:
            _need(data.test[name].source, _unknown_classes(config, name) or (), f"of {name} in {place}")
    source = data.train.source
    parts = {TRAINING: Subset(source, _of_classes(source, config.known_classes))} if len(data.train) else {}
    if data.outliers:
        parts[OUTLIERS] = Subset(data.outliers.source, data.outliers.rows)
    unknown = {}
    if data.test:
        own = data.test["known"].source
        parts[TESTED] = Subset(own, _of_classes(own, config.known_classes))
        for name in config.evaluation_sets:
            other = data.test[name].source
            unknown[f"{name} test images"] = Subset(other, _unknown_rows(config, name, other))
    check_disjoint(parts, unknown)


def _need(source: ImageSet, classes: tuple[int, ...], what: str) -> None:
    if missing := [c for c in classes if c not in source.classes]:
        listed = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        raise DataError(f"{source.source} has no image of {len(missing)} classes {what}: {listed}")


def _divide(config: TrialConfig, opened: Opened) -> TrialData:
    """What `build` says, of sets that are open."""
    protocol = protocol_of(config.protocol)
    rng = np.random.default_rng(seeds(config)[1])
    known = config.known_classes
    hidden = rng.choice(known, size=config.pseudo_unknown, replace=False).tolist()
    classes = tuple(c for c in known if c not in hidden)

    if not config.training_sets:  # nothing is trained
        known = ()
    source = opened[protocol.image_set, "train" if known else "test"]
    _need(source, known, f"known in split {config.split} of {config.protocol}, family {config.split_family}")
    if protocol.masks:
        for images in (images for (name, _), images in opened.items() if name == protocol.image_set):
            if images.channels != 4:
                raise DataError(f"{images.source} has no masks, and {config.protocol} needs them")
    train, kept, unknown = [], [], []
    for c in known:
        of_class = rng.permutation(np.flatnonzero(source.labels == c))[: config.images_per_class]
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

    statistics = NORMALISATIONS.get(config.normalisation)
    as_seen = (config.seen_size, statistics or source.statistics(_sorted(train)))
    if min(as_seen[1].std) == 0:
        raise DataError(f"{source.source}: a channel has one value in all training images: set normalisation: half")
    known_of, unknown_of = partial(_known, classes=classes, as_seen=as_seen), partial(_unknown, as_seen=as_seen)
    validation: dict[str, Samples] = {}
    if config.holdout:
        validation["known"] = known_of(source, _sorted(kept))
    if hidden:
        validation["pseudo-unknown"] = unknown_of(source, _sorted(unknown))

    test: dict[str, Samples] = {}
    if config.test:
        own = opened[protocol.image_set, "test"]
        _need(own, classes, f"known in split {config.split} of {config.protocol}, family {config.split_family}")
        rows_of_known = _of_classes(own, classes)
        test["known"] = known_of(own, rows_of_known)
        for name in config.evaluation_sets:
            part = part_of_set(config.protocol, name)
            if part.known != "raw":
                test[f"known-{name}"] = known_of(own, rows_of_known, view=part.known)
            other = opened[part.images, "test"]
            _need(other, _unknown_classes(config, name) or (), f"of {name}")
            rows = _unknown_rows(config, name, other)
            if len(rows) == 0:
                raise DataError(f"{other.source} has no image of an unknown class")
            test[name] = unknown_of(other, rows, view=part.unknown)
    outliers = None
    for name in config.training_sets[1:]:
        auxiliary = opened[name, "train"]
        outliers = unknown_of(auxiliary, np.arange(len(auxiliary.labels)))
    known_train = known_of(source, _sorted(train), view=config.training_view)
    data = TrialData(classes, config.seen_size, config.flips, known_train, validation, test, outliers)
    _check_disjoint(data)
    return data


def _check_disjoint(data: TrialData) -> None:
    """Raises `DataError` where two parts of a trial have images in common."""
    parts = {TRAINING: data.train, OUTLIERS: data.outliers, TESTED: data.test.get("known")}
    parts |= {VALIDATED.format(name): samples for name, samples in data.validation.items()}
    unknown = {f"{name} test images": s for name, s in data.test.items() if not name.startswith("known")}
    check_disjoint(
        {name: Subset(s.source, s.rows) for name, s in parts.items() if s},
        {name: Subset(s.source, s.rows) for name, s in unknown.items()},
    )


def _of_classes(source: ImageSet, classes: tuple[int, ...]) -> I64:
    return np.flatnonzero(np.isin(source.labels, classes))


def _unknown_rows(config: TrialConfig, name: str, source: ImageSet) -> I64:
    """The images of `source` that are the unknown set `name`: of the classes that its family lists, of all that are not
    known, or all images of another set."""
    if listed := _unknown_classes(config, name):
        return _of_classes(source, listed)
    if part_of_set(config.protocol, name).images == protocol_of(config.protocol).image_set:
        return np.flatnonzero(~np.isin(source.labels, config.known_classes))
    return np.arange(len(source.labels))


def _unknown_classes(config: TrialConfig, name: str) -> tuple[int, ...] | None:
    return unknown_classes(config.protocol, config.split_family, config.split, name)


def _sorted(rows: list[I64]) -> I64:
    """In the order of the set: reading them then walks through memory once."""
    return np.sort(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)


AsSeen = tuple[int, Statistics]


def _known(source: ImageSet, rows: I64, *, classes: tuple[int, ...], as_seen: AsSeen, view: str = "raw") -> Samples:
    label_of = np.full(source.labels.max() + 1, UNKNOWN)
    label_of[list(classes)] = np.arange(len(classes))
    return Samples(source, rows, label_of[source.labels[rows]], *as_seen, view)


def _unknown(source: ImageSet, rows: I64, *, as_seen: AsSeen, view: str = "raw") -> Samples:
    return Samples(source, rows, np.full(len(rows), UNKNOWN), *as_seen, view)


def _shared(pixels: np.ndarray) -> torch.Tensor:
    """A tensor over read-only memory: torch warns that it could be written to, which nothing here does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(pixels)
