"""The run of a trial: what it is opened with, and what one reads off it later."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mlflow.entities import Run

from platform.tracking.drivers import Driver
from platform.tracking.errors import temporary
from platform.tracking.index import Entry, FinishedTrial, Page, TrialRun
from platform.tracking.outbox import Record
from platform.tracking.provenance import code_tags
from platform.tracking.store import Store
from platform.tracking.sweeps import OpenSweep
from platform.tracking.trials import TrialState, flat
from trainables.settings.identity import EVALUATION
from trainables.settings.score_names import SCORE_SETTINGS
from trainables.settings.seeds import seeds

PROVISIONAL = "claim-"  # what the id of a run begins with that MLflow could not give yet
# A tag of its own for each identity: MLflow's database finds a tag by its name at once, by its value only among all of
# that name. Tags that begin like this one are not shown in its UI.
_SOUGHT = "mlflow.trial."
# Tags by which people know a run again, and see how it was made.
_LOOKED_AT = frozenset(
    {"split", "seed", "score", "method", "protocol", "split_family", "attempts", "warnings", "stopped"}
)
_LOOKED_AT |= {"superseded", "duplicate_of", "host", "pid", "born", "driver", "held", "training_seed"}


def opening_of(trial: TrialState, sweep: OpenSweep, driver: Driver, *, fresh: bool) -> Record:
    """Everything that it takes to make the run of a trial, whichever process does."""
    key = PROVISIONAL + uuid.uuid4().hex
    config = trial.config
    tags = {
        "mlflow.parentRunId": sweep.run_id,
        "kind": "trial",
        "phase": trial.place.phase,
        "row": trial.place.row,
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
        "score": config.score,  # of the sweep that is first to want it
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
    """What became of a run: finished, failed, interrupted, stopped or superseded; running."""
    if tag := next((tag for tag in ("superseded", "stopped") if tag in run.data.tags), ""):
        return tag
    words = {"FAILED": "failed", "KILLED": "interrupted", "RUNNING": "running"}
    return words.get(run.info.status, "finished")


def finished_trial(run: Run, sweep: str) -> FinishedTrial:
    """What the run of a finished trial tells, the experiment of whose run is called `sweep`."""
    return FinishedTrial(**_told(run, sweep))


def trial_run(run: Run, sweep: str) -> TrialRun:
    """What the run of a trial tells, whatever became of it."""
    return TrialRun(**_told(run, sweep))


def _told(run: Run, sweep: str) -> dict[str, Any]:
    tags, metrics, info = run.data.tags, run.data.metrics, run.info
    took = ((info.end_time or now()) - info.start_time) / 1000
    own = {n: v for n, v in tags.items() if n in _LOOKED_AT or n.startswith("version.")}
    own |= {"sweep": tags.get("mlflow.parentRunId", ""), "name": info.run_name or "", "files": info.artifact_uri or ""}
    details = {
        "params": dict(run.data.params),
        "metrics": dict(metrics),
        "tags": own | {"began": info.start_time / 1000},
    }
    for name in ("tested", *SCORE_SETTINGS):
        with suppress(KeyError, ValueError):  # absent, or of another version: nothing is known of it
            details[name] = json.loads(tags[name])
    return {
        "identity": tags.get("identity", ""),
        "run_id": info.run_id,
        "sweep": sweep,
        "row": tags.get("row", ""),
        "phase": tags.get("phase", ""),
        "git_sha": tags.get("git.sha", ""),
        "git_dirty": tags.get("git.dirty", ""),
        "ended": (info.end_time or 0) / 1000,
        "seconds": metrics.get("train/seconds", took),
        "device": tags.get("device", ""),
        "details": json.dumps(details),
        "ending": ending(run),
    }


def ended_page(store: Store, experiments: Sequence[str], token: str | None, size: int) -> Page:
    """Trials that ended, in the order in which they did: a page of the index."""
    query = "attributes.end_time > 0 and tags.kind = 'trial'"
    try:
        found = store.page(query, experiments, "attributes.end_time ASC", token, size)
    except Exception as error:
        if token is None or temporary(error):
            raise
        return Page([], None)  # a token of a store that was made anew
    entries = [Entry(trial_run(run, store.experiments.get(run.info.experiment_id, "")), counts(run)) for run in found]
    following = found.token.decode() if isinstance(found.token, bytes) else found.token
    return Page(entries, following or None)


def now() -> int:
    """In MLflow's milliseconds."""
    return int(time.time() * 1000)
