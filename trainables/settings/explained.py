"""What every setting is, in words and as a JSON schema: read off the annotations and the comments of the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from trainables.protocols.protocols import PROTOCOLS
from trainables.reading.values import Range
from trainables.reading.yaml_file import ConfigError, Problem, nearest
from trainables.settings.config import TRIAL_SETTINGS, TrialConfig
from trainables.settings.custom import default_of
from trainables.settings.methods import METHODS
from trainables.settings.mixes import MIXES
from trainables.settings.objectives import OBJECTIVES
from trainables.settings.resolving import SETTINGS, resolve

NEEDED = {"teacher": {}, "outlier_set": "photos"}  # what some methods do not resolve without
_OPEN = frozenset({"objective", "mix", "score"})  # that take a part of one's own as well: module:Class
_END = r"(?<!al)(?<!App)(?<!Eq)\. (?=[A-Z`])"  # of a sentence


def notes(of: type) -> dict[str, str]:
    """The comment behind each field of a class and of those that it comes from."""
    sources = [c for c in reversed(of.__mro__) if c is not object]
    return {name: note for c in sources for name, note in _comments(inspect.getsource(c))}


def _comments(source: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"^    (\w+): [^#\n]*?(?:#\s*(.*))?$", source, flags=re.M):
        if match[2]:
            yield match[1], match[2]


def all_notes() -> dict[str, str]:
    """What the code says of each setting, of every trial or of some objectives and mixes."""
    parts: list[type] = [*OBJECTIVES.values(), *MIXES.values()]
    found = {name: note for part in parts for name, note in notes(part).items()} | notes(TrialConfig)
    return found | {"method": "what the papers call an objective with a mix"}


def doc_of(part: type) -> str:
    """The docstring of an objective or a mix, in one line."""
    return " ".join((inspect.getdoc(part) or "").split())


def said_of(method: str) -> str:
    """The first sentence about a method: about its mix where it has one, else about its objective."""
    objective, mix = METHODS[method]["objective"], METHODS[method].get("mix")
    part = MIXES[mix] if mix and mix != "none" else OBJECTIVES[objective]
    return re.split(_END, doc_of(part))[0].rstrip(".")


def in_words(annotation: Any) -> str:
    """What an annotation admits."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{in_words(args[0])}, {args[1]}"
    if origin in (UnionType, Union):
        return " or ".join(in_words(a) for a in args if a is not type(None))
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin is tuple:
        return f"list of: {in_words(args[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return "a mapping of settings"
    return {int: "a whole number", float: "a number", bool: "`true`, `false`", str: "a name"}[annotation]


def as_schema(annotation: Any) -> dict[str, Any]:
    """What an annotation admits, as a JSON schema."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds: Range = args[1]
        low = {"exclusiveMinimum" if bounds.open_low else "minimum": bounds.low}
        return as_schema(args[0]) | low | ({"maximum": bounds.high} if bounds.high < float("inf") else {})
    if origin in (UnionType, Union):
        kinds = [as_schema(a) for a in args if a is not type(None)]
        return {"anyOf": [*kinds, {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": as_schema(args[0])}
    if origin is not None and issubclass(origin, Mapping):
        return {"$ref": "#/$defs/settings"}
    return {"type": {int: "integer", float: "number", bool: "boolean", str: "string"}[annotation]}


def settings_schema() -> dict[str, Any]:
    """A mapping of settings. Unknown names are let pass: a part of one's own brings settings of its own."""
    said, found = all_notes(), {}
    for name, setting in SETTINGS.items():
        schema = as_schema(setting.annotation)
        if name in _OPEN:
            schema = {"anyOf": [schema, {"type": "string", "pattern": ":" if name != "score" else ""}]}
        owners = f" (of {', '.join(setting.owners)})" if setting.owners else ""
        if note := f"{said.get(name, '')}{owners}".strip():
            schema = {**schema, "description": note}
        found[name] = schema
    found["method"] = {
        "anyOf": [{"const": m, "description": said_of(m)} for m in METHODS],
        "description": said["method"],
    }
    known = [{"const": name, "description": _said_of_protocol(name)} for name in PROTOCOLS]
    found["protocol"] = {"anyOf": [*known, {"type": "string"}], "description": said["protocol"]}
    return {"type": "object", "properties": found}


def _said_of_protocol(name: str) -> str:
    of = PROTOCOLS[name]
    unknown = ", ".join((*of.parts, *of.other_sets))
    own = f"; unknown sets {unknown}" if unknown else ""
    return f"{of.num_classes} classes, {of.image_size} px; split families {', '.join(of.families)}{own}"


def settings_of(method: str) -> list[tuple[str, Any, str, str]]:
    """Each setting that trials have, or those of a `method` alone: its default there, what it may be, what it does.

    Raises `ConfigError` for a method that there is not.
    """
    if method and method not in METHODS:
        known = f"{method}: no method of this name{nearest(method, METHODS)}; there are {', '.join(METHODS)}"
        raise ConfigError([Problem((), known)])
    said = all_notes()
    if method:
        config = resolve({"method": method, **{n: v for n, v in NEEDED.items() if _has(method, n)}})
        defaults = {n: v for n, v in config.settings().items() if n not in ("objective", "mix", "teacher")}
        if _has(method, "teacher"):
            defaults["teacher"] = "its student's settings"
    else:
        trial = {f.name: f.default for f in fields(TrialConfig) if f.name in TRIAL_SETTINGS}
        parts: list[type] = [*OBJECTIVES.values(), *MIXES.values()]
        defaults = {**trial, **{f.name: default_of(f) for part in parts for f in fields(part)}}
    return [(name, value, in_words(SETTINGS[name].annotation), said.get(name, "")) for name, value in defaults.items()]


def _has(method: str, setting: str) -> bool:
    parts = METHODS[method]
    return SETTINGS[setting].belongs_to([parts["objective"], parts.get("mix", "")]) and bool(SETTINGS[setting].owners)
