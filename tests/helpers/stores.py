"""Real stores, what a sweep records in them, and a real server, to be killed and started again."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from platform.tracking.sweeps import OpenSweep
from platform.tracking.tracker import Tracker
from platform.tracking.trials import Place, TrialState
from trainables.settings.resolving import resolve

VAL, TEST = "val/pseudo-unknown/msp/auroc", "test/digits/msp/auroc"  # what a run calls `val/auroc` and `test/auroc`
CONFIG = resolve({"method": "backmix", "protocol": "digits", "backbone": "wrn10-1", "epochs": 3, "mask_ratio": 0.25})
FORK = multiprocessing.get_context("fork")  # for importing MLflow takes seconds


def sweep_of(tracker: Tracker, file: Path, *, key: str = "k", experiment: str = "toy", **params: Any) -> OpenSweep:
    file.write_text("name: toy")
    return tracker.start_sweep(experiment, f"sweep {experiment}", key, params, {"profile": "quick"}, [file])


def state(identity: str, **changes: Any) -> TrialState:
    return TrialState(Place("toy", "row", "Row", 1), **{"config": CONFIG} | changes, identity=identity)


def report(tracker: Tracker, trial: TrialState, epoch: float, **metrics: float) -> None:
    trial.epoch, trial.device = epoch, "cpu"
    trial.metrics = {"train/loss": 1 / (epoch + 1), VAL: 0.5, "val/msp/tnr95": 0.1 * epoch, **metrics}
    tracker.reported(trial)


def finish(tracker: Tracker, trial: TrialState, folder: Path, *, since: int = 0, **metrics: float) -> None:
    """Train to the end, with the three files that a finished trial has; its folder is deleted then."""
    tracker.started(trial)
    for epoch in range(since + 1, CONFIG.epochs + 1):
        if epoch == CONFIG.epochs:
            trial.status = "finished"
        report(tracker, trial, epoch, **({TEST: 0.75, **metrics} if epoch == CONFIG.epochs else {}))
    trial.files = folder / f"files of {trial.identity}"
    trial.files.mkdir(parents=True)
    for name in ("config.yaml", "scores.parquet", "weights.pt"):
        (trial.files / name).write_text(trial.identity)
    tracker.ended(trial)
    shutil.rmtree(trial.files)


def flush(tracker: Tracker) -> None:
    assert tracker._outbox.flush(30)


def runs(uri: str, kind: str = "trial", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    client = MlflowClient(uri)
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run for run in client.search_runs(every, run_view_type=view) if run.data.tags.get("kind") == kind]


def statuses(uri: str, kind: str = "trial") -> Counter[str]:
    return Counter(run.info.status for run in runs(uri, kind))


def steps(uri: str, run_id: str, name: str) -> list[int]:
    return [metric.step for metric in MlflowClient(uri).get_metric_history(run_id, name)]


def bury(uri: str, run_id: str) -> None:
    """The process that has this run is dead: its number belongs to a process that was born at another time."""
    MlflowClient(uri).set_tag(run_id, "born", "1.0")


class Server:
    """`mlflow server` on a database, to be killed and started again."""

    def __init__(self, uri: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.store, self.folder = uri, folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        options = ["--backend-store-uri", self.store, "--artifacts-destination", str(self.folder / "artifacts")]
        options += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 90
        while True:
            try:
                with urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
