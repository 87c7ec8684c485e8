"""The best settings of a search: as params of its sweep's run, and as its newest finished sweep has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from platform.files import search_file
from platform.files.search_file import PAPER
from platform.tracking.index import SweepRun
from trainables.reading import yaml_file
from trainables.reading.yaml_file import ConfigError, Problem


def best_params(found: Sequence[Mapping[str, Any]], searched: Iterable[str], top: int) -> dict[str, Any]:
    """As params of a sweep's result, the settings that its search has `found`, the best first.

    What one of the `top` does not have is empty: an earlier command may have found it, before the search was extended.
    """
    of = [*found[:top], *[{}] * (top - len(found))]
    return {f"{_prefix(rank)}{name}": settings.get(name, "") for rank, settings in enumerate(of) for name in searched}


def _prefix(rank: int) -> str:
    return f"best {rank + 1}." if rank else "best."


def best_settings(sweep: SweepRun, rank: int = 0) -> dict[str, Any]:
    """Those of a `rank`, 0 for the best. Empty where the sweep is no search, or fewer different ones have finished."""
    prefix = _prefix(rank)
    found = {name.removeprefix(prefix): value for name, value in sweep.params.items() if name.startswith(prefix)}
    found = {name: value for name, value in found.items() if value}  # empty: a condition of the search does not hold
    return {name: yaml_file.parse(value, name).data for name, value in found.items()}


def best_of(path: Path, profile: str, sweeps: Callable[[str], Iterable[SweepRun]]) -> Mapping[str, Any]:
    """The best settings that the search of `path` has found, as `search_of`."""
    return best_settings(search_of(path, profile, sweeps))


def search_of(path: Path, profile: str, sweeps: Callable[[str], Iterable[SweepRun]]) -> SweepRun:
    """The newest sweep of the search of `path` that found something in this profile, or as the file stands where it has
    none such.

    `sweeps` gives the finished sweeps of a name, the newest first. Raises `ConfigError` where it has found none yet.
    """
    file = search_file.load(path)
    profile = profile if profile in file.profiles else PAPER
    for sweep in sweeps(file.profile(profile).name):
        if sweep.profile == profile and best_settings(sweep):
            return sweep
    message = f"{path}, profile {profile}, has no result yet. Run it first, or give both files to one command"
    raise ConfigError([Problem((), message)])
