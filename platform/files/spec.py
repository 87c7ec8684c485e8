"""The shape of a sweep's file, as pydantic models. What its settings may be is `trainables.settings.config`'s to say.

A file is a *search*, which lets Optuna choose settings, or an *ablation*, whose rows are all trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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

from platform.files.dimensions import Dimension, Grid, Number, Numbers, Strict, Text, distinct
from platform.files.names import Name, SweepName
from platform.files.needs import absent
from platform.files.rows import expand
from trainables.reading.values import shown
from trainables.settings.custom import is_custom
from trainables.settings.methods import laid_over
from trainables.settings.resolving import Setting, has_teacher, owners_of, resolve, settings_table, teacher_settings

COMMON_KEYS = ("name", "base", "resources", "figures", "profiles")
SEARCH_KEYS = ("search", "objective", "optuna", "trials", "scheduler", "validation", "confirm")
ROW_KEYS = ("rows", "grid", "leave_one_out")  # one of them makes a file an ablation
ABLATION_KEYS = (*ROW_KEYS, "splits", "seeds", "columns", "published", "paper", "needs", "claims")


Figure = Literal[
    "accuracy-auroc",  # of every row: Fig. 1 of the asymmetric paper
    "class-distances",  # between class means of features: its Fig. 2 (a)
    "norms",  # of features and logits, known and unknown: its Fig. 2 (b)
    "teacher",  # its errors and over-confidence on mixed images: its Fig. 2 (c)
    "feature-space",  # t-SNE: its Fig. 4
    "uncertainty",  # 1 - max p, known and unknown: its Fig. 5
    "grid",  # two settings of a grid against each column: Fig. 4 of BackMix
    "masks",  # estimated foregrounds, and the mixed images: its Figs. 5 and 6
    "confidence",  # max p and entropy, known and unknown: Fig. 1 of its supplement
    "search",  # a search's history, importances, slices and Pareto front
]


class Objective(Strict):
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

    `{score}` in a metric is the score of each row's trials.
    """

    metric: Text
    set: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _metric_alone(cls, column: Any) -> Any:
        if not isinstance(column, str | dict | Column):
            raise PydanticCustomError("column", "write a metric, as test/auroc, or {metric: …, set: {…}}")
        return {"metric": column} if isinstance(column, str) else column


class Claim(Strict):
    """What a paper says of two rows: the first is better than the second, by their published difference.

    `sign` stands where the paper prints no numbers, as in a figure.
    """

    row: Text
    over: Text
    columns: Annotated[list[Text], Field(min_length=1)]
    sign: Literal["+", "-"] | None = None


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
        if gpus != "auto" and not (number and 0 <= gpus < math.inf):
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


def _objective_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


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

    search: Annotated[dict[str, Dimension], Field(min_length=1)] = {}
    objectives: Annotated[list[Objective], Field(alias="objective", min_length=1), BeforeValidator(_objective_list)] = [
        Objective()
    ]
    optuna: Optuna = Optuna()
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 0
    scheduler: Scheduler | None = None
    validation: Validation = Validation()
    confirm: Confirm | None = None

    rows: Annotated[list[Row], Field(min_length=1)] = []
    grid: Annotated[Grid, Field(min_length=1)] = {}
    leave_one_out: Annotated[list[LeftOut], Field(min_length=1)] = []
    splits: Numbers = [0]
    seeds: Numbers = [0]
    columns: Annotated[dict[Name, Column], Field(min_length=1)] = {
        "Acc.": Column(metric="test/accuracy"),
        "AUROC": Column(metric="test/auroc"),
        "OSCR": Column(metric="test/oscr"),
    }
    published: Annotated[Any, BeforeValidator(_published)] = []  # of the rows of `grid`
    paper: Paper | None = None
    claims: list[Claim] = []
    needs: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}  # values of settings that the project lacks

    figures: Annotated[list[Figure], AfterValidator(distinct)] = []

    _once = field_validator("splits", "seeds")(distinct)

    @property
    def is_ablation(self) -> bool:
        return not self.search

    @property
    def objective(self) -> Objective:
        """The first of `objectives`."""
        return self.objectives[0]

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

    def row_list(self) -> list[Row]:
        """The rows of an ablation, with grids multiplied out and `leave_one_out` written out."""
        return [row for _, row in expand(self)]

    def column_groups(self) -> list[tuple[str, dict[str, Any]]]:
        """Columns whose trials are the same, as the first of them and the settings that all of them change."""
        groups: dict[str, tuple[str, dict[str, Any]]] = {}
        for name, column in self.columns.items():
            groups.setdefault(repr(sorted(column.set.items())), (name, column.set))
        return list(groups.values())

    def lacking(self, changes: Mapping[str, Any], column: Mapping[str, Any]) -> list[str]:
        """What the project lacks for a row's trials of a column; empty where they can be trained."""
        if not self.needs:
            return []
        settings = laid_over({**self.base, **column}, changes)
        parts = owners_of(settings)
        foreign = {n for n in settings if n in self.table and (of := self.table[n].owners) and not parts & {*of}}
        return absent({n: v for n, v in settings.items() if n not in foreign}, self.needs)

    def untrained(self) -> tuple[dict[str, list[str]], bool]:
        """What the project lacks, with the rows (of the columns) that wait for it, and whether any row can be trained.

        Rows of grids that take their settings from a search count by what they set themselves.
        """
        if not self.needs:
            return {}, True  # a file with nothing to train is refused when it is read
        waiting: dict[str, list[str]] = {}
        trained = False
        groups = self.column_groups()
        for row in self.row_list():
            if row.published_only:
                continue
            for name, own in groups:
                lacking = self.lacking(row.set or {}, own)
                trained = trained or not lacking
                for need in lacking:
                    waiting.setdefault(need, []).append(f"{row.name} ({name})" if own else row.name)
        return waiting, trained

    def search_order(self) -> list[str]:
        """The searched settings, each after those that its `when` names; raises `ValueError` for a circle."""
        ordered: dict[str, None] = {}

        def add(name: str, above: tuple[str, ...]) -> None:
            if name in above:
                raise ValueError(f"{' needs '.join([*above[above.index(name) :], name])}: a circle")
            for other in self.search[name].when:
                if other in self.search:
                    add(other, (*above, name))
            ordered[name] = None

        for name in self.search:
            if name not in ordered:
                add(name, ())
        return list(ordered)

    def applies(self, name: str, proposed: Mapping[str, Any]) -> bool:
        """Whether the setting `name` is searched, given what was proposed of those before it in `search_order`.

        A setting that is not searched itself, since its own `when` does not hold, fulfils no condition.
        """
        fixed = {other: value for other, value in self.base.items() if other not in self.search}
        values = {**fixed, **proposed}
        return all(other in values and values[other] in wanted for other, wanted in self.search[name].when.items())

    def search_settings(self) -> dict[str, Any]:
        """The base of a search trial: validated on training images, never tested."""
        return {**self.with_teacher({}), **self.validation_settings()}

    def validation_settings(self) -> dict[str, Any]:
        """What makes a trial one of the search."""
        hidden = self.validation.pseudo_unknown
        if hidden is None:
            hidden = len(resolve(self.with_teacher({})).known_classes) // 3
        return {"holdout": self.validation.holdout, "pseudo_unknown": hidden, "test": False}

    def with_teacher(self, changes: Mapping[str, Any], column: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The base with `changes`, and the teacher written out where the method needs one.

        A teacher comes from the base: what a search or a row changes of the student leaves it as it is, but for what
        a row changes under `teacher`. What a `column` changes, a data set and its recipe, is the teacher's as well.
        """
        base = {**self.base, **(column or {})}
        settings = laid_over(base, changes)
        if has_teacher(settings):
            student = {name: value for name, value in base.items() if name != "teacher"}
            teacher: dict[str, Any] = {"method": "plain"}
            for of in (self.base, column or {}, changes):
                teacher = laid_over(teacher, of.get("teacher", {}))
            settings["teacher"] = teacher_settings(student, teacher)
        return self._without_foreign(settings, owners_of(settings))

    def _without_foreign(self, settings: dict[str, Any], parts: set[str]) -> dict[str, Any]:
        """Without what only objectives and mixes of one's own have, other ones than `parts`: alone, it would not be
        known."""
        foreign = {name for name in self._custom_settings if not parts & {*self.table[name].owners}}
        return {name: value for name, value in settings.items() if name not in foreign} if foreign else settings

    @cached_property
    def _custom_settings(self) -> frozenset[str]:
        return frozenset(n for n, s in self.table.items() if s.owners and all(map(is_custom, s.owners)))
