"""Requests to MLflow: as few as its limits allow, one at a time, never retried in silence."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from sqlalchemy.exc import SQLAlchemyError

from platform.command import command
from platform.tracking.address import absolute, check_reachable, index_file, short_name, sqlite_file
from platform.tracking.errors import TrackingError, masked
from trainables.reading.addresses import showable
from trainables.storage.cache import cache_folder

BATCH = 1000  # MLflow's limit of metrics in one request; also runs in one page
PARAMS = 100  # MLflow's limit of params in one request, and that of tags
TURN = 10.0  # seconds that a claim waits for the request of a delivery

_ENVIRONMENT = {
    # The outbox tries again, and tells: MLflow itself would do so for minutes without a word.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    # The terminal is the live view's.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

End = Literal["FINISHED", "FAILED", "KILLED"]


class Store:
    """An MLflow store. Every method may raise what MLflow raises: `told` makes it a `TrackingError`.

    Raises `TrackingError` where the store does not answer.
    """

    def __init__(self, uri: str) -> None:
        for name in ("mlflow", "alembic", "sqlalchemy", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what MLflow raises, we tell
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self.shown = showable(uri)  # as people see it
        self.uri = absolute(uri)
        self.name = short_name(uri)
        self.index = index_file(uri)
        self.experiments: dict[str, str] = {}  # name by id, as found by the latest `experiment_ids`
        # Two threads in SQLAlchemy at once take many times as long as one after the other: deliveries wait for claims.
        self._turn, self._claiming = threading.RLock(), threading.RLock()
        check_reachable(self.uri)
        try:
            with self._one_process():  # two that make the tables of a new database at once would break it
                self._client = MlflowClient(tracking_uri=self.uri)
            self.experiment_ids()
        except Exception as error:  # of MLflow, of what it opens a store by, or of the system
            raise TrackingError(f"MLflow at {self.shown} cannot be used: {masked(error)}") from error

    @contextmanager
    def told(self) -> Iterator[None]:
        """What MLflow raises, as `TrackingError`."""
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingError(f"MLflow at {self.shown} cannot be used: {masked(error)}") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other thread asks. Raises `TimeoutError` where one does not get its answer."""
        with self._claiming:
            if not self._turn.acquire(timeout=TURN):
                raise TimeoutError(f"no answer for {TURN:g} seconds")
            try:
                yield
            finally:
                self._turn.release()

    @contextmanager
    def _request(self) -> Iterator[None]:
        """One request, when no other thread is `alone`."""
        with self._claiming:
            pass
        with self._turn:
            yield

    @contextmanager
    def _one_process(self) -> Iterator[None]:
        """Among those of this machine that use the store."""
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"store-{self.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # Experiments

    def experiment_ids(self) -> list[str]:
        """Of all experiments, also those that others made since: a claim must be seen by all."""
        found: dict[str, str] = {}
        token = None
        while True:
            with self._request():
                page = self._client.search_experiments(max_results=BATCH, page_token=token)
            found |= {experiment.experiment_id: experiment.name for experiment in page}
            token = page.token
            if not token:
                self.experiments = found
                return list(found)

    def experiment(self, name: str) -> str | None:
        """The id of an experiment."""
        with self._request():
            found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found and found.lifecycle_stage == "active" else None

    def make_experiment(self, name: str) -> str:
        """The id of an experiment, made where there is none. Its files lie beside a database file."""
        if found := self.experiment(name):
            return found
        place = None
        if file := sqlite_file(self.uri):
            place = (file.parent / "mlruns" / name).as_uri()
        tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens in its training view
        try:
            with self._request():
                return self._client.create_experiment(name, artifact_location=place, tags=tags)
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":
                if found := self.experiment(name):
                    return found  # another sweep was first
                raise TrackingError(self._deleted(name)) from error
            raise

    def _deleted(self, name: str) -> str:
        """What to do where an experiment of this name was deleted: MLflow keeps the name with its runs."""
        with self._request():
            found = self._client.get_experiment_by_name(name)
        number = found.experiment_id if found else "ID"
        back = command("mlflow", "experiments", "restore", "--experiment-id", number)
        return (
            f"the experiment {name} was deleted from MLflow at {self.shown}. Bring it back, with its runs, by "
            f"MLFLOW_TRACKING_URI={self.shown} {back}, or give the file another `name`"
        )

    # Runs

    def run(self, run_id: str) -> Run:
        with self._request():
            return self._client.get_run(run_id)

    def runs(self, query: str, experiments: Sequence[str], order: str = "attributes.start_time DESC") -> Iterator[Run]:
        """Those that are not deleted."""
        token = None
        while True:
            page = self.page(query, experiments, order, token)
            yield from page
            token = page.token
            if not token:
                return

    def page(
        self, query: str, experiments: Sequence[str], order: str, token: str | None, size: int = BATCH
    ) -> PagedList[Run]:
        with self._request():
            return self._client.search_runs(
                list(experiments), query, max_results=size, order_by=[order], page_token=token
            )

    def deleted(self, experiments: Sequence[str]) -> Iterator[Run]:
        """Those of sweeps and trials that are deleted."""
        token = None
        while True:
            with self._request():
                page = self._client.search_runs(
                    list(experiments), "tags.kind != ''", ViewType.DELETED_ONLY, max_results=BATCH, page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return

    def erase(self, run_ids: Sequence[str]) -> None:
        """Remove deleted runs for good, with their files, which MLflow's own command alone can do.

        Raises `TrackingError`.
        """
        for start in range(0, len(run_ids), PARAMS):
            named = ",".join(run_ids[start : start + PARAMS])
            words = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", self.uri, "--run-ids", named]
            environment = {**os.environ, "MLFLOW_TRACKING_URI": self.uri}
            done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                raise TrackingError(
                    f"MLflow at {self.shown} did not remove its deleted runs: {showable(done.stderr.strip()[-300:])}"
                )

    def create(self, experiment: str, name: str, tags: Mapping[str, str], started: int | None = None) -> str:
        """A new run's id. `started`: in milliseconds; now where it is not given."""
        with self._request():
            run = self._client.create_run(experiment, start_time=started, tags=dict(tags), run_name=name)
        return run.info.run_id

    def reopen(self, run_id: str, name: str) -> None:
        with self._request():
            self._client.update_run(run_id, status="RUNNING", name=name)

    def end(self, run_id: str, status: End, ended: int | None = None) -> None:
        """`ended`: in milliseconds; now where it is not given."""
        with self._request():
            self._client.set_terminated(run_id, status, ended)

    def delete(self, run_id: str) -> None:
        with self._request():
            self._client.delete_run(run_id)

    def last_step(self, run_id: str, metric: str) -> int:
        """The largest step at which a metric was logged, -1 where it never was."""
        with self._request():
            history = self._client.get_metric_history(run_id, metric)
        return max((m.step for m in history), default=-1)

    def log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Iterable[tuple[str, Any]] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """One epoch's metrics stay together where they fit."""
        listed = [Param(name, str(value)) for name, value in params]
        labels = [RunTag(name, value) for name, value in (tags or {}).items()]
        for start in range(0, max(len(listed), len(labels)), PARAMS):
            part = slice(start, start + PARAMS)
            here = list(metrics) if len(metrics) <= BATCH - 2 * PARAMS and start == 0 else []
            with self._request():
                self._client.log_batch(run_id, params=listed[part], tags=labels[part], metrics=here)
            metrics = metrics[len(here) :]
        for start in range(0, len(metrics), BATCH):
            with self._request():
                self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    # Files: no `_request`, for they may take longer than a claim should wait

    def put_folder(self, run_id: str, folder: Path, under: str = "") -> None:
        """Everything that a folder holds, below `under`."""
        self._client.log_artifacts(run_id, str(folder), under or None)

    def put_text(self, run_id: str, text: str, name: str) -> None:
        self._client.log_text(run_id, text, name)

    def file_names(self, run_id: str) -> list[str]:
        return [file.path for file in self._client.list_artifacts(run_id)]

    def has(self, run_id: str, name: str) -> bool:
        """Whether a file is among those of a run."""
        parent = str(Path(name).parent) if "/" in name else None
        return any(file.path == name for file in self._client.list_artifacts(run_id, parent))

    def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
        """A file of a run, copied into `folder`; None where it has none of this name."""
        if not self.has(run_id, name):
            return None
        return Path(self._client.download_artifacts(run_id, name, str(folder)))
