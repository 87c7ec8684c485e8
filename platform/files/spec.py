"""The shape of a sweep's file, as pydantic models. What its settings may be is `trainables.settings.config`'s to say.

A file is a *search*, which lets Optuna choose settings, or an *ablation*, whose rows are all trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from platform.files.dimensions import LARGEST, Dimension, Grid, Number, Numbers, Strict, Text, distinct
from platform.files.names import Name, SweepName
from trainables.reading.values import shown
from trainables.settings.resolving import Setting, settings_table

SEARCH_KEYS = ("search", "objective", "optuna", "start_from", "trials", "scheduler", "validation", "confirm")
ROW_KEYS = ("rows", "grid", "leave_one_out")  # one of them makes a file an ablation
ABLATION_KEYS = (*ROW_KEYS, "add_one_in", "columns", "published", "paper", "claims", "over", "until")


FigureName = Literal[
    "accuracy-auroc",  # of every row: Fig. 1 of the asymmetric paper
    "class-distances",  # between class means of features: its Fig. 2 (a)
    "norms",  # of features and logits, known and unknown: its Fig. 2 (b)
    "teacher",  # its errors and over-confidence on mixed images: its Fig. 2 (c)
    "feature-space",  # t-SNE: its Fig. 4
    "uncertainty",  # 1 - max p, known and unknown: its Fig. 5
    "grid",  # two settings of a grid against each column: Fig. 4 of BackMix
    "masks",  # estimated foregrounds, and the mixed images: its Figs. 5 and 6
    "confidence",  # max p and entropy, known and unknown: Fig. 1 of its supplement
    "power",  # of each claim against n; drawn wherever a claim has a spread
    "shares",  # of the components of `leave_one_out` in their whole effect; drawn wherever there is `add_one_in`
    "search",  # a search's history, importances, slices and Pareto front
]


class Goal(Strict):
    metric: str = "val/auroc"
    mode: Literal["max", "min"] = "max"


class Optuna(Strict):
    sampler: Literal["tpe", "random", "cmaes", "gp", "nsga2"] = "tpe"
    seed: Number = 0
    storage: Text | None = None  # an Optuna URL (sqlite:///optuna.db) or a journal file (optuna.log)


class Asha(Strict):
    grace_epochs: Annotated[int, Field(ge=1)]
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class Median(Strict):
    """A trial is stopped where its best so far is below the median of the others at the same epoch."""

    grace_epochs: Annotated[int, Field(ge=1)]
    startup_trials: Annotated[int, Field(ge=1)] = 5  # that end before any is stopped


class Scheduler(Strict):
    asha: Asha | None = None
    median: Median | None = None

    @model_validator(mode="after")
    def _one(self) -> Scheduler:
        if (self.asha is None) == (self.median is None):
            raise ValueError("write one of asha: {grace_epochs: …} and median: {grace_epochs: …}")
        return self


class Validation(Strict):
    """What a search is judged on: both parts come from the training images."""

    holdout: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    pseudo_unknown: Annotated[int, Field(ge=1)] | None = None  # None: a third of the known classes


def _published(value: Any) -> Any:
    if not isinstance(value, dict | list) or (isinstance(value, list) and not all(isinstance(v, dict) for v in value)):
        raise ValueError("write {column: number}; for a grid a list of {setting: value, column: number}")
    return value


class Row(Strict):
    """A name and the settings it changes from the base.

    In a file it may have a grid, which makes it many rows, and for them `published` is a list. A row of `row_list` is
    one row, and `published` its numbers by column.
    """

    name: Name
    set: dict[str, Any] | None = None
    grid: Grid = {}
    best_of: Text | None = None  # a search file, from the current folder: its best settings come before `set`
    published: Annotated[Any, BeforeValidator(_published)] = {}

    @property
    def published_only(self) -> bool:
        """A method that this project does not train."""
        return self.set is None and not self.grid and self.best_of is None


class Confirm(Strict):
    top: Annotated[int, Field(ge=1)] = 1
    splits: Numbers = [0]
    seeds: Numbers = [0]
    baselines: list[Row] = []

    _once = field_validator("splits", "seeds")(distinct)

    @property
    def names(self) -> list[str]:
        """Of the rows that retrain the best settings, the best first."""
        return ["best"] if self.top == 1 else [f"best {rank}" for rank in range(1, self.top + 1)]


class LeftOut(Strict):
    """What a row of `leave_one_out` lacks: a setting that can be switched off, or a name and what is set instead."""

    name: Name
    set: Annotated[dict[str, Any], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, item: Any) -> Any:
        return {"name": item} if isinstance(item, str) else item


class Column(Strict):
    """What a column shows, and the settings of its own that its trials have: a column may be another data set.

    `{score}` in a metric is the score of each row's trials. `published` in place of one: no trial has it.
    """

    metric: Text
    set: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _metric_alone(cls, column: Any) -> Any:
        if not isinstance(column, str | dict | Column):
            raise PydanticCustomError("column", "write a metric, as test/auroc, or {metric: …, set: {…}}")
        return {"metric": column} if isinstance(column, str) else column

    @property
    def published_only(self) -> bool:
        """Numbers of a task that this project does not have."""
        return self.metric == "published"


class Claim(Strict):
    """What a paper says of two rows: the first is better than the second, by their published difference.

    `sign` stands where the paper prints no numbers, as in a figure.
    """

    row: Text
    over: Text
    columns: Annotated[list[Text], Field(min_length=1), AfterValidator(distinct)]
    sign: Literal["+", "-"] | None = None


class Decided(Strict):
    """When an ablation adds no more seeds: once every claim is decided, with an error over all looks of `alpha` at
    most."""

    max_seeds: Annotated[int, Field(ge=3, le=200)] = 20
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05  # two-sided, of each claim
    power: Annotated[float, Field(gt=0, lt=1)] = 0.8  # of what a plan says can be detected
    smallest: Annotated[float, Field(gt=0)] | None = None  # points: a difference that is surely smaller is decided too


class Budget(Strict):
    hours: Annotated[float, Field(gt=0)]  # of this machine; on a cluster that was joined, of GPUs (or of CPU cores)


class Paper(Strict):
    """Which published table the file re-runs."""

    file: Literal["asymmetric_distillation", "backmix"]
    table: int | str
    title: Text | None = None  # in our words

    @field_validator("table", mode="plain")
    @classmethod
    def _number_or_name(cls, table: Any) -> int | str:
        if isinstance(table, bool) or not isinstance(table, int | str) or not str(table).strip():
            raise ValueError(f"{shown(table)} is not the number or the name of a table, as 6 or fig4")
        return table


class Resources(Strict):
    """Of one trial. Without a GPU in the cluster, `gpus_per_worker` is not asked for."""

    workers: Annotated[int, Field(ge=1)] = 1  # processes that share the batch
    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    gpus_per_worker: float | Literal["auto"] = 0.0  # auto: as many to a GPU as fit

    @property
    def gpus(self) -> float:
        """Of a worker; a whole one as long as `auto` is not known."""
        return 1.0 if self.gpus_per_worker == "auto" else self.gpus_per_worker

    def sharing(self, gpus: float) -> Resources:
        """The same with another part of a GPU, or none."""
        return self.model_copy(update={"gpus_per_worker": gpus})

    @field_validator("gpus_per_worker", mode="plain")
    @classmethod
    def _number_or_auto(cls, gpus: Any) -> float | str:
        number = isinstance(gpus, int | float) and not isinstance(gpus, bool)
        if gpus != "auto" and not (number and 0 <= gpus <= LARGEST):
            raise ValueError(f"{shown(gpus)} is not a number of GPUs, nor auto")
        return "auto" if gpus == "auto" else float(gpus)

    @model_validator(mode="after")
    def _whole(self) -> Resources:
        if self.gpus_per_worker == "auto" and self.workers > 1:
            raise ValueError("gpus_per_worker: auto puts several trials on a GPU, each with workers: 1")
        gpus = self.gpus
        if gpus > 1 and gpus % 1:
            raise ValueError(f"gpus_per_worker: {gpus:g} is neither a share of one GPU nor a number of GPUs")
        if self.workers > 1 and gpus % 1:
            raise ValueError(
                f"gpus_per_worker: {gpus:g} with {self.workers} workers: processes of one trial that share a GPU gain "
                "nothing. Write workers: 1, or whole GPUs"
            )
        return self


def _until(value: Any) -> Any:
    return {} if value == "decided" else value


def _objective_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _starts(value: Any) -> Any:
    starts = value if isinstance(value, list) else [value]
    if not all(isinstance(start, str | dict) and start for start in starts):
        raise ValueError(
            "write a search file, an MLflow store (sqlite:///…), settings to ask first, or a list of these"
        )
    return starts


def named_in(data: Any, *settings: str) -> Iterator[str]:
    """What stands as one of `settings` anywhere in a part of a file: a name, or those in the list of a grid."""
    if isinstance(data, list):
        for value in data:
            yield from named_in(value, *settings)
    elif isinstance(data, dict):
        for name, value in data.items():
            if name in settings:
                yield from (v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str))
            yield from named_in(value, *settings)


class Spec(Strict):
    """One file with one profile merged in. Keys of the other kind are at their defaults."""

    name: SweepName
    base: dict[str, Any]
    resources: Resources = Resources()
    budget: Budget | None = None

    search: Annotated[dict[str, Dimension], Field(min_length=1)] = {}
    objectives: Annotated[list[Goal], Field(alias="objective", min_length=1), BeforeValidator(_objective_list)] = [
        Goal()
    ]
    optuna: Optuna = Optuna()
    start_from: Annotated[list[Any], BeforeValidator(_starts)] = []
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 0
    scheduler: Scheduler | None = None
    validation: Validation = Validation()
    confirm: Confirm | None = None

    rows: Annotated[list[Row], Field(min_length=1)] = []
    grid: Annotated[Grid, Field(min_length=1)] = {}
    leave_one_out: Annotated[list[LeftOut], Field(min_length=1)] = []
    add_one_in: bool = False  # rows with each of `leave_one_out` alone, and with none
    splits: Numbers = [0]  # of every row; of a search, a proposal is judged by the mean over them
    seeds: Numbers = [0]
    columns: Annotated[dict[Name, Column], Field(min_length=1)] = {
        "Acc.": Column(metric="test/accuracy"),
        "AUROC": Column(metric="test/auroc"),
        "OSCR": Column(metric="test/oscr"),
    }
    published: Annotated[Any, BeforeValidator(_published)] = []  # of the rows of `grid`
    paper: Paper | None = None
    claims: list[Claim] = []
    over: Literal["splits", "seeds"] | None = None  # what intervals are about; None: splits, where there are several
    until: Annotated[Decided | None, BeforeValidator(_until)] = None

    figures: Annotated[list[FigureName], AfterValidator(distinct)] = []

    _once = field_validator("splits", "seeds")(distinct)

    @property
    def is_ablation(self) -> bool:
        return not self.search

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Every objective and mix that the file names, which say what settings it may name."""
        written: list[Row | LeftOut] = [
            *self.rows,
            *(self.confirm.baselines if self.confirm else []),
            *self.leave_one_out,
        ]
        parts: list[Any] = [self.base, self.grid, *(row.grid for row in self.rows)]
        parts += [of.set for of in (*written, *self.columns.values())]
        return tuple(dict.fromkeys(named_in(parts, "objective", "mix")))

    @property
    def table(self) -> dict[str, Setting]:
        """Every setting that the file may name."""
        return settings_table(self.parts)
