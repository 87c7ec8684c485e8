"""The best settings of a search, as its newest finished sweep has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from platform.files import search_file
from platform.files.search_file import PAPER
from platform.tracking.index import SweepRun
from trainables.reading import yaml_file
from trainables.reading.yaml_file import ConfigError, Problem

_BEST = "best."  # what the params of a sweep's result begin with


def best_settings(sweep: SweepRun) -> dict[str, Any]:
    """Empty where the sweep is no search, or none of its trials finished."""
    found = {name.removeprefix(_BEST): value for name, value in sweep.params.items() if name.startswith(_BEST)}
    found = {name: value for name, value in found.items() if value}  # empty: a condition of the search does not hold
    return {name: yaml_file.parse(value, name).data for name, value in found.items()}


def best_of(path: Path, profile: str, sweeps: Callable[[str], Iterable[SweepRun]]) -> Mapping[str, Any]:
    """The best settings that the search of `path` has found in this profile, or as it stands where it has none such.

    `sweeps` gives the finished sweeps of a name, the newest first. Raises `ConfigError` where it has found none yet.
    """
    file = search_file.load(path)
    profile = profile if profile in file.profiles else PAPER
    for sweep in sweeps(file.profile(profile).name):
        if (best := best_settings(sweep)) and sweep.profile == profile:
            return best
    message = f"{path}, profile {profile}, has no result yet. Run it first, or give both files to one command"
    raise ConfigError([Problem((), message)])
