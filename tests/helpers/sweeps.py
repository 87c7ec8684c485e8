"""The sweep command in a folder of its own, and what it left in the store there."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
from mlflow.entities import Run, ViewType

from tests.helpers.paths import ROOT


def project(folder: Path, text: str) -> Path:
    """A folder that looks like the repository's root, so that MLflow's files land in it."""
    for name in ("platform", "trainables"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "toy.yaml").write_text(text)
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


def runs(folder: Path) -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)


def artifact(run: Run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / name
