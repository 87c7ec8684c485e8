"""What a plan can decide: of each claim, the smallest difference that it finds, and what the published one needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from platform.deciding.looks import looks
from platform.deciding.paired import Key, Over, paired
from platform.deciding.power import detectable, needed
from platform.deciding.stopping import seeds_of
from platform.files.rows import published_difference, row_list
from platform.files.spec import Claim, Decided, Resources, Spec
from platform.planning.plan import Plan, Sweep
from platform.tracking.evaluations import own_metrics
from platform.tracking.index import FinishedTrial
from trainables.protocols.protocols import partition
from trainables.settings.config import TrialConfig

GUESS = 1.0  # points: two trainings of one configuration differ by up to one (osr_closed_set, issue 18)
SAME_KIND = ("protocol", "split_family", "backbone", "epochs", "images_per_class")
MOST_GROUPS = 20  # settings of finished trials whose pairs are looked at: their spreads hardly differ

Seconds = Callable[[TrialConfig], float | None]
Finished = Mapping[str, FinishedTrial]  # by identity


@dataclass(frozen=True)
class Prospect:
    """What a plan can say of a claim in one column. Differences and spreads are in points."""

    claim: Claim
    column: str
    published: float | None
    over: Over
    sequential: bool
    n: int  # units that are planned: partitions, or seeds on each of `strata` splits
    strata: int
    spread: float  # of a unit's difference
    source: str  # of the spread
    detectable: float | None  # by n, with the wanted power; None where n gives no interval
    needed: int | None  # units for the published difference; None where none is published, or no number suffices
    hours: float | None  # of devices, for them
    devices: str  # GPU or core

    @property
    def decides(self) -> bool | None:
        """Whether the plan finds the published difference with the wanted power; None where none is published."""
        if not self.published:
            return None
        return self.detectable is not None and abs(self.published) >= self.detectable


def prospects(plan: Plan, sweep: Sweep, finished: Finished, seconds: Seconds) -> list[Prospect]:
    """One for each claim of an ablation in each column whose trials this project can train."""
    spec, found = sweep.spec, []
    rows = {row.name: row for row in row_list(spec)}
    metrics = dict(zip(spec.columns, sweep.columns, strict=True))
    asked = spec.until or Decided()
    for claim in spec.claims:
        for column in claim.columns:
            group, metric = metrics[column]
            both = [_configs(plan, sweep, rows[name], group) for name in (claim.row, claim.over)]
            if not all(both):
                continue  # published alone
            (one, other), splits = both, spec.splits
            partitions = {config.split: _partition(config) for config in one}
            several = len({*partitions.values()}) > 1
            over: Over = "seeds" if spec.until else spec.over or ("splits" if several else "seeds")
            n = len({*partitions.values()}) if over == "splits" else len(seeds_of(spec))
            strata = 1 if over == "splits" else len(splits)
            spread, source = _spread(plan, (one, other), metric, finished, partitions, over)
            looked = looks(n, strata, asked.alpha) if spec.until else ()
            limit = looked[-1].critical if looked else 0.0
            published = published_difference(rows, claim, column)
            wanted = (
                needed(published, spread, strata, asked.power, asked.alpha, looked) if published and spread else None
            )
            each = _unit_hours(spec, one[0], other[0], seconds, len(spec.seeds) if over == "splits" else len(splits))
            found.append(
                Prospect(
                    claim, column, published, over, bool(spec.until), n, strata, spread, source,
                    detectable(n, spread, strata, asked.power, asked.alpha, limit), wanted,
                    None if wanted is None or each is None else wanted * each,
                    "GPU" if spec.resources.gpus else "core",
                )
            )  # fmt: skip
    return found


def _configs(plan: Plan, sweep: Sweep, row: Any, group: str) -> list[TrialConfig]:
    configs = [r.config for r in sweep.requests if (r.place.row, r.place.column) == (row.name, group)]
    return configs or [config for w in sweep.waiting if w.row == row for config in plan.configs(sweep, row)]


def _partition(config: TrialConfig) -> object:
    return partition(config.protocol, config.split_family, config.split)


def _unit_hours(spec: Spec, one: TrialConfig, other: TrialConfig, seconds: Seconds, times: int) -> float | None:
    """Hours of devices that one more unit takes: both rows and their teachers, `times` over."""
    trials = {repr(c): c for row in (one, other) for c in (row, row.teacher) if c}
    took = [seconds(config) for config in trials.values()]
    if None in took:
        return None
    return sum(filter(None, took)) * devices(spec.resources) * times / 3600


def devices(needs: Resources) -> float:
    """GPUs that a trial takes, or CPU cores where it takes none."""
    return needs.workers * (needs.gpus or needs.cpus_per_worker)


# The spread


def _spread(
    plan: Plan,
    rows: tuple[list[TrialConfig], list[TrialConfig]],
    metric: str,
    finished: Finished,
    partitions: Mapping[int, object],
    over: Over,
) -> tuple[float, str]:
    values = [dict(_measured(plan, row, metric, finished)) for row in rows]
    own = paired(values[0], values[1], partitions, over)
    if own and own.spread:
        return own.spread, f"{own.n} {own.unit} of these rows"
    spreads = list(_of_the_kind(rows[0][0], metric, finished.values(), over))
    if spreads:
        pooled = math.sqrt(sum(spread * spread for spread in spreads) / len(spreads))
        return pooled, f"{len(spreads)} pair{'s' * (len(spreads) > 1)} of rows of the same kind"
    return GUESS, "a guess"


def _measured(plan: Plan, row: list[TrialConfig], metric: str, finished: Finished) -> Iterator[tuple[Key, float]]:
    for config in row:
        trial = finished.get(plan.identity(config))
        value = _value(trial, config, metric) if trial else None
        if value is not None:
            yield (config.split, config.seed), value


def _value(trial: FinishedTrial, config: TrialConfig, metric: str) -> float | None:
    value = own_metrics(trial.metrics, config).get(metric.replace("{score}", config.score))
    return None if value is None else 100 * value


def _of_the_kind(config: TrialConfig, metric: str, past: Iterable[FinishedTrial], over: Over) -> Iterator[float]:
    """The spread of each pair of settings that finished on the same splits and seeds, on these images, network and
    length of training."""
    kind = {name: str(getattr(config, name)) for name in SAME_KIND}
    groups: dict[tuple[Any, ...], dict[Key, float]] = {}
    for trial in past:
        params = trial.params
        if any(params.get(name) != value for name, value in kind.items()) or not {"split", "seed"} <= params.keys():
            continue
        value = _value(trial, config, metric)
        if value is not None:
            place = ("split", "seed", "teacher.split", "teacher.seed")
            settings = tuple(sorted(item for item in params.items() if item[0] not in place))
            groups.setdefault(settings, {})[int(params["split"]), int(params["seed"])] = value
    largest = sorted(groups.values(), key=len, reverse=True)[:MOST_GROUPS]
    for one, other in combinations(largest, 2):
        partitions = {split: _partition(config.at(split, 0)) for split, _ in one}
        pair = paired(one, other, partitions, over)
        if pair and pair.spread:
            yield pair.spread
