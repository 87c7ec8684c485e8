"""What the papers call a combination of objective and mix, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A method without a mix takes any: its objective's own where none is said.
METHODS: dict[str, dict[str, str]] = {
    "plain": {"objective": "ce", "mix": "none"},
    "cutout": {"objective": "ce", "mix": "cutout"},
    "mixup": {"objective": "ce", "mix": "mixup"},
    "cutmix": {"objective": "ce", "mix": "cutmix"},
    "decoupled-cutmix": {"objective": "ce", "mix": "decoupled-cutmix"},
    "backmix": {"objective": "ce", "mix": "backmix"},
    "distill": {"objective": "distill"},
    "asymmetric": {"objective": "asymmetric"},
    "cmpkd": {"objective": "cmpkd"},
    "proser": {"objective": "proser"},
    "openmix": {"objective": "openmix"},
    "teacher-free": {"objective": "teacher-free"},
    "oe": {"objective": "oe"},
    "catimg": {"objective": "catimg"},
    "ftavg": {"objective": "ftavg"},
    "cssr": {"objective": "cssr"},
    "rcssr": {"objective": "rcssr"},
    "gcpl": {"objective": "gcpl"},
    "rpl": {"objective": "rpl"},
    "arpl": {"objective": "arpl"},
    "arpl-cs": {"objective": "arpl-cs"},
    "clip": {"objective": "clip", "mix": "none"},
    "coop": {"objective": "coop"},
    "locoop": {"objective": "locoop"},
    "a2pt": {"objective": "a2pt"},
    "vpt": {"objective": "vpt"},
}


def method_of(objective: str, mix: str) -> str | None:
    """The method that has this objective and this mix, else one that has the objective and takes any mix."""
    exact = (name for name, parts in METHODS.items() if parts == {"objective": objective, "mix": mix})
    return next(exact, next((name for name, parts in METHODS.items() if parts == {"objective": objective}), None))


def laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with `changes`. A method takes the place of the objective and the mix that `base` has, and either of
    these the place of its part in the method that `base` has."""
    merged = dict(base)
    if "method" in changes:
        for name in ("objective", *METHODS.get(str(changes["method"]), ())):
            merged.pop(name, None)
    elif "method" in merged and changes.keys() & {"objective", "mix"}:
        merged = {**METHODS.get(str(merged.pop("method")), {}), **merged}
    return {**merged, **changes}
