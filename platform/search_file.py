"""Reading a search file: its profiles, its overrides, and every mistake named by file, line, key and nearest key."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from platform.check import problems_of, problems_of_spec
from platform.spec import Spec
from trainables import yaml_file
from trainables.config import SETTINGS
from trainables.yaml_file import ConfigError, Document, KeyPath, Problem, nearest

PAPER = "paper"  # the profile that is the file as it stands


@dataclass(frozen=True)
class SearchFile:
    """A search file and its profiles, each checked as it stands."""

    document: Document
    profiles: dict[str, dict[str, Any]]  # name → the file with that profile merged in

    @property
    def path(self) -> str:
        return self.document.name

    def profile(self, name: str, overrides: Sequence[str] = ()) -> Spec:
        """A profile with `--set` overrides on top. Raises `ConfigError` for what is wrong with either."""
        if name not in self.profiles:
            known = ", ".join(self.profiles)
            message = f"{self.path}: no profile {name!r}{nearest(name, self.profiles)}; it has {known}"
            raise ConfigError([Problem((), message)])
        changes = [_parse_override(text) for text in overrides]
        spec, problems = _check(_override(self.profiles[name], changes))
        if spec is None:
            lines = (f"{self._where(name, p.path, overrides)}: {_text(p)}" for p in problems)
            raise ConfigError([Problem((), line) for line in lines])
        return spec

    def _where(self, profile: str, path: KeyPath, overrides: Sequence[str]) -> str:
        """The override, the profile's line or the file's line that a key's value comes from."""
        for text in overrides:
            changed, _ = _parse_override(text)
            if tuple(changed) == path[: len(changed)]:
                return f"--set {text}"
        for end in range(len(path), 0, -1):
            for candidate in (("profiles", profile, *path[:end]), path[:end]):
                if candidate in self.document.lines:
                    return self.document.where(candidate)
        return self.path


def load(path: Path) -> SearchFile:
    """Read a search file and check every profile of it. Raises `ConfigError` with every mistake."""
    document = yaml_file.load(path)
    if not isinstance(document.data, dict):
        raise ConfigError([Problem((), "expected a search file: a mapping with name, base, search, trials")], document)
    raw = copy.deepcopy(document.data)
    profiles = raw.pop("profiles", None) or {}
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise ConfigError([Problem(("profiles",), "expected a name and what it changes, for each profile")], document)
    if PAPER in profiles:
        raise ConfigError([Problem(("profiles", PAPER), "is the file as it stands and cannot be redefined")], document)
    file = SearchFile(document, {name: _merge(raw, changes) for name, changes in {PAPER: {}, **profiles}.items()})
    mistakes: dict[str, Problem] = {}  # a mistake of the base shows once, not once a profile
    for name in file.profiles:
        try:
            file.profile(name)
        except ConfigError as error:
            mistakes |= {p.message: p for p in error.problems}
    if mistakes:
        raise ConfigError(mistakes.values())
    return file


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Key by key; lists, plain values and empty mappings replace what was there."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and value and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def _override(raw: dict[str, Any], changes: Sequence[tuple[list[str], Any]]) -> dict[str, Any]:
    for path, value in changes:
        nested: Any = value
        for key in reversed(path):
            nested = {key: nested}
        raw = _merge(raw, nested)
    return raw


def _parse_override(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError([Problem((), f"--set {text}: write key=value, as --set epochs=5")])
    path = key.split(".")
    if path[0] not in Spec.model_fields:
        if path[0] not in SETTINGS:
            hint = nearest(path[0], [*SETTINGS, *Spec.model_fields])
            raise ConfigError([Problem((), f"--set {text}: unknown key {path[0]!r}{hint}")])
        path = ["base", *path]
    return path, yaml_file.parse(value, f"--set {key}").data


def _text(problem: Problem) -> str:
    key = ".".join(str(p) for p in problem.path)
    return f"{key}: {problem.message}" if key else problem.message


def _check(raw: dict[str, Any]) -> tuple[Spec | None, list[Problem]]:
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        base = raw.get("base")
        settings = list(problems_of(base, ("base",))) if isinstance(base, dict) else []
        return None, [*(_explain(e) for e in error.errors()), *settings]
    problems = problems_of_spec(spec)
    return (None, problems) if problems else (spec, [])


def _explain(error: Any) -> Problem:
    path: KeyPath = tuple(p for p in error["loc"] if not str(p).startswith("<"))
    if error["type"] == "extra_forbidden":
        return Problem(path, f"unknown key{nearest(str(path[-1]), _keys_at(path[:-1]))}")
    if error["type"] == "missing":
        return Problem(path, "is missing")
    if error["type"] == "too_short" and path == ("search",):
        return Problem(path, "is empty: name at least one setting to search")
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    prefix = f"{error['input']!r} is not " if str(error["msg"]).startswith("Input should be ") else ""
    return Problem(path, prefix + message)


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that the models allow at a place of the file."""
    model: Any = Spec
    for part in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ["float", "int", "choice", "log"]
        if isinstance(part, str) and part in model.model_fields:
            model = _inner_model(model.model_fields[part].annotation)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [f.alias or name for name, f in model.model_fields.items()]
    return ["float", "int", "choice", "log"]


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation
    return next((m for m in map(_inner_model, get_args(annotation)) if m), None)
