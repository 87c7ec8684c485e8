"""What a sweep found: a result for each of its requests, and rows with their spread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from platform.files.names import plain
from platform.files.trial_settings import OF_SCORE
from platform.tracking.evaluations import own_metrics
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import Place, TrialState
from trainables.images.listing import Content
from trainables.settings.config import TrialConfig

if TYPE_CHECKING:
    from platform.planning.plan import Request
    from platform.planning.search import Ran, Told

Ending = Literal["finished", "cached", "stopped", "failed", "left out", "not started", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """What became of a request. `metrics` are what its own settings mean by each name."""

    place: Place
    config: TrialConfig
    identity: str
    status: Ending
    metrics: Mapping[str, float]
    epoch: float = 0
    run_id: str = ""
    error: str = ""
    source: FinishedTrial | None = None  # the run that had it already
    evaluated: bool = False  # not trained: an evaluation that a finished trial lacked
    tested: Mapping[str, Content] = field(default_factory=dict)  # the images that it was tested on

    @classmethod
    def of(cls, trial: TrialState, request: Request, status: Ending | None = None) -> Outcome:
        ending: Ending = status or ("interrupted" if trial.status == "running" else trial.status)
        found = own_metrics(trial.metrics, request.config)
        return cls(
            request.place, request.config, request.identity, ending, found, trial.epoch, trial.run_id, trial.error,
            evaluated=trial.evaluates_only,
            tested=trial.tested,
        )  # fmt: skip

    @classmethod
    def cached(cls, finished: FinishedTrial, request: Request) -> Outcome:
        found = own_metrics(finished.metrics, request.config)
        return cls(
            request.place, request.config, request.identity, "cached", found, request.config.epochs, finished.run_id,
            source=finished,
            tested=finished.tested,
        )  # fmt: skip

    @classmethod
    def told(cls, told: Told, request: Request, finished: FinishedTrial | None, ran: Ran | None) -> Outcome:
        """A training of a proposal that another process has told its study: its run, where it finished or not."""
        if finished:
            return cls.cached(finished, request)
        at = (request.place, request.config, request.identity)
        run_id, epoch = (ran.run_id, ran.epoch) if ran else ("", 0)
        if told.status != "finished":
            return cls(*at, "stopped" if told.status == "stopped" else "failed", told.metrics, epoch, run_id)
        alone = told.metrics if request.place.trainings == 1 else {}
        return cls(*at, "cached", alone, request.config.epochs, run_id)

    @property
    def done(self) -> bool:
        return self.status in ("finished", "cached")


@dataclass
class Results:
    """The outcomes of a command's sweeps."""

    outcomes: list[Outcome] = field(default_factory=list)
    ended: set[tuple[str, int | None]] = field(default_factory=set)  # trials with an outcome: rows may share one
    earlier: list[Outcome] = field(default_factory=list)  # of proposals that other processes saw the end of
    judged: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)  # by sweep: its finished proposals
    best: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by sweep, once its search has ended
    spared: int = 0  # trainings that a proposal did not need any more
    interrupted: bool = False
    lost: str = ""  # why the cluster was gone before the sweeps had ended
    problem: str = ""  # an error that ended the sweeps before, as a store that refuses a run
    undelivered: bool = False  # MLflow does not have all that was recorded
    runs: dict[str, str] = field(default_factory=dict)  # MLflow's id of each sweep's own run

    _rows: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)  # by sweep and row

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        place = outcome.place
        own = place.proposal if place.searched.keys() - OF_SCORE else None  # proposals of a score share their trials
        self.ended.add((outcome.identity, own))
        if place.phase in ("confirm", "row"):
            self._rows.setdefault((place.sweep, place.row), []).append(outcome)

    def of_row(self, sweep: str, row: str) -> list[Outcome]:
        return self._rows.get((sweep, row), [])

    def of(self, sweep: str, *phases: str) -> list[Outcome]:
        everything = (*self.earlier, *self.outcomes)
        wanted = [o for o in everything if o.place.sweep == sweep and o.place.phase in phases]
        return sorted(wanted, key=lambda o: o.place.number)

    def count(self, *statuses: Ending) -> int:
        return sum(o.status in statuses for o in self.outcomes)

    def trials(self, *statuses: Ending) -> int:
        """How many trainings ended so: requests may share one."""
        return len({o.identity for o in self.outcomes if o.status in statuses and not o.evaluated})

    @property
    def evaluated(self) -> int:
        """How many finished trials were evaluated on what they lacked."""
        return len({o.identity for o in self.outcomes if o.done and o.evaluated})

    @property
    def given(self) -> int:
        """How many networks that others trained were evaluated."""
        ended = (o for o in self.outcomes if o.status == "finished" and not o.evaluated)
        return len({o.identity for o in ended if o.config.train == "none"})

    @property
    def cached(self) -> int:
        """How many trials needed nothing, proposals that an earlier command saw the end of among them."""
        earlier = {o.identity for o in self.earlier if o.status != "failed"}
        return len(earlier | {o.identity for o in self.outcomes if o.status == "cached"})

    @property
    def counts(self) -> dict[str, int]:
        """What became of every trial."""
        return {
            "trained": self.trials("finished", "stopped") - self.given,
            "evaluated": self.evaluated + self.given,
            "cached": self.cached,
            "failed": self.trials("failed"),
            "left out": self.trials("left out"),
            "not started": self.trials("not started"),
            "interrupted": self.trials("interrupted"),
        }

    def rows(self, sweep: str) -> list[str]:
        return list(dict.fromkeys(o.place.row for o in self.of(sweep, "confirm", "row")))

    def values(self, sweep: str, row: str, metric: str, column: str = "") -> dict[tuple[int, int], float]:
        """A row's results by (split, seed), of the trials that finished."""
        found = ((o, metric.replace("{score}", o.config.score)) for o in self.of_row(sweep, row))
        return {
            (o.place.split, o.place.seed): o.metrics[name]
            for o, name in found
            if o.place.column == column and o.done and name in o.metrics
        }

    def measured(self, sweep: str, row: str, metric: str, column: str = "") -> list[float]:
        """A row's results, one for each trial: what is not trained is the same trial at every seed."""
        trials = self._trials(sweep, row, column)
        found = self.values(sweep, row, metric, column)
        return list({trials[key]: value for key, value in found.items()}.values())

    def _trials(self, sweep: str, row: str, column: str) -> dict[tuple[int, int], str]:
        """The identity behind each (split, seed) of a row."""
        own = (o for o in self.of_row(sweep, row) if o.place.column == column)
        return {(o.place.split, o.place.seed): o.identity for o in own}

    def differences(self, sweep: str, rows: tuple[str, str], metric: str, column: str = "") -> list[float]:
        """The first row minus the second, of every pair of trials on a (split, seed) that both have."""
        one, other = (self.values(sweep, row, metric, column) for row in rows)
        trials = [self._trials(sweep, row, column) for row in rows]
        pairs = {tuple(of[key] for of in trials): one[key] - other[key] for key in one if key in other}
        return list(pairs.values())

    def summary(self, sweep: str, columns: Iterable[tuple[str, str]]) -> Iterator[tuple[str, float]]:
        """`<phase>/<row>/<metric>/<mean|std|n>` of every row, for (column of its own trials, metric) of `columns`."""
        for row in self.rows(sweep):
            phase = self.of_row(sweep, row)[0].place.phase
            for column, metric in columns:
                shown = metric.replace("{score}", "_score_")
                values = self.measured(sweep, row, metric, column)
                yield from _spread((phase, row, column, *shown.split("/")), values)

    def of_best(self, sweep: str, metrics: Iterable[str]) -> Iterator[tuple[str, float]]:
        """`search/best/<metric>/<mean|std|n>` of the trainings that the best settings of a search were judged by."""
        best = self.best.get(sweep, [])[:1]
        trainings = {o.identity: o.metrics for o in self.of(sweep, "search") if o.done and o.place.searched in best}
        for metric in metrics:
            values = [own[metric] for own in trainings.values() if metric in own]
            yield from _spread(("search", "best", *metric.split("/")), values)


def _spread(name: Iterable[str], values: Sequence[float]) -> Iterator[tuple[str, float]]:
    if values:
        called = "/".join(plain(part) for part in name if part)
        yield f"{called}/mean", float(np.mean(values))
        yield f"{called}/n", len(values)
        if len(values) > 1:
            yield f"{called}/std", float(np.std(values, ddof=1))
