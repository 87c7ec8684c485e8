"""Values of settings: what an annotation admits, and what is said where a value is something else."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from trainables.reading.yaml_file import nearest


@dataclass(frozen=True)
class Range:
    """Bounds of a number; `open_low` excludes the lower one."""

    low: float
    high: float = float("inf")
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return above and value <= self.high and (isinstance(value, int) or math.isfinite(value))

    def __str__(self) -> str:
        below = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        return below if self.high == float("inf") else f"{below} and at most {self.high:g}"


Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, open_low=True)]

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def convert(value: Any, annotation: Any) -> Any:
    """`value` as the annotated type, or `ValueError`. Only what loses nothing is converted (1 to 1.0)."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        number = convert(value, args[0])
        if number not in args[1]:
            raise ValueError(f"{shown(value)} is out of range: {args[1]}")
        return number
    if origin in (types.UnionType, Union):
        return None if value is None else convert(value, next(a for a in args if a is not type(None)))
    if origin is Literal:
        if not isinstance(value, str) or value not in args:
            hint = nearest(value, args) if isinstance(value, str) else misread(value)
            raise ValueError(f"{shown(value)} is not one of {', '.join(args)}{hint}")
        return value
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"{shown(value)} is not a mapping of settings, as {{backbone: wrn16-2}}")
        return dict(value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{shown(value)} is not a list of {'whole numbers' if args[0] is int else 'names'}")
        return tuple(convert(v, args[0]) for v in value)
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{shown(value)} is larger than any number of this kind") from None
    if not isinstance(value, annotation) or (annotation is not bool and isinstance(value, bool)):
        hint = misread(value) if annotation is str else ""
        raise ValueError(f"{shown(value)} is not {_KINDS[annotation]}{hint}")
    return value


def supported(annotation: Any) -> bool:
    """Whether `convert` knows what a setting of this type may be."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return args[0] in (int, float) and len(args) == 2 and isinstance(args[1], Range)
    if origin in (types.UnionType, Union):
        rest = [a for a in args if a is not type(None)]
        return len(rest) == 1 and supported(rest[0])
    if origin is Literal:
        return all(isinstance(a, str) for a in args)
    if origin is tuple:
        return len(args) == 2 and args[1] is ... and args[0] is not bool and supported(args[0])
    return annotation in _KINDS or annotation == Mapping[str, Any]


def listed(texts: Iterable[str]) -> str:
    """`a, b and c`."""
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def shown(value: Any) -> str:
    """A value as a message quotes it: short, a date as it was written."""
    text = str(value) if isinstance(value, date) else repr(value)
    return text if len(text) <= 60 else f"{text[:50]}…"


def misread(value: Any) -> str:
    """What YAML made of an unquoted word, where a text was meant."""
    if isinstance(value, bool):
        return f" (YAML reads {'yes, on' if value else 'no, off'} and {str(value).lower()} as a truth value: quote it)"
    if isinstance(value, date):
        return " (YAML reads it as a date: quote it)"
    return ""
