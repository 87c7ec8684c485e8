"""What is not the same about two trials: settings, code, versions, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from platform.records.listing import versions
from platform.tracking.index import TrialRun

Pair = tuple[str, str]  # of the first and the second; empty where one lacks it


@dataclass(frozen=True)
class Difference:
    """Of each thing that is not the same, what the first trial has and what the second has."""

    identical: bool  # whether both are runs of one trial: the same identity
    settings: dict[str, Pair]
    made: dict[str, Pair]  # code, versions and machine
    metrics: dict[str, tuple[float | None, float | None]]  # of any, also where they are equal

    @property
    def code(self) -> Pair | None:
        """The two commits, where they differ."""
        return self.made.get("code")


def difference(one: TrialRun, other: TrialRun) -> Difference:
    """The first trial against the second."""
    params = _differing({**one.params, **_place(one)}, {**other.params, **_place(other)})
    made = _differing(_made(one), _made(other))
    names = dict.fromkeys((*one.metrics, *other.metrics))
    metrics = {name: (one.metrics.get(name), other.metrics.get(name)) for name in names}
    return Difference(one.identity == other.identity, params, made, metrics)


def _place(run: TrialRun) -> dict[str, str]:
    return {name: run.tags[name] for name in ("split", "seed") if name in run.tags}


def _made(run: TrialRun) -> dict[str, str]:
    code = f"{run.git_sha[:12]}{' with changes' if run.git_dirty == 'true' else ''}"
    return {"code": code, **versions(run), "device": run.device}


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, Pair]:
    names = dict.fromkeys((*one, *other))
    return {n: (one.get(n, ""), other.get(n, "")) for n in names if one.get(n, "") != other.get(n, "")}
