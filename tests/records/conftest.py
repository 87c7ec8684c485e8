"""One store for all tests that only look at it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from platform import runs
from tests.helpers.recorded import recorded
from tests.helpers.sweeps import Done, here

Command = Callable[..., Done]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSR_CACHE", str(folder / "cache"))
        recorded(folder)
    return folder


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, started in the folder of the store."""
    monkeypatch.setenv("OSR_CACHE", str(place / "cache"))
    return lambda *arguments: here(runs.main, place, *arguments)
