"""What a file needs and this project lacks: its rows and columns wait for it, and are shown as published alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Needs = Mapping[str, list[Any]]  # a setting, and values of it that the project does not have


def absent(settings: Mapping[str, Any], needs: Needs) -> list[str]:
    """What of `needs` these settings have, as `protocol imagenet30`."""
    return list(dict.fromkeys(f"{name} {value}" for name, value in _found(settings, needs)))


def without(settings: Mapping[str, Any], needs: Needs) -> dict[str, Any]:
    """The settings whose values the project has, which can be checked."""
    lacking = {name for name, _ in _found({n: v for n, v in settings.items() if not isinstance(v, Mapping)}, needs)}
    kept = {name: value for name, value in settings.items() if name not in lacking}
    return {name: without(v, needs) if isinstance(v, Mapping) else v for name, v in kept.items()}


def _found(settings: Mapping[str, Any], needs: Needs) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _found(value, needs)
        else:
            values = value if isinstance(value, list) else [value]
            yield from ((name, one) for one in values if one in needs.get(name, []))
