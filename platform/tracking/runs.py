"""The run of a trial: what it is opened with, and what one reads off it later."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlflow.entities import Run

from platform.tracking.drivers import Driver
from platform.tracking.errors import temporary
from platform.tracking.index import Entry, FinishedTrial, Page
from platform.tracking.outbox import Record
from platform.tracking.provenance import code_tags
from platform.tracking.store import Store
from platform.tracking.sweeps import OpenSweep
from platform.tracking.trials import TrialState
from trainables.settings.identity import EVALUATION
from trainables.settings.seeds import seeds

PROVISIONAL = "claim-"  # what the id of a run begins with that MLflow could not give yet
# A tag of its own for each identity: MLflow's database finds a tag by its name at once, by its value only among all of
# that name. Tags that begin like this one are not shown in its UI.
_SOUGHT = "mlflow.trial."


def opening_of(trial: TrialState, sweep: OpenSweep, driver: Driver, *, fresh: bool) -> Record:
    """Everything that it takes to make the run of a trial, whichever process does."""
    key = PROVISIONAL + uuid.uuid4().hex
    config = trial.config
    tags = {
        "mlflow.parentRunId": sweep.run_id,
        "kind": "trial",
        "phase": trial.phase,
        "row": trial.row,
        "identity": trial.identity,
        f"{_SOUGHT}{trial.identity}": "yes",
        "attempts": "1",
        **driver.tags(),
        "claim": key,
        "held": "yes",
    }
    labels = {
        "method": config.method,
        "protocol": config.protocol,
        "split_family": config.split_family,
        "split": str(config.split),
        "seed": str(config.seed),
        "training_seed": str(seeds(config)[0]),
        **code_tags(),
    }
    return {
        "key": key,
        "experiment": sweep.experiment_id,
        "identity": trial.identity,
        "name": trial.name,
        "tags": tags,
        "labels": labels,  # what no claim needs: with the first delivery
        "params": {n: str(value) for n, value in flat(config.settings()) if n not in EVALUATION},
        "started": now(),
        "fresh": fresh,
    }


def query_of(identity: str) -> str:
    """Finds every run of an identity."""
    return f"tags.`{_SOUGHT}{identity}` = 'yes'"


def counts(run: Run) -> bool:
    """Whether a run's trial needs no training any more."""
    return run.info.status == "FINISHED" and not {"stopped", "superseded"} & set(run.data.tags)


def ending(run: Run) -> str:
    """What became of a run that ended: finished, failed, interrupted, stopped or superseded."""
    if tag := next((tag for tag in ("superseded", "stopped") if tag in run.data.tags), ""):
        return tag
    return {"FAILED": "failed", "KILLED": "interrupted"}.get(run.info.status, "finished")


def finished_trial(run: Run, sweep: str) -> FinishedTrial:
    """What the run of a finished trial tells, the experiment of whose run is called `sweep`."""
    tags, metrics = run.data.tags, run.data.metrics
    took = (run.info.end_time - run.info.start_time) / 1000
    return FinishedTrial(
        identity=tags["identity"],
        run_id=run.info.run_id,
        sweep=sweep,
        row=tags.get("row", ""),
        phase=tags.get("phase", ""),
        git_sha=tags.get("git.sha", ""),
        git_dirty=tags.get("git.dirty", ""),
        ended=run.info.end_time / 1000,
        seconds=metrics.get("train/seconds", took),
        device=tags.get("device", ""),
        details=json.dumps(
            {"params": dict(run.data.params), "metrics": dict(metrics)}
            | {name: json.loads(tags[name]) for name in ("tested", "odin") if tags.get(name)}
        ),
    )


def ended_page(store: Store, experiments: Sequence[str], token: str | None, size: int) -> Page:
    """Trials that ended, in the order in which they did: a page of the index."""
    query = "attributes.end_time > 0 and tags.kind = 'trial'"
    try:
        found = store.page(query, experiments, "attributes.end_time ASC", token, size)
    except Exception as error:
        if token is None or temporary(error):
            raise
        return Page([], None)  # a token of a store that was made anew
    entries = []
    for run in found:
        sweep = store.experiments.get(run.info.experiment_id, "")
        told = finished_trial(run, sweep) if counts(run) else None
        entries.append(Entry(run.info.run_id, run.data.tags.get("identity", ""), told, ending(run)))
    following = found.token.decode() if isinstance(found.token, bytes) else found.token
    return Page(entries, following or None)


def flat(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A mapping among the settings as one parameter for each of its own: `teacher.backbone`."""
    for name, value in params.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", v) for inner, v in value.items())
        else:
            yield name, value


def now() -> int:
    """In MLflow's milliseconds."""
    return int(time.time() * 1000)
