"""The one room of MLflow: a run for the sweep, a run under it for each trial, written by the driver alone."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import urlopen

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from platform.trials import TrialState
from trainables.data.trial_data import seeds
from trainables.trial import config_yaml

FLUSH_SECONDS = 3.0
BATCH = 1000  # MLflow's limit of metrics in one request


class TrackingError(RuntimeError):
    """MLflow cannot be reached or refuses; the message says which store."""


class Tracker:
    """A `Listener` that writes to MLflow. Every run it started has ended once `close` returns."""

    def __init__(self, uri: str, experiment: str, objective: str) -> None:
        for name in ("mlflow", "alembic", "sqlalchemy"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.uri = uri
        self.shown = {"val/accuracy", "val/auroc", "val/oscr", objective}  # of each epoch; the last has all
        self.sweep_run = ""
        self._runs: dict[int, str] = {}  # id of a running TrialState → run
        self._pending: dict[int, list[Metric]] = {}
        self._flushed: dict[int, float] = {}
        self.cells: list[dict[str, Any]] = []
        _check_reachable(uri)
        self.client = MlflowClient(tracking_uri=uri)
        try:
            found = self.client.get_experiment_by_name(experiment)
            self.experiment = found.experiment_id if found else self._create(experiment)
        except (MlflowException, OSError) as error:
            raise TrackingError(f"MLflow at {uri} cannot be used: {error}") from error

    def _create(self, experiment: str) -> str:
        """A new experiment. Its files lie beside a database file, wherever the command is started from."""
        place = None
        if folder := _sqlite_folder(self.uri):
            place = (folder / "mlruns" / experiment).as_uri()
        tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens in its training view
        return self.client.create_experiment(experiment, artifact_location=place, tags=tags)

    def start_sweep(self, name: str, params: dict[str, Any], tags: dict[str, str], file: Path) -> None:
        """Open the parent run, with the search file as its artifact."""
        run = self.client.create_run(self.experiment, run_name=name, tags={**tags, **_code_tags(), "kind": "sweep"})
        self.sweep_run = run.info.run_id
        self._log(self.sweep_run, params=params)
        self.client.log_artifact(self.sweep_run, str(file))

    def started(self, trial: TrialState) -> None:
        config = trial.config
        tags = {
            "mlflow.parentRunId": self.sweep_run,
            "kind": "trial",
            "phase": trial.phase,
            "row": trial.row,
            "identity": trial.identity,
            "method": config.method,
            "protocol": config.protocol,
            "split_family": config.split_family,
            "split": str(config.split),
            "seed": str(config.seed),
            "training_seed": str(seeds(config)[0]),
            **_code_tags(),
        }
        run = self.client.create_run(self.experiment, run_name=trial.name, tags=tags)
        self._runs[id(trial)] = run.info.run_id
        self._pending[id(trial)] = []
        self._flushed[id(trial)] = time.monotonic()
        self._log(run.info.run_id, params=config.settings())
        self.client.log_text(run.info.run_id, config_yaml(config), "config.yaml")

    def reported(self, trial: TrialState) -> None:
        if trial.epoch == 1:
            self.client.set_tag(self._runs[id(trial)], "device", trial.device)
        last = trial.status == "finished"
        now = int(time.time() * 1000)
        self._pending[id(trial)] += [
            Metric(name, value, now, trial.epoch)
            for name, value in trial.metrics.items()
            if last or name.startswith("train/") or name in self.shown
        ]
        if time.monotonic() - self._flushed[id(trial)] > FLUSH_SECONDS:
            self._flush(trial)

    def ended(self, trial: TrialState) -> None:
        self._flush(trial)
        run = self._runs[id(trial)]
        if trial.files:
            self.client.log_artifacts(run, str(trial.files))
        if trial.error:
            self.client.log_text(run, trial.error, "traceback.txt")
        if trial.status == "stopped":
            self.client.set_tag(run, "stopped", f"by the scheduler, after epoch {trial.epoch}")
        self.client.set_terminated(run, "FAILED" if trial.status == "failed" else "FINISHED")
        del self._runs[id(trial)]  # only now: an interrupt before this leaves it for `close`
        self.cells.append(
            {
                "phase": trial.phase,
                "row": trial.row,
                "split": trial.config.split,
                "seed": trial.config.seed,
                "identity": trial.identity,
                "run_id": run,
                "status": trial.status,
            }
        )

    def fetch_weights(self, identity: str, folder: Path) -> Path | None:
        """The weights of a trial that finished with this identity, copied into `folder`; None where there is none."""
        # A run that was stopped early is FINISHED as well, but has no weights.
        known = f"tags.identity = '{identity}' and attributes.status = 'FINISHED'"
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        for run in self.client.search_runs(experiments, known):
            try:
                if any(file.path == "weights.pt" for file in self.client.list_artifacts(run.info.run_id)):
                    return Path(self.client.download_artifacts(run.info.run_id, "weights.pt", str(folder)))
            except (MlflowException, OSError):
                continue  # its files are gone or out of reach: as if it had none
        return None

    def log_result(self, metrics: dict[str, float], params: dict[str, Any]) -> None:
        """What the whole sweep found, on the parent run."""
        now = int(time.time() * 1000)
        self._log(self.sweep_run, params=params, metrics=[Metric(k, v, now, 0) for k, v in metrics.items()])

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the sweep's run, and as KILLED every trial that is still running."""
        for run in self._runs.values():
            self.client.set_terminated(run, "KILLED")
        self._runs.clear()
        if self.sweep_run:
            self.client.log_text(self.sweep_run, json.dumps(self.cells, indent=1), "cells.json")
            self.client.set_terminated(self.sweep_run, status)

    def ui_command(self) -> str:
        """The command that shows the runs, or where the server already does."""
        if self.uri.startswith("http"):
            return f"open {self.uri}/#/experiments/{self.experiment}"
        return f"uv run mlflow ui --backend-store-uri {self.uri}"

    def _flush(self, trial: TrialState) -> None:
        pending, self._pending[id(trial)] = self._pending[id(trial)], []
        self._flushed[id(trial)] = time.monotonic()
        if pending:
            self._log(self._runs[id(trial)], metrics=pending)

    def _log(self, run: str, *, params: dict[str, Any] | None = None, metrics: list[Metric] | None = None) -> None:
        entities = [Param(name, str(value)) for name, value in _flat(params or {})]
        if entities:
            self.client.log_batch(run, params=entities)
        for start in range(0, len(metrics or []), BATCH):
            self.client.log_batch(run, metrics=(metrics or [])[start : start + BATCH])


def _flat(params: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A mapping among the settings as one parameter for each of its own: `teacher.backbone`."""
    for name, value in params.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", v) for inner, v in value.items())
        else:
            yield name, value


def _sqlite_folder(uri: str) -> Path | None:
    """The folder of a SQLite store, None for any other."""
    kind, _, rest = uri.partition("://")
    return Path(rest.removeprefix("/")).resolve().parent if kind == "sqlite" else None


def _check_reachable(uri: str) -> None:
    """Ask once, with a short limit: MLflow itself would retry for minutes before it says a word."""
    if folder := _sqlite_folder(uri):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingError(f"MLflow at {uri} cannot be used: {error}") from error
    elif uri.startswith(("http://", "https://")):
        try:
            with urlopen(f"{uri.rstrip('/')}/health", timeout=10):
                pass
        except HTTPError:
            pass  # it answers: a server behind a login may refuse this page and still take runs
        except OSError as error:
            raise TrackingError(f"MLflow at {uri} does not answer: {error}. Is the server running?") from error


@cache
def _code_tags() -> dict[str, str]:
    """Which code and which versions: git sha, whether it was changed, and the libraries that shape numbers."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    sha = git("rev-parse", "HEAD")
    dirty = str(bool(git("status", "--porcelain"))).lower() if sha else "unknown"
    libraries = ("torch", "torchvision", "numpy", "ray", "optuna", "mlflow")
    source = {"mlflow.source.name": "platform.sweep", "mlflow.source.type": "LOCAL", "mlflow.source.git.commit": sha}
    return source | {"git.sha": sha or "unknown", "git.dirty": dirty} | {f"version.{n}": version(n) for n in libraries}
