"""Reading a search file: its profiles, its overrides, and every mistake named by file, line, key and nearest key."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from platform.files.check import problems_of_kind, problems_of_spec
from platform.files.names import shown_name
from platform.files.spec import ROW_KEYS, Spec, named_in
from trainables.reading import yaml_file
from trainables.reading.values import misread, shown
from trainables.reading.yaml_file import (
    SHOWN_PROBLEMS,
    ConfigError,
    Document,
    KeyPath,
    Problem,
    nearest,
    nearest_word,
    under,
)
from trainables.settings.methods import laid_over
from trainables.settings.resolving import called, check_settings, owners_of, settings_table

PAPER = "paper"  # the profile that is the file as it stands
_NO_SEARCH = "is not a search: it has no `search`"


@dataclass(frozen=True)
class SearchFile:
    """A search file and its profiles, each checked as it stands."""

    document: Document
    profiles: dict[str, dict[str, Any]]  # name → the file with that profile merged in
    chain: tuple[Path, ...] = ()  # the files being read, each named by the one before it; this one is the last

    @property
    def path(self) -> str:
        return self.document.name

    @property
    def _settings(self) -> Mapping[str, Any]:
        """Every setting that the file may name."""
        return settings_table(named_in(self.document.data, "objective", "mix"))

    def profile(self, name: str, overrides: Sequence[str] = ()) -> Spec:
        """A profile with `--set` overrides on top. Raises `ConfigError` for what is wrong with either."""
        if name not in self.profiles:
            known = ", ".join(self.profiles)
            message = f"{self.path}: no profile {name!r}{nearest(name, self.profiles)}; it has {known}"
            raise ConfigError([Problem((), message)])
        changes = [_parse_override(text, self._settings) for text in overrides]
        spec, problems = _check(_override(self.profiles[name], changes))
        if spec and not problems:
            problems = [*_best_of_problems(spec, name, self.chain), *_start_problems(spec, name, self.chain)]
        if spec is None or problems:
            lines = (f"{self._where(name, p.path, overrides, changes)}: {_text(p)}" for p in problems)
            raise ConfigError([Problem((), line) for line in lines])
        return spec

    def check(self, profiles: Sequence[str], overrides: Sequence[str]) -> None:
        """Raise `ConfigError` where `overrides` have a mistake in each of the `profiles`, one of which will run."""
        errors = []
        for name in profiles:
            try:
                self.profile(name, overrides)
                return
            except ConfigError as error:
                errors.append(error)
        raise errors[0]

    def named(self, setting: str, overrides: Sequence[str] = ()) -> list[str]:
        """What stands as `setting` anywhere in the file or in `--set`."""
        changes = [_parse_override(text, self._settings) for text in overrides]
        parts = [self.document.data, *({path[-1]: value} for path, value in changes)]
        return list(named_in(parts, setting))

    def _where(
        self, profile: str, path: KeyPath, overrides: Sequence[str], changes: Sequence[tuple[list[str], Any]]
    ) -> str:
        """The override, the profile's line or the file's line that a key's value comes from."""
        for text, (changed, _) in zip(overrides, changes, strict=True):
            if tuple(changed) == path[: len(changed)]:
                return f"--set {text}"
        for end in range(len(path), 0, -1):
            for candidate in (("profiles", profile, *path[:end]), path[:end]):
                if candidate in self.document.lines:
                    return self.document.where(candidate)
        return self.document.where(())


def changing_results(overrides: Sequence[str]) -> tuple[str, ...]:
    """Those of `--set` that results depend on: how many workers, GPUs and hours made them is no part of a protocol."""
    return tuple(change for change in overrides if not change.startswith(("resources.", "budget")))


def changing_trials(changes: Sequence[str]) -> list[str]:
    """Those that make other trials, and not only another number of them or other intervals."""
    return [change for change in changes if not change.startswith(("until", "over="))]


def load(path: Path, chain: tuple[Path, ...] = ()) -> SearchFile:
    """Read a search file, which those of `chain` led to, and check every profile of it.

    Raises `ConfigError` with every mistake.
    """
    document = yaml_file.load(path)
    if not isinstance(document.data, dict):
        message = "expected a mapping with name, base, and either search and trials or rows"
        raise ConfigError([Problem((), message)], document)
    raw = copy.deepcopy(document.data)
    profiles = raw.pop("profiles", None) or {}
    if not isinstance(profiles, dict):
        raise ConfigError([Problem(("profiles",), f"{shown(profiles)} is not a mapping of profiles")], document)
    for name, changes in profiles.items():
        try:
            shown_name(name)
        except ValueError as error:
            raise ConfigError([Problem(("profiles", name), str(error))], document) from error
        if not isinstance(changes, dict):
            message = f"{shown(changes)} is not a mapping of what the profile changes"
            raise ConfigError([Problem(("profiles", name), message)], document)
    if PAPER in profiles:
        raise ConfigError([Problem(("profiles", PAPER), "is the file as it stands and cannot be redefined")], document)
    named = {PAPER: {}, **profiles}
    merged = {name: _without_columns(_merge(raw, changes)) for name, changes in named.items()}
    file = SearchFile(document, merged, (*chain, path))
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


def _without_columns(raw: dict[str, Any]) -> dict[str, Any]:
    """A profile may take a column out, `columns: {SVHN: null}`, and with it what rows publish of it."""
    columns, rows = raw.get("columns"), raw.get("rows")
    if not isinstance(columns, dict):
        return raw
    out = [name for name, column in columns.items() if column is None]
    kept = {**raw, "columns": {n: c for n, c in columns.items() if c is not None}}
    if isinstance(rows, list):
        kept["rows"] = [_without_published(row, out) for row in rows]
    return kept


def _without_published(row: Any, columns: Sequence[str]) -> Any:
    published = row.get("published") if isinstance(row, dict) else None
    if not isinstance(published, dict):
        return row
    return {**row, "published": {name: value for name, value in published.items() if name not in columns}}


def _override(raw: dict[str, Any], changes: Sequence[tuple[list[str], Any]]) -> dict[str, Any]:
    for path, value in changes:
        nested: Any = value
        for key in reversed(path):
            nested = {key: nested}
        raw = _merge(raw, nested)
    return raw


def load_search(path: Path, profile: str, chain: tuple[Path, ...]) -> Spec:
    """The search in a file that the last of `chain` takes settings from: its profile of the same name, or as it stands.

    Raises `ConfigError` where the file is missing, has a mistake, is no search, or is being read already.
    """
    data = yaml_file.load(path).data  # an ablation is not followed: it may name the file that named it
    if not isinstance(data, dict) or "search" not in data:
        raise ConfigError([Problem((), f"{path} {_NO_SEARCH}")])
    for i, one in enumerate(chain):
        if one.resolve() == path.resolve():
            circle = ", ".join(map(str, (*chain[i:], path)))
            raise ConfigError([Problem((), f"is a circle: {circle}. Take one of these out")])
    file = load(path, chain)
    return file.profile(profile if profile in file.profiles else PAPER)


def _best_of_problems(spec: Spec, profile: str, chain: tuple[Path, ...]) -> Iterator[Problem]:
    """Rows that take their settings from a search that is not there, or has none for them."""
    for i, row in enumerate(spec.rows):
        if row.best_of is None:
            continue
        path: KeyPath = ("rows", i, "best_of")
        try:
            search = load_search(Path(row.best_of), profile, chain)
        except ConfigError as error:
            yield Problem(path, str(error).splitlines()[0])
            continue
        changes = laid_over(spec.base, {**(row.set or {}), **{name: values[0] for name, values in row.grid.items()}})
        if not set(search.search) - {*(row.set or {}), *row.grid}:
            yield Problem(path, f"takes nothing: the row sets all that is searched, {', '.join(search.search)}")
        for name in search.search:
            if not search.table[name].belongs_to(owners_of(changes)):
                yield Problem(path, f"searches {name}, which {called(changes)} has not")


def _start_problems(spec: Spec, profile: str, chain: tuple[Path, ...]) -> Iterator[Problem]:
    """Files that a search cannot start from."""
    for i, start in enumerate(spec.start_from):
        if isinstance(start, str) and "://" not in start:
            try:
                load_search(Path(start), profile, chain)
            except ConfigError as error:
                said = str(error).splitlines()[0]
                if said.endswith(_NO_SEARCH):
                    said += ". A search starts from what searches have seen, which is never a test"
                yield Problem(("start_from", i), said)


def _parse_override(text: str, settings: Mapping[str, Any]) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError([Problem((), f"--set {text}: write key=value, as --set epochs=5")])
    path = key.split(".")
    if path[0] == "profiles":
        message = f"--set {text}: changes the profile that runs: leave `profiles.NAME.` out, and name it by --profile"
        raise ConfigError([Problem((), message)])
    if path[0] not in _keys_at(()):
        if path[0] not in settings:
            hint = nearest(path[0], [*settings, *_keys_at(())])
            raise ConfigError([Problem((), f"--set {text}: unknown key {path[0]!r}{hint}")])
        path = ["base", *path]
    return path, yaml_file.parse(value, f"--set {key}").data


def _text(problem: Problem) -> str:
    key = yaml_file.key_of(problem.path)
    return f"{key}: {problem.message}" if key else problem.message


def _check(raw: dict[str, Any]) -> tuple[Spec | None, list[Problem]]:
    kind = problems_of_kind(raw)
    if kind and set(kind[0].path) & raw.keys():
        return None, kind  # a key of the other kind: what it holds need not be right
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        problems = [*_explained(error, raw, kind)]
        if isinstance(base := raw.get("base"), dict):
            problems += under(("base",), check_settings(base, named_in(raw, "objective", "mix"))[1])
        return None, problems
    problems = kind or problems_of_spec(spec)
    return (None, problems) if problems else (spec, [])


def _explained(error: ValidationError, raw: dict[str, Any], kind: list[Problem]) -> Iterator[Problem]:
    """One problem a place; a key that is missing because it is misspelt is told as misspelt alone."""
    told: dict[KeyPath, Problem] = {}
    meant: set[KeyPath] = set()
    for one in error.errors():
        path = _path(one["loc"], raw)
        if (
            one["type"] == "extra_forbidden"
            and len(told) < SHOWN_PROBLEMS
            and (close := nearest_word(str(path[-1]), _keys_at(path[:-1])))
        ):
            meant.add((*path[:-1], close))
        told.setdefault(path, Problem(path, _said(one, path) if len(told) < SHOWN_PROBLEMS else str(one["msg"])))
    meant -= told.keys() & {("profiles",)}  # which the models never see: it is no slip for itself
    for problem in kind:
        told.setdefault(problem.path, problem)
    if meant & {(key,) for key in ("search", *ROW_KEYS)}:
        meant.add(())  # which of both kinds the file is
    return (problem for path, problem in told.items() if path not in meant)


def _path(loc: tuple[str | int, ...], raw: Any) -> KeyPath:
    """A place as the file has it: without pydantic's tags, and without the list around what may stand alone."""
    path: list[str | int] = []
    for part in loc:
        if part in ("<float>", "<int>", "<choice>", "[key]") or (isinstance(part, int) and isinstance(raw, dict)):
            continue
        path.append(part)
        inside = isinstance(raw, dict) and part in raw
        raw = raw[part] if inside or (isinstance(raw, list) and isinstance(part, int)) else None
    return tuple(path)


def _said(error: Any, path: KeyPath) -> str:
    """What pydantic found, in the words of this file."""
    kind, value, message = error["type"], error["input"], str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden" and path == ("profiles",):
        return "a profile has none of its own"
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(path[-1]), _keys_at(path[:-1]))}"
    if kind == "missing":
        return "is missing"
    if kind == "too_short" and path == ("search",):
        return "is empty: name at least one setting to search"
    if kind in ("too_short", "too_long"):
        pair = path[-1] in ("float", "int")
        return (
            f"{shown(value)} is not [low, high]" if pair else "has one value: a choice has two" if value else "is empty"
        )
    if kind in ("model_type", "dict_type"):
        keys = _keys_at(path)
        return f"{shown(value)} is not a mapping{' with ' + ', '.join(keys) if kind == 'model_type' else ''}"
    if kind == "list_type":
        return f"{shown(value)} is not a list"
    if kind == "string_type":
        return f"{shown(value)} is not a text{misread(value)}"
    said = message.removeprefix("Input should be ")
    hint = misread(value) if kind == "literal_error" else ""
    return f"{shown(value)} is not {said}{hint}" if said != message else message


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that the models allow at a place of the file."""
    model: Any = Spec
    for part in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            break
        if isinstance(part, str):
            by_key = {f.alias or name: f for name, f in model.model_fields.items()}
            model = _inner_model(by_key[part].annotation) if part in by_key else model
    if isinstance(model, type) and issubclass(model, BaseModel):
        profiles = ["profiles"] if model is Spec else []  # which the models never see
        return [f.alias or name for name, f in model.model_fields.items()] + profiles
    return ["float", "int", "choice", "log", "step", "when"]


def _inner_model(annotation: Any) -> Any:
    """The model in a list, a mapping or an option; of several, as those of a searched setting, none."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation
    found = [m for m in map(_inner_model, get_args(annotation)) if m and issubclass(m, BaseModel)]
    return found[0] if len(set(found)) == 1 else None
