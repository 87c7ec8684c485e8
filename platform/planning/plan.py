"""From checked files to the trials that they mean, each with its identity."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platform.files.rows import columns, divisions, row_list, trials
from platform.files.spec import Row, Spec
from platform.files.trial_settings import proposed, with_teacher
from platform.planning.search import Start
from platform.tracking.trials import Phase, Place
from trainables.data.sources import source_of
from trainables.data.trial_data import TrialData, build, check_split, needed
from trainables.images.listing import Content, DataError, MissingImagesError, Progress
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of, weights_fingerprints
from trainables.settings.resolving import resolve

BestOf = Callable[[Path, str], Mapping[str, Any]]  # the best settings that another search has found, in a profile


@dataclass(frozen=True)
class Request:
    """A trial that a sweep wants, and what for. Requests of one identity share the trial."""

    place: Place
    config: TrialConfig
    identity: str


@dataclass(frozen=True)
class Waiting:
    """A row whose settings are those of a search that has not ended: its own sweep's, or another file's."""

    search: str  # the name of that search
    rank: int  # 0 for the best
    row: Row
    first: int  # the number of its first request


@dataclass
class Sweep:
    """A profile of a file, resolved against the images that are there."""

    file: Path
    spec: Spec
    profile: str
    changed: tuple[str, ...]  # what `--set` changed of it
    reduced: bool = False  # whether the profile trains other trials than the file as it stands
    requests: list[Request] = field(default_factory=list)  # rows × columns × splits × seeds, as far as they are known
    waiting: list[Waiting] = field(default_factory=list)
    searched: list[TrialConfig] = field(default_factory=list)  # the trainings that proposals are laid over
    start: Start = field(default_factory=Start)
    planned: int = 0  # the last number of a request, those of rows that wait included

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def search(self) -> TrialConfig | None:
        """The first training of a proposal that changes nothing; None of an ablation."""
        return self.searched[0] if self.searched else None

    @property
    def rows(self) -> list[str]:
        """Names of the rows that are trained, in the order of the file."""
        first: dict[str, int] = {}
        for request in self.requests:
            first.setdefault(request.place.row, request.place.number)
        first |= {w.row.name: w.first for w in self.waiting}
        return sorted(first, key=lambda name: first[name])

    @property
    def columns(self) -> list[tuple[str, str]]:
        """For each column of the table, the `Place.column` of its trials and the metric that it shows."""
        return columns(self.spec)

    @property
    def config(self) -> TrialConfig:
        """A trial that stands for the sweep in what is said of it."""
        return self.requests[0].config if self.requests else self.search or resolve(self.spec.base)


@dataclass
class ImageSets:
    """The image sets of a command, opened once for each way of dividing them."""

    root: Path
    download: bool = False
    progress: Progress | None = None
    opened: dict[tuple[Any, ...], TrialData] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)  # of all that shapes some trial
    checked: set[tuple[Hashable, int]] = field(default_factory=set)  # ways of dividing and splits
    _weights: dict[str, str] = field(default_factory=dict)  # sha256 of the files that trials begin with
    _tested: dict[tuple[str, int], dict[str, Content]] = field(default_factory=dict)  # by protocol and size

    def of(self, config: TrialConfig) -> TrialData:
        """Images divided as for `config`, up to the choice of classes. Raises `DataError`."""
        kind = _kind(config)
        if kind not in self.opened:
            self.opened[kind] = build(config, self.root, download=self.download, progress=self.progress)
            self.fingerprints |= self.opened[kind].fingerprints
            self._tested.setdefault((config.protocol, config.seen_size), {}).update(self.opened[kind].tested)
        weights = weights_fingerprints(config)
        self.fingerprints |= weights
        self._weights |= weights
        if (kind, config.split) not in self.checked:
            check_split(config, self.opened[kind])
            self.checked.add((kind, config.split))
        return self.opened[kind]

    def tested(self, config: TrialConfig) -> dict[str, Content]:
        """The test images that an evaluation of `config` sees here, of the sets that were opened."""
        here = self._tested.get((config.protocol, config.seen_size), {}) if config.test else {}
        return {name: here[name] for name in ("known", *config.evaluation_sets) if name in here}

    @property
    def trained_on(self) -> dict[str, list[Any]]:
        """Of every set that some trial trains on: its fingerprint and how many images it has here; of every file of
        weights: its sha256, and 0."""
        parts = [s for data in self.opened.values() for s in (data.train, data.outliers) if s]
        sets = {s.source.key: [s.source.fingerprint, len(s.source.labels)] for s in parts}
        return sets | {file: [digest, 0] for file, digest in self._weights.items()}


@dataclass
class Plan:
    """All sweeps of a command."""

    sweeps: list[Sweep]
    images: ImageSets

    def identity(self, config: TrialConfig) -> str:
        self.images.of(config)
        return identity_of(config, self.images.fingerprints)

    def sweep(self, name: str) -> Sweep:
        return next(sweep for sweep in self.sweeps if sweep.name == name)

    @property
    def requests(self) -> list[Request]:
        return [request for sweep in self.sweeps for request in sweep.requests]

    def configs(self, sweep: Sweep, row: Row, best: Mapping[str, Any] | None = None) -> Iterator[TrialConfig]:
        """The trials of a row whose settings are known now, `best` under those of its own."""
        for _, config in trials(sweep.spec, row, best):
            yield config

    def add_requests(
        self, sweep: Sweep, row: Row, best: Mapping[str, Any] | None = None, first: int = 1
    ) -> list[Request]:
        """The requests of such a row, from the number `first` on."""
        phase: Phase = "confirm" if sweep.spec.search else "row"
        added = []
        for number, (column, config) in enumerate(trials(sweep.spec, row, best), first):
            place = Place(sweep.name, phase, row.name, number, config.split, config.seed, column)
            added.append(Request(place, config, self.identity(config)))
        sweep.requests += added
        return added


def make_plan(sweeps: Sequence[Sweep], images: ImageSets, best_of: BestOf) -> Plan:
    """Fill `sweeps`, which have no requests so far, and open their images, test sets included, so that what is missing
    shows before Ray starts.

    Raises `DataError` where images are missing or broken, `ConfigError` where a row's search has no result.
    """
    plan = Plan(list(sweeps), images)
    try:
        _fill(plan, images, best_of)
    except MissingImagesError as error:
        told = list(_missing(sweeps, images))  # all that is missing, not one at each try
        if not any(text.split(" (")[0] == str(error).split(" (")[0] for text in told):
            told.append(str(error))
        raise DataError("\n".join(told)) from error
    return plan


def _fill(plan: Plan, images: ImageSets, best_of: BestOf) -> None:
    names = {sweep.file.resolve(): sweep.name for sweep in plan.sweeps if sweep.spec.search}
    for sweep in plan.sweeps:
        spec = sweep.spec
        each = sum(len(splits_and_seeds) for _, _, splits_and_seeds in divisions(spec))
        first = 1
        if spec.search:
            sweep.searched = proposed(spec, {})
            for config in sweep.searched:
                images.of(config)
        if spec.search and spec.confirm:
            images.of(resolve(with_teacher(spec, {})))  # the best's: not known yet
            for rank, name in enumerate(spec.confirm.names[: spec.trials]):
                sweep.waiting.append(Waiting(sweep.name, rank, Row(name=name, set={}), first))
                first += each
        baselines = spec.confirm.baselines if spec.confirm else []
        for row in baselines if spec.search else row_list(spec):
            if row.published_only:
                continue
            source = Path(row.best_of) if row.best_of else None
            if source and source.resolve() in names:
                sweep.waiting.append(Waiting(names[source.resolve()], 0, row, first))
            else:
                plan.add_requests(sweep, row, best_of(source, sweep.profile) if source else None, first)
            first += each
        sweep.planned = first - 1


def _missing(sweeps: Sequence[Sweep], images: ImageSets) -> Iterator[str]:
    """What to say of each set that some trial of the files needs and that is not there."""
    rows = ((s.spec, row) for s in sweeps if not s.spec.search for row in row_list(s.spec) if not row.published_only)
    configs = [config for spec, row in rows if row.best_of is None for _, config in trials(spec, row)]
    for spec in (s.spec for s in sweeps if s.spec.search):
        configs += [resolve(with_teacher(spec, {}))]  # what its confirmation needs, test sets included
    parts: dict[str, dict[str, None]] = {}
    for name, role in dict.fromkeys(pair for config in configs for pair in needed(config)):
        source = source_of(name)
        if source.layout(source.part(role), images.root) is None and not (images.download and source.fetcher):
            parts.setdefault(name, {})[source.part(role)] = None
    for name, missing in parts.items():
        yield str(source_of(name).missing(" and ".join(missing), images.root, images.download))


def _kind(config: TrialConfig) -> tuple[Any, ...]:
    """What makes images divided in another way, but for which classes and which draw."""
    kept = (config.images_per_class, config.holdout, config.pseudo_unknown)
    seen = (config.seen_size, config.normalisation, config.training_view)
    return (
        config.protocol,
        config.split_family,
        config.training_sets,
        config.test,
        config.evaluation_sets,
        *kept,
        *seen,
    )
