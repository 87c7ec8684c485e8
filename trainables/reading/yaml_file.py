"""Reading YAML so that every mistake can name its file, line and key."""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]

SHOWN_PROBLEMS = 20  # of a file with more mistakes: then their count
MAX_BYTES = 500_000  # of a file: the longest table has 16,000
MAX_NODES = 50_000  # values of a file with its aliases written out: a table has a few thousand


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: where it is and what is wrong."""

    path: KeyPath
    message: str


class ConfigError(ValueError):
    """One or more mistakes in a configuration; `str()` has a line for each of the first `SHOWN_PROBLEMS`."""

    def __init__(self, problems: Iterable[Problem], document: Document | None = None) -> None:
        self.problems = tuple(problems)
        self.document = document
        lines = [self._line(p) for p in self.problems[:SHOWN_PROBLEMS]]
        more = len(self.problems) - len(lines)
        super().__init__(
            "\n".join([*lines, f"and {more:,} more of {len(self.problems):,} mistakes"] if more else lines)
        )

    def _line(self, problem: Problem) -> str:
        key = key_of(problem.path)
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


def printable(text: str) -> str:
    """`text` on one line, without what a terminal would obey: newlines and escape sequences as Python writes them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def key_of(path: KeyPath) -> str:
    """`rows.1.name`, as messages have it."""
    return printable(".".join(str(part) for part in path))


def under(path: KeyPath, problems: Iterable[Problem]) -> Iterator[Problem]:
    """`problems` of a part of a file, as problems of the whole, where the part is at `path`."""
    for problem in problems:
        yield Problem((*path, *problem.path), problem.message)


def nearest_word(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or an empty string where none is near."""
    return _nearest_word(word, tuple(known))


@lru_cache(10_000)  # one slip is often made in every row
def _nearest_word(word: str, known: tuple[str, ...]) -> str:
    return next(iter(difflib.get_close_matches(word[:100], known, n=1, cutoff=0.5)), "")


def nearest(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the nearest known word, or an empty string."""
    close = nearest_word(word, known)
    return f" (did you mean {close!r}?)" if close else ""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys, keys that are no texts and numbers that YAML 1.1 alone reads as it does,
    and reads `5e-4` as a number (YAML 1.2)."""

    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.nodes += 1
        if self.nodes > MAX_NODES:  # now, not after minutes of reading
            raise _too_large(self.get_mark())
        return super().compose_node(parent, index)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Refuses `010`, which is 8 in YAML 1.1 and 10 in YAML 1.2, and `1:30`, which is 90 or a text."""
        read = self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float
        number: int | float = read(node)
        digits = node.value.lstrip("+-")
        if ":" in digits or (isinstance(number, int) and re.match(r"0[\d_]", digits)):
            problem = (
                f"{node.value} would be read as {number}: write the number without a leading 0 and colons, or quote it"
            )
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return number

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:  # an impossible date, a number of too many digits
            raise yaml.MarkedYAMLError(
                problem=f"a value cannot be read: {error}", problem_mark=node.start_mark
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                problem = "merge keys (<<) are not read: write the settings out, or use a profile"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                written = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or a mapping"
                problem = f"a key must be a word, and YAML reads {written!r} as something else: quote it"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} occurs twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)

for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def _too_large(mark: Any) -> yaml.MarkedYAMLError:
    problem = f"is too large: with its aliases written out it has more than {MAX_NODES:,} values"
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many nodes `node` is with its aliases written out. Raises `YAMLError` where that is no end of them."""
    if id(node) not in sizes:
        sizes[id(node)] = MAX_NODES + 1  # what contains itself finds this
        inner = [n for pair in node.value for n in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes[id(node)] = 1 + sum(_size(n, sizes) for n in inner) if isinstance(node, yaml.CollectionNode) else 1
    if sizes[id(node)] > MAX_NODES:
        raise _too_large(node.start_mark)
    return sizes[id(node)]


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
    lines: dict[KeyPath, int] = {(): 1}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _size(node, {})
        data = loader.construct_document(node) if node is not None else None
        _walk(node, (), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError([Problem((), f"{place}: {_said(error)}")]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"{name}:{line}: the character {chr(error.character)!r} has no place in YAML"
        raise ConfigError([Problem((), message)]) from error
    except RecursionError as error:
        raise ConfigError([Problem((), f"{name}:1: is nested too deeply to be read")]) from error
    except yaml.YAMLError as error:
        raise ConfigError([Problem((), f"{name}: {error}")]) from error
    return Document(name, data, lines)


def _said(error: yaml.MarkedYAMLError) -> str:
    """The problem, after what was being read where it makes no sentence by itself; and what to do about a tab."""
    problem = str(error.problem)
    if error.context and problem.startswith(("but", "expected", "found")):
        problem = f"{error.context}, {problem}"
    return f"{problem} (indent with spaces, not with tabs)" if "'\\t'" in problem else problem


def load(path: Path) -> Document:
    """Read and parse a file; a missing or unreadable one is a `ConfigError` too."""
    if not str(path).isprintable():  # it stands in every message, in runs and in reports
        raise ConfigError(
            [Problem((), f"{str(path)!r}: rename the file: its name has characters that cannot be shown")]
        )
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size > MAX_BYTES:
            message = f"{path}: is too large: {found.st_size:,} bytes, and a file has at most {MAX_BYTES:,}"
            raise ConfigError([Problem((), message)])
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            message = (
                f"{path}: is no file, but a pipe, a socket or a device: it is read more than once, so save it as one"
            )
            raise ConfigError([Problem((), message)])
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent
        names = sorted(p.name for p in folder.glob("*.yaml")) if folder.is_dir() else []
        raise ConfigError([Problem((), f"{path}: no such file{nearest(path.name, names)}")]) from None
    except IsADirectoryError:
        raise ConfigError([Problem((), f"{path}: is a folder: name a file in it")]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise ConfigError([Problem((), message)]) from error
    except OSError as error:
        raise ConfigError([Problem((), f"{path}: cannot be read: {error.strerror}")]) from error
    return parse(text, str(path))
