"""Reading YAML so that every mistake can name its file, line and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: where it is and what is wrong."""

    path: KeyPath
    message: str


class ConfigError(ValueError):
    """One or more mistakes in a configuration; `str()` has one line for each."""

    def __init__(self, problems: Iterable[Problem], document: Document | None = None) -> None:
        self.problems = tuple(problems)
        self.document = document
        super().__init__("\n".join(self._line(p) for p in self.problems))

    def _line(self, problem: Problem) -> str:
        key = ".".join(str(part) for part in problem.path)
        where = f"{self.document.where(problem.path)}: " if self.document else ""
        return f"{where}{key}: {problem.message}" if key else f"{where}{problem.message}"


@dataclass(frozen=True)
class Document:
    """A parsed file together with the line of each of its keys."""

    name: str
    data: Any
    lines: dict[KeyPath, int]

    def where(self, path: KeyPath) -> str:
        """`file:line` of the key at `path`, or of the nearest parent that the file has."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name


def nearest(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the nearest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and reads `5e-4` as a number (YAML 1.2), not as a string."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} occurs twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _walk(node: yaml.Node | None, path: KeyPath, lines: dict[KeyPath, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            child = (*path, str(key_node.value))
            lines[child] = key_node.start_mark.line + 1
            _walk(value, child, lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines[(*path, i)] = value.start_mark.line + 1
            _walk(value, (*path, i), lines)


def parse(text: str, name: str) -> Document:
    """Parse one YAML document. Raises `ConfigError` with file and line where it is not valid YAML."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError([Problem((), f"{place}: {error.problem}")]) from error
    except (yaml.YAMLError, ValueError) as error:  # an impossible date is a ValueError
        raise ConfigError([Problem((), f"{name}: {error}")]) from error
    finally:
        loader.dispose()
    lines: dict[KeyPath, int] = {(): 1}
    _walk(node, (), lines)
    return Document(name, data, lines)


def load(path: Path) -> Document:
    """Read and parse a file; a missing or unreadable one is a `ConfigError` too."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent
        names = sorted(p.name for p in folder.glob("*.yaml")) if folder.is_dir() else []
        raise ConfigError([Problem((), f"{path}: no such file{nearest(path.name, names)}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem((), f"{path}: cannot be read: {error}")]) from error
    return parse(text, str(path))
