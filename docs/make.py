"""Writes `settings.md` and `methods.md` from the code: `python docs/make.py`. A test holds the pages to it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TRIAL_SETTINGS, TrialConfig
from trainables.settings.methods import METHODS
from trainables.settings.mixes import MIXES
from trainables.settings.objectives import OBJECTIVES
from trainables.settings.resolving import SETTINGS, resolve

HERE = Path(__file__).parent
MADE = "<!-- Made by docs/make.py from the code: change it there. -->\n\n"


def settings_page() -> str:
    """Every setting: its default, its values, and what the code says of it."""
    trial = _notes(TrialConfig)
    text = f"# Settings\n\n{MADE}A trial is a flat mapping of these. Each is a part of a trial's identity only "
    text += "where it is not at its default and changes something.\n\n## Of every trial\n\n"
    own = [(f.name, f.default, trial.get(f.name, "")) for f in fields(TrialConfig) if f.name in TRIAL_SETTINGS]
    names = {"objective": "`ce`, or the method's", "mix": "the objective's, or the method's"}
    text += _table((name, names.get(name, _said(default)), note) for name, default, note in own)
    text += "| `method` | – | "
    text += f"{', '.join(f'`{m}`' for m in METHODS)} | what the papers call an objective with a mix |\n"
    text += (
        f"| `recipe` | `paper` | {_values(SETTINGS['recipe'].annotation)} | `official`: what the released code does "
    )
    text += "in a step instead; `original`: how a compared method's own code trains, all of it |\n"
    for title, parts in (("objective", OBJECTIVES), ("mix", MIXES)):
        text += f"\n## Of each {title}\n"
        for name, part in parts.items():
            said = " ".join((inspect.getdoc(part) or "").split())
            text += f"\n### `{name}`\n\n{said}\n\n"
            notes = {k: v for c in reversed(part.__mro__) if c is not object for k, v in _notes(c).items()}
            lines = [(f.name, _said(_default(f)), notes.get(f.name, "")) for f in fields(part)]
            text += _table(lines) if lines else "It has no settings of its own.\n"
    return text


def methods_page() -> str:
    """Objective × mix as a matrix of what works, with the papers' names and the reasons of what does not."""
    text = f"# Methods: objective × mix × score\n\n{MADE}"
    text += "An **objective** is what is learnt, a **mix** what is done to a batch of images and labels before. Write "
    text += "`{objective: distill, mix: cutmix}`, or the papers' name for a pair as `method`. Any **score** ranks the "
    text += "test images of any of them: it is a setting of the evaluation, not of the training.\n\n"
    text += f"| objective | {' | '.join(f'`{mix}`' for mix in MIXES)} |\n|---|{'---|' * len(MIXES)}\n"
    reasons: dict[str, None] = {}
    for objective in OBJECTIVES:
        cells = []
        for mix in MIXES:
            reason = _refusal(objective, mix)
            if reason:
                reasons[reason] = None
                cells.append(f"no [{list(reasons).index(reason) + 1}]")
            else:
                named = [f"`{m}`" for m, parts in METHODS.items() if parts == {"objective": objective, "mix": mix}]
                cells.append(named[0] if named else "yes")
        text += f"| `{objective}` | {' | '.join(cells)} |\n"
    text += "\n" + "".join(f"[{i}] {reason}\n\n" for i, reason in enumerate(reasons, 1))
    text += "| `method` | objective | mix | what a batch does |\n|---|---|---|---|\n"
    for method, parts in METHODS.items():
        objective, mix = parts["objective"], parts.get("mix")
        of = MIXES[mix] if mix and mix != "none" else OBJECTIVES[objective]
        said = re.split(r"(?<!al)(?<!App)(?<!Eq)\. (?=[A-Z`])", " ".join((inspect.getdoc(of) or "").split()))[0]
        shown = f"`{mix}`" if mix else f"any; `{OBJECTIVES[objective].defaults.get('mix', 'none')}` unless said"
        text += f"| `{method}` | `{objective}` | {shown} | {said.rstrip('.')} |\n"
    return text


def _refusal(objective: str, mix: str) -> str:
    try:
        resolve({"objective": objective, "mix": mix, "teacher": {}, "outlier_set": "photos"})
    except ConfigError as error:
        return "; ".join(problem.message for problem in error.problems)
    return ""


def _table(lines: Any) -> str:
    text = "| setting | default | values | |\n|---|---|---|---|\n"
    for name, default, note in lines:
        text += f"| `{name}` | {default} | {_values(SETTINGS[name].annotation)} | {note.replace('|', '/')} |\n"
    return text


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _said(value: Any) -> str:
    if value is MISSING:
        return "–"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value not in ((), {}) else "none"


def _values(annotation: Any) -> str:
    """What an annotation admits, in words."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{_values(args[0])}, {args[1]}"
    if origin in (UnionType, Union):
        return " or ".join(_values(a) for a in args if a is not type(None))
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin is tuple:
        return f"list of: {_values(args[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return "a mapping of settings"
    return {int: "a whole number", float: "a number", bool: "`true`, `false`", str: "a name"}[annotation]


def _notes(of: type) -> dict[str, str]:
    """The comment behind each field of a class."""
    return dict(_comments(inspect.getsource(of)))


def _comments(source: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"^    (\w+): [^#\n]*?(?:#\s*(.*))?$", source, flags=re.M):
        if match[2]:
            yield match[1], match[2]


def pages() -> dict[Path, str]:
    """Each page and its text."""
    return {HERE / "settings.md": settings_page(), HERE / "methods.md": methods_page()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
