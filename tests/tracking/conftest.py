"""Fixtures of real stores."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from platform.tracking import outbox
from platform.tracking.tracker import Tracker


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(outbox, "INTERVAL", 0.1)
    monkeypatch.setattr(outbox, "LONGEST_WAIT", 0.5)
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables: making them takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}")
    return file


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty, tmp_path)}"


@pytest.fixture
def track(uri: str, tmp_path: Path) -> Iterator[Callable[..., Tracker]]:
    """Trackers as different processes have them: each with an outbox of its own, closed at the end."""
    trackers: list[Tracker] = []

    def make(*, to: str = "", box: str = "", say: Callable[[str], None] = lambda text: None) -> Tracker:
        trackers.append(Tracker(to or uri, tmp_path / (box or f"outbox {len(trackers)}"), say))
        return trackers[-1]

    yield make
    for tracker in trackers:
        tracker.close(1)
