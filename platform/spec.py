"""The shape of a search file, as pydantic models. What its settings may be is `trainables.config`'s to say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from trainables.config import TrialConfig, teacher_settings
from trainables.methods import METHODS, DistillSettings

ROW_NAME = r"[\w.\- ]+"  # what MLflow takes in a metric's name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FloatRange(_Strict):
    bounds: Annotated[list[float], Field(alias="float", min_length=2, max_length=2)]
    log: bool = False

    @field_validator("bounds")
    @classmethod
    def _ordered(cls, bounds: list[float]) -> list[float]:
        return _increasing(bounds)

    @model_validator(mode="after")
    def _positive(self) -> FloatRange:
        if self.log and self.bounds[0] <= 0:
            raise ValueError("a logarithmic range starts above 0")
        return self


class IntRange(_Strict):
    bounds: Annotated[list[int], Field(alias="int", min_length=2, max_length=2)]

    @field_validator("bounds")
    @classmethod
    def _ordered(cls, bounds: list[int]) -> list[int]:
        return _increasing(bounds)


class Choice(_Strict):
    choices: Annotated[list[str | float | int | bool], Field(alias="choice", min_length=2)]


def _increasing(bounds: list[Any]) -> list[Any]:
    if not bounds[0] < bounds[1]:
        raise ValueError(f"{bounds[0]} is not below {bounds[1]}: write [low, high]")
    return bounds


def _kind(value: Any) -> str | None:
    if isinstance(value, FloatRange | IntRange | Choice):
        return {FloatRange: "<float>", IntRange: "<int>", Choice: "<choice>"}[type(value)]
    kinds = [k for k in ("float", "int", "choice") if isinstance(value, dict) and k in value]
    return f"<{kinds[0]}>" if len(kinds) == 1 else None


Dimension = Annotated[
    Union[  # noqa: UP007 (Annotated members need Union)
        Annotated[FloatRange, Tag("<float>")], Annotated[IntRange, Tag("<int>")], Annotated[Choice, Tag("<choice>")]
    ],
    Discriminator(
        _kind,
        custom_error_type="dimension",
        custom_error_message="write {float: [low, high]}, {int: [low, high]} or {choice: [a, b, …]}",
    ),
]


class Objective(_Strict):
    metric: str = "val/auroc"
    mode: Literal["max", "min"] = "max"


class Optuna(_Strict):
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = 0


class Asha(_Strict):
    grace_epochs: Annotated[int, Field(ge=1)]
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class Scheduler(_Strict):
    asha: Asha


class Validation(_Strict):
    """What a search is judged on: both parts come from the training images."""

    holdout: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    pseudo_unknown: Annotated[int, Field(ge=1)] | None = None  # None: a third of the known classes


class Row(_Strict):
    """A name and the settings it changes from the base."""

    name: Annotated[str, Field(pattern=rf"^{ROW_NAME}$")]
    set: dict[str, Any]


class Confirm(_Strict):
    top: Annotated[int, Field(ge=1)] = 1
    splits: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    baselines: list[Row] = []

    @model_validator(mode="after")
    def _distinct(self) -> Confirm:
        for name in ("splits", "seeds"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} has one value twice: it would count as two results")
        names = [row.name for row in self.baselines]
        if len(set(names)) != len(names) or any(re.fullmatch(r"best( \d+)?", name) for name in names):
            raise ValueError("baselines need distinct names, and `best` is the search's own row")
        return self


class Resources(_Strict):
    """Of one trial. Without a GPU in the cluster, `gpus_per_worker` is not asked for."""

    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0


class Spec(_Strict):
    """One search file with one profile merged in."""

    name: Annotated[str, Field(min_length=1)]
    base: dict[str, Any]
    search: Annotated[dict[str, Dimension], Field(min_length=1)]
    objective: Objective = Objective()
    optuna: Optuna = Optuna()
    trials: Annotated[int, Field(ge=1)]
    scheduler: Scheduler | None = None
    validation: Validation = Validation()
    confirm: Confirm | None = None
    resources: Resources = Resources()

    def search_settings(self) -> dict[str, Any]:
        """The base of a search trial: validated on training images, never tested."""
        return {**self.with_teacher({}), **self.validation_settings()}

    def validation_settings(self) -> dict[str, Any]:
        """What makes a trial one of the search."""
        hidden = self.validation.pseudo_unknown
        if hidden is None:
            hidden = len(TrialConfig.from_settings(self.base).known_classes) // 3
        return {"holdout": self.validation.holdout, "pseudo_unknown": hidden, "test": False}

    def with_teacher(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The base with `changes`, and the teacher written out where the method needs one.

        A teacher comes from the base: what a search or a row changes of the student leaves it as it is, but for what
        a row changes under `teacher`.
        """
        settings = {**self.base, **changes}
        if issubclass(METHODS[settings["method"]], DistillSettings):
            student = {name: value for name, value in self.base.items() if name != "teacher"}
            teacher = {**self.base.get("teacher", {}), **changes.get("teacher", {})}
            settings["teacher"] = teacher_settings(student, teacher)
        return settings
