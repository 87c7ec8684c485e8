"""What a search may range over: the dimensions of a search file, and the value types that its models share."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import Annotated, Any, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from trainables.reading.values import misread, shown

LARGEST = sys.float_info.max  # YAML has whole numbers beyond it, which no calculation takes


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _finite(value: float) -> float:
    if value in (float("inf"), float("-inf")) or value != value:
        raise ValueError(f"{value} is not a finite number")
    return value


def _plain(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError(f"{shown(value)} is not a text, a number or a boolean{misread(value)}")
    return _finite(value) if isinstance(value, float) else value


def distinct(values: list[Any]) -> list[Any]:
    # 1, 1.0 and true are equal in Python, and a reader would take the first two for one value as well.
    seen = set()
    for value in values:
        key = _key(value)
        if key in seen:
            raise ValueError(f"has {shown(value)} twice")
        seen.add(key)
    return values


def _key(value: Any) -> Hashable:
    """Equal for values that a file means as one: 1 and 1.0, but not 1 and true."""
    if isinstance(value, dict):
        return frozenset((name, _key(v)) for name, v in value.items())
    return tuple(map(_key, value)) if isinstance(value, list) else (isinstance(value, bool), value)


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


Text = Annotated[str, Field(min_length=1), BeforeValidator(lambda v: _filled(v) if isinstance(v, str) else v)]
Finite = Annotated[float, BeforeValidator(lambda v: _finite(v) if isinstance(v, float) else v)]
Number = Annotated[int, Field(ge=0, le=2**32 - 1)]  # of a split or a seed
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]  # what Optuna's floats tell apart
Numbers = Annotated[list[Number], Field(min_length=1)]
Grid = dict[str, Annotated[list[Any], Field(min_length=1), AfterValidator(distinct)]]


class _Dimension(Strict):
    # Searched only while each of these other settings has one of these values.
    when: dict[str, list[Any]] = {}

    @field_validator("when", mode="before")
    @classmethod
    def _listed(cls, when: Any) -> Any:
        if not isinstance(when, dict) or not when or [] in when.values():
            raise ValueError("write {other_setting: [values that it must have one of]}")
        return {name: value if isinstance(value, list) else [value] for name, value in when.items()}


class FloatRange(_Dimension):
    bounds: Annotated[list[Finite], Field(alias="float", min_length=2, max_length=2)]
    step: Annotated[Finite, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _possible(self) -> FloatRange:
        _check_range(self.bounds[0], self.bounds[1], self.step, self.log)
        return self


class IntRange(_Dimension):
    bounds: Annotated[list[Whole], Field(alias="int", min_length=2, max_length=2)]
    step: Annotated[int, Field(ge=1)] = 1
    log: bool = False

    @model_validator(mode="after")
    def _possible(self) -> IntRange:
        _check_range(self.bounds[0], self.bounds[1], self.step if self.step > 1 else None, self.log)
        return self


def _check_range(low: float, high: float, step: float | None, log: bool) -> None:
    if not low < high:
        raise ValueError(f"{shown(low)} is not below {shown(high)}: write [low, high]")
    if log and low <= 0:
        raise ValueError("a logarithmic range starts above 0")
    if log and step:
        raise ValueError("has log and step: a logarithmic range has no even steps")
    if step and (step > high - low or abs(round((high - low) / step) * step - (high - low)) > 1e-9 * (high - low)):
        raise ValueError(f"step {step:g} does not lead from {low:g} to {high:g}")


class Choice(_Dimension):
    choices: Annotated[list[Annotated[Any, BeforeValidator(_plain)]], Field(alias="choice", min_length=2)]

    _once = field_validator("choices")(distinct)


def within(value: Any, dimension: FloatRange | IntRange | Choice) -> bool:
    """Whether a dimension has a value."""
    if isinstance(dimension, Choice):
        return value in dimension.choices
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    low, high = dimension.bounds
    whole = isinstance(dimension, FloatRange) or value == int(value)
    steps = (value - low) / dimension.step if dimension.step else 0.0
    return low <= value <= high and whole and abs(steps - round(steps)) < 1e-9


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
