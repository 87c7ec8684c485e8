"""The run of a sweep: opened again by the same sweep, and read by sweeps that build on its result."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run

from platform.tracking.drivers import Drivers, sign_of_life
from platform.tracking.index import SweepRun
from platform.tracking.provenance import code_tags
from platform.tracking.store import Store
from trainables.reading.addresses import showable

_LOOKED_AT = ("file", "command", "host", "pid", "born", "driver", "held", "heartbeat")
_LATEST = "latest."  # what the tag of a param begins with that a reopened sweep would change: MLflow keeps params


@dataclass(frozen=True)
class OpenSweep:
    """A sweep whose run is open."""

    run_id: str
    experiment: str
    experiment_id: str
    shown: frozenset[str]  # metrics that are logged at every epoch


def open_run(
    store: Store,
    drivers: Drivers,
    experiment_id: str,
    name: str,
    key: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    files: Sequence[Path],
) -> str:
    """The id of the newest run with this `key` unless a live process has it, else of a new one."""
    own = {"held": "yes", "kind": "sweep", "sweep.key": key}
    tags = {**tags, **code_tags(), **drivers.me.tags(), **own, **sign_of_life()}
    query = f"tags.kind = 'sweep' and tags.`sweep.key` = '{key}'"
    earlier = next((run for run in store.runs(query, [experiment_id]) if not drivers.hold(run)), None)
    if earlier is not None:
        run_id = earlier.info.run_id
        store.log(run_id, tags=tags)
        store.reopen(run_id, name)
        log_result(store, earlier, {}, params)
    else:
        run_id = store.create(experiment_id, name, tags)
        store.log(run_id, params=params.items())
    for file in files:  # for all to see who read the store
        store.put_text(run_id, showable(file.read_text(encoding="utf-8")), file.name)
    return run_id


def log_result(store: Store, run: Run, metrics: Mapping[str, float], params: Mapping[str, str], at: int = 0) -> None:
    """What the sweep of `run` found by the time `at`, in milliseconds."""
    had = {name: run.data.tags.get(f"{_LATEST}{name}", value) for name, value in run.data.params.items()}
    changed = {f"{_LATEST}{n}": v for n, v in params.items() if n in had and had[n] != v}
    new = [(n, v) for n, v in params.items() if n not in had and v]
    store.log(run.info.run_id, [Metric(n, v, at, 0) for n, v in metrics.items()], new, changed)


def newest_sweeps(store: Store, experiments: Sequence[str]) -> list[SweepRun]:
    """Those of these experiments, what runs first, then the last to end: a sweep that runs again is the newest."""
    runs = store.runs("tags.kind = 'sweep'", experiments) if experiments else []
    return [_read(run, store) for run in sorted(runs, key=_ended, reverse=True)]


def _ended(run: Run) -> float:
    """Milliseconds; of what runs, also once more, which keeps the time of its first end, in the future."""
    return math.inf if run.info.status == "RUNNING" else run.info.end_time or 0


def _read(run: Run, store: Store) -> SweepRun:
    tags = run.data.tags
    return SweepRun(
        run.info.run_id,
        store.experiments.get(run.info.experiment_id, ""),
        run.info.status == "FINISHED",
        tags.get("profile", ""),
        tags.get("changed", ""),
        _images(tags.get("images", "{}")),
        {name: tags.get(f"{_LATEST}{name}", value) for name, value in run.data.params.items()},
        {"FINISHED": "finished", "FAILED": "failed", "RUNNING": "running"}.get(run.info.status, "interrupted"),
        run.info.start_time / 1000,
        0 if run.info.status == "RUNNING" else (run.info.end_time or 0) / 1000,
        {name: tags[name] for name in _LOOKED_AT if name in tags},
    )


def _images(tag: str) -> dict[str, list[Any]]:
    """Of each image set, the fingerprint and how many there are; empty where the tag cannot be read."""
    with suppress(ValueError, TypeError, AttributeError):
        return {name: [str(fingerprint), int(count)] for name, (fingerprint, count) in json.loads(tag).items()}
    return {}
