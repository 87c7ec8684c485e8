"""The commands in a folder of its own, and what it left in the store there."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import Run, ViewType

from tests.helpers.database import new_database
from tests.helpers.paths import ROOT


def project(folder: Path, text: str, *, store: bool = True) -> Path:
    """A folder that looks like the repository's root, so that MLflow's files land in it; `store`: which it has."""
    for name in ("platform", "trainables"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "toy.yaml").write_text(text)
    if store:
        new_database(folder)
    return folder


def sweep(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "platform.sweep", "toy.yaml", *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def here(main: Callable[[list[str]], int], folder: Path, *arguments: str) -> Done:
    """A command that starts no Ray, in this process: most of its time would be what it imports."""
    stdout, stderr = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.chdir(folder), redirect_stdout(stdout), redirect_stderr(stderr):
            code = main(list(arguments))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def runs(folder: Path) -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)


def artifact(run: Run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / name
