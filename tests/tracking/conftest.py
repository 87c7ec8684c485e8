"""Fixtures of real stores."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from platform.tracking import outbox
from platform.tracking.tracker import Tracker
from tests.helpers.database import new_database


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(outbox, "INTERVAL", 0.1)
    monkeypatch.setattr(outbox, "LONGEST_WAIT", 0.5)
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_database(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{new_database(tmp_path)}"


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
