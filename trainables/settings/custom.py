"""A mix or an objective of one's own: `mix: package.module:Class`, in a module that Python can import from here.

The class's annotation `settings: ItsSettings` names its settings, a frozen dataclass as in `trainables.settings.mixes`
and `trainables.settings.objectives`. What is checked here is what a built-in one has by being written beside the
others. Importing such a module imports torch; a trial of built-in ones never comes here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, get_origin, get_type_hints

from trainables.reading.values import convert, supported
from trainables.reading.yaml_file import nearest
from trainables.settings.base import ObjectiveSettings
from trainables.settings.libraries import of_library
from trainables.settings.mixes import MIXES, MixSettings
from trainables.settings.objectives import OBJECTIVES

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_NOT_THE_USERS = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}

# What each part of a method is derived from, by name: to import it would be to import torch, and the rooms above.
_BASES = {
    "mix": "trainables.mixes.base.Mix",
    "objective": "trainables.objectives.base.Objective",
    "backbone": "trainables.models.output.Network",
}
_SETTINGS: dict[str, type] = {"mix": MixSettings, "objective": ObjectiveSettings}


@dataclass(frozen=True)
class CustomPart:
    """What the name of a mix, an objective or a backbone of one's own stands for."""

    kind: str  # mix, objective, or backbone
    settings: type[Any]  # of a backbone, which has none, the bare `MixSettings`
    part: type[Any]
    modules: tuple[Path, ...]  # its source, and that of the modules beside it that it imports
    digest: str  # of their text: 16 hex digits


def is_custom(name: object) -> bool:
    """Whether a mix, an objective or a backbone is named by module and class, not among the built-in ones."""
    return isinstance(name, str) and ":" in name and not of_library(name)


def custom_part(name: str) -> CustomPart:
    """The mix or objective `package.module:Class`. Raises `ValueError` that says what is missing, and what to write."""
    found = _load(name)
    if isinstance(found, str):
        raise ValueError(found)
    return found


def mix_settings(name: str) -> type[MixSettings]:
    """The settings of a mix, built in or one's own (`ValueError` where that one cannot be used)."""
    return _custom(name, "mix").settings if is_custom(name) else MIXES[name]


def objective_settings(name: str) -> type[ObjectiveSettings]:
    """The settings of an objective, built in or one's own (`ValueError` where that one cannot be used)."""
    return _custom(name, "objective").settings if is_custom(name) else OBJECTIVES[name]


def own_backbone(name: str) -> type[Any]:
    """The class of a network of one's own (`ValueError` where it cannot be used)."""
    return _custom(name, "backbone").part


def _custom(name: str, kind: str) -> CustomPart:
    part = custom_part(name)
    if part.kind != kind:
        article = "an" if part.kind == "objective" else "a"
        raise ValueError(f"{name!r} is {article} {part.kind}: write it as `{part.kind}`")
    return part


@cache  # a failure is kept, too: a module that cannot be imported is not tried once for each row that names it
def _load(name: str) -> CustomPart | str:
    if not _NAME.fullmatch(name):
        return f"{name!r}: write a module and its class, as package.module:Class"
    module_name, class_name = name.split(":")
    try:
        module = _import(module_name)
        kind, part = _part(module, class_name)
        settings = _settings(part, _SETTINGS[kind]) if kind in _SETTINGS else MixSettings
        paths = tuple(sorted({_path(m) for m in _modules(module)}))
    except ValueError as error:
        return f"{name!r}: {error}"
    content = b"\0".join(path.read_bytes() for path in paths)
    return CustomPart(kind, settings, part, paths, hashlib.sha256(content).hexdigest()[:16])


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(_where(error, name)) from error
        missing = error.name
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise ValueError(_where(error, name)) from error
    parent, _, last = missing.rpartition(".")
    folders = list(getattr(sys.modules.get(parent), "__path__", [])) if parent else ["."]
    there = [p for folder in folders for p in Path(folder).iterdir() if p.suffix == ".py" or p.is_dir()]
    hint = nearest(last, [p.stem for p in there])
    raise ValueError(f"there is no module {missing!r} here{hint}; modules are found from the current folder")


def _where(error: BaseException, module: str) -> str:
    """`error` with the last line of the user's own that led to it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    place = users_line(error)
    return f"{place}: {reason(error)}" if place else f"importing {module} failed: {reason(error)}"


def users_line(error: BaseException) -> str:
    """`file:line` of the last line of the user's own that led to `error`; empty where none did."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_the_users(frame.filename) and frame.filename != __file__:
            return f"{frame.filename}:{frame.lineno}"
    return ""


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _part(module: ModuleType, name: str) -> tuple[str, type[Any]]:
    """The class of that name, and whether it is a mix or an objective."""
    found = vars(module).get(name)
    own = [n for n, v in vars(module).items() if _kind(v) and v.__module__ == module.__name__]
    if found is None:
        raise ValueError(f"{module.__name__} has no class {name!r}{nearest(name, own)}")
    kind = _kind(found)
    if kind is None:
        has = f"; the module has {', '.join(own)}" if own else ""
        raise ValueError(f"is no mix, objective or backbone: derive it from {' or '.join(_BASES.values())}{has}")
    if inspect.isabstract(found):
        raise ValueError(f"lacks {', '.join(sorted(found.__abstractmethods__))}: what is done with one batch")
    return kind, found


def _kind(value: Any) -> str | None:
    above = {f"{c.__module__}.{c.__qualname__}" for c in value.__mro__} if isinstance(value, type) else set()
    return next((kind for kind, base in _BASES.items() if base in above), None)


def _settings(part: type[Any], base: type[Any]) -> Any:
    """The class that the part's annotation names, if it can be read as the built-in ones' can."""
    settings: Any = _hints(part).get("settings")
    if base not in getattr(settings, "__mro__", ()):
        raise ValueError(f"annotate its settings: `settings: ItsSettings`, a class derived from {base.__name__}")
    if "__dataclass_params__" not in vars(settings):
        raise ValueError(f"{settings.__name__} lacks @dataclass(frozen=True)")
    hints = _hints(settings)
    for f in fields(settings):
        if not supported(hints[f.name]):
            raise ValueError(
                f"{settings.__name__}.{f.name}: {hints[f.name]!r} is not a type of a setting; take int, float, bool, "
                "str, Annotated[float, Range(low, high)], Literal['a', 'b'], tuple[…, ...], or one of them | None"
            )
        default = default_of(f)
        if default is MISSING:
            raise ValueError(f"{settings.__name__}.{f.name} needs a default")
        try:
            convert(default, hints[f.name])
        except ValueError as error:
            raise ValueError(f"{settings.__name__}.{f.name}: its default {error}") from error
    if type(settings.version) is not int:
        raise ValueError(f"{settings.__name__}.version: {settings.version!r} is not a whole number")
    recipes = settings.recipes
    if not (isinstance(recipes, dict) and "paper" in recipes and all(isinstance(r, dict) for r in recipes.values())):
        raise ValueError(f"{settings.__name__}.recipes: a mapping of names to settings, of which one is `paper`")
    return settings


def default_of(f: Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not MISSING else f.default


def _hints(cls: type) -> dict[str, Any]:
    """The annotations of a class, evaluated; those of class variables left out."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception as error:  # names that a type checker alone imports, for one
        raise ValueError(f"an annotation of {cls.__name__} cannot be read: {error}") from error
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar and hint is not ClassVar}


def _modules(module: ModuleType) -> list[ModuleType]:
    """`module`, the packages that it is in, and every module of the user's that one of them imports."""
    found: dict[str, ModuleType] = {}
    waiting = [module.__name__]
    while waiting:
        name = waiting.pop()
        parents = [name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1)]
        for candidate in [name, *parents]:
            known = sys.modules.get(candidate)
            if candidate in found or known is None or not _is_the_users(getattr(known, "__file__", None)):
                continue
            found[candidate] = known
            waiting += _imported(known)
    return list(found.values())


def _imported(module: ModuleType) -> Iterator[str]:
    """Names of what a module imports; of `from a import b` both a and a.b, one of which may be no module."""
    for node in ast.walk(ast.parse(_path(module).read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, module.__package__)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _path(module: ModuleType) -> Path:
    return Path(str(module.__file__)).resolve()


def _is_the_users(file: str | None) -> bool:
    """Whether a source file is neither Python's, nor an installed package's, nor of this platform."""
    if not file or not file.endswith(".py"):
        return False
    path = Path(file).resolve()
    ours = Path(__file__).resolve().parents[1]
    elsewhere = [ours, ours.parent / "platform", *(Path(p).resolve() for p in _NOT_THE_USERS if p)]
    return not any(path.is_relative_to(folder) for folder in elsewhere)
