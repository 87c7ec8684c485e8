"""Conditions of searched settings: in which order they are proposed, and whether one of them is searched at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from platform.files.dimensions import within
from platform.files.spec import Spec


def search_order(spec: Spec) -> list[str]:
    """The searched settings, each after those that its `when` names; raises `ValueError` for a circle."""
    ordered: dict[str, None] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"{' needs '.join([*above[above.index(name) :], name])}: a circle")
        for other in spec.search[name].when:
            if other in spec.search:
                add(other, (*above, name))
        ordered[name] = None

    for name in spec.search:
        if name not in ordered:
            add(name, ())
    return list(ordered)


def lies_in(spec: Spec, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a search may have proposed of `values`, which are all of a trial's settings; None where one is outside."""
    settings: dict[str, Any] = {}
    for name in search_order(spec):
        if applies(spec, name, settings):
            if name not in values or not within(values[name], spec.search[name]):
                return None
            settings[name] = values[name]
    return settings


def applies(spec: Spec, name: str, proposed: Mapping[str, Any]) -> bool:
    """Whether the setting `name` is searched, given what was proposed of those before it in `search_order`.

    A setting that is not searched itself, since its own `when` does not hold, fulfils no condition.
    """
    fixed = {other: value for other, value in spec.base.items() if other not in spec.search}
    values = {**fixed, **proposed}
    return all(other in values and values[other] in wanted for other, wanted in spec.search[name].when.items())
