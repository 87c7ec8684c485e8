"""Writes `settings.md`, `methods.md` and `search_spaces/schema.json`: `python docs/make.py`. Tests hold them to it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TRIAL_SETTINGS, TrialConfig
from trainables.settings.custom import default_of
from trainables.settings.explained import NEEDED, doc_of, in_words, notes, said_of
from trainables.settings.methods import METHODS
from trainables.settings.mixes import MIXES
from trainables.settings.objectives import OBJECTIVES
from trainables.settings.resolving import SETTINGS, resolve

HERE = Path(__file__).parent
MADE = "<!-- Made by docs/make.py from the code: change it there. -->\n\n"


def settings_page() -> str:
    """Every setting: its default, its values, and what the code says of it."""
    trial = notes(TrialConfig)
    text = f"# Settings\n\n{MADE}A trial is a flat mapping of these. Each is a part of a trial's identity only "
    text += "where it is not at its default and changes something.\n\n## Of every trial\n\n"
    every = [(f.name, f.default, trial.get(f.name, "")) for f in fields(TrialConfig) if f.name in TRIAL_SETTINGS]
    names = {"objective": "`ce`, or the method's", "mix": "the objective's, or the method's"}
    text += _table((name, names.get(name, _said(default)), note) for name, default, note in every)
    text += "| `method` | – | "
    text += f"{', '.join(f'`{m}`' for m in METHODS)} | what the papers call an objective with a mix |\n"
    text += (
        f"| `recipe` | `paper` | {in_words(SETTINGS['recipe'].annotation)} | `official`: what the released code does "
    )
    text += "in a step instead; `original`: how a compared method's own code trains, all of it |\n"
    for title, parts in (("objective", OBJECTIVES), ("mix", MIXES)):
        text += f"\n## Of each {title}\n"
        for name, part in parts.items():
            text += f"\n### `{name}`\n\n{doc_of(part)}\n\n"
            own = notes(part)
            lines = [(f.name, _said(default_of(f)), own.get(f.name, "")) for f in fields(part)]
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
        shown = f"`{mix}`" if mix else f"any; `{OBJECTIVES[objective].defaults.get('mix', 'none')}` unless said"
        text += f"| `{method}` | `{objective}` | {shown} | {said_of(method)} |\n"
    return text


def _refusal(objective: str, mix: str) -> str:
    try:
        resolve({"objective": objective, "mix": mix, **NEEDED})
    except ConfigError as error:
        return "; ".join(problem.message for problem in error.problems)
    return ""


def _table(lines: Any) -> str:
    text = "| setting | default | values | |\n|---|---|---|---|\n"
    for name, default, note in lines:
        text += f"| `{name}` | {default} | {in_words(SETTINGS[name].annotation)} | {note.replace('|', '/')} |\n"
    return text


def _said(value: Any) -> str:
    if value is MISSING:
        return "–"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value not in ((), {}) else "none"


def pages() -> dict[Path, str]:
    """Each page and its text."""
    return {HERE / "settings.md": settings_page(), HERE / "methods.md": methods_page()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
    made = subprocess.run([sys.executable, "-m", "platform.sweep", "--schema"], cwd=HERE.parent, stdout=subprocess.PIPE)
    (HERE.parent / "search_spaces" / "schema.json").write_bytes(made.stdout)
