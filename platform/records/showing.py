"""One run, with all that a person asks of it: what it was, what it found, where its files are, how to make it again."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping
from typing import Any

from platform.command import command
from platform.records import files
from platform.records.listing import Records, as_mapping, sweep_mapping
from platform.tracking.index import SweepRun, TrialRun
from platform.tracking.trials import flat
from trainables.reading.yaml_file import ConfigError
from trainables.settings.methods import METHODS
from trainables.settings.resolving import SETTINGS, resolve

_PARTS = ("objective", "mix")  # that make a method


def differing(records: Records, trial: TrialRun) -> dict[str, str]:
    """The settings that its sweep's base, with its method, does not have; split and seed apart."""
    sweep = records.reader.sweep_of(trial)
    base = _base(sweep) if sweep else {}
    method = str(base.pop("method", ""))
    parts = {name: base.pop(name, "") for name in _PARTS}
    own = {name: trial.params[name] for name in _PARTS if name in trial.params}
    try:
        settings = dict(flat(resolve({**base, **own}).settings()))
    except (ConfigError, OSError, ValueError, TypeError):  # of a protocol or a part of one's own that is not here
        settings = base
    found = {n: v for n, v in trial.params.items() if n not in ("split", "seed") and str(settings.get(n)) != v}
    named = METHODS.get(method) or parts
    if any(named.get(name, value) != value for name, value in own.items()):
        found = {"method": trial.tags.get("method", ""), **found}
    return {name: value for name, value in found.items() if name not in own}


def _base(sweep: SweepRun) -> dict[str, Any]:
    """The base of a sweep's file, as the params of its run have it."""
    base: dict[str, Any] = {}
    for name, text in sweep.params.items():
        outer, _, inner = name.partition(".")
        if outer not in ("method", *SETTINGS) or (name == "objective" and "/" in text):
            continue  # what the run of a sweep has beside it, as the metric that a search is judged by
        if inner:
            base.setdefault(outer, {})[inner] = _value(text)
        else:
            base[outer] = _value(text)
    return base


def _value(text: str) -> Any:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def remade_by(records: Records, trial: TrialRun) -> dict[str, str]:
    """The commands that make a trial again, by what they are: its sweep, as it was started, and the trial alone."""
    sweep = records.reader.sweep_of(trial)
    found = {"its sweep": again(sweep)} if sweep and again(sweep) else {}
    config = files.places(records.reader, trial).get("config.yaml", "")
    if config.startswith("/"):
        found["alone"] = command("python", "-m", "trainables.trial", config)
    return found


def again(sweep: SweepRun) -> str:
    """The command that a sweep was started by; empty for one that is older than this record."""
    return sweep.tags.get("command", "")


def shown(records: Records, run: TrialRun | SweepRun) -> Mapping[str, Any]:
    """All of one run, for programs."""
    if isinstance(run, SweepRun):
        return {**sweep_mapping(records, run), "trials": records.reader.requests(run)}
    return {
        **as_mapping(records, run),
        "tags": run.tags,
        "differs": differing(records, run),
        "places": files.places(records.reader, run),
        "traceback": files.read(records.reader, run, "traceback.txt"),
        "again": remade_by(records, run),
    }
