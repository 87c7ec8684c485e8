from __future__ import annotations

from pathlib import Path

import pytest

from platform.tracking import outbox
from tests.helpers.database import new_database
from tests.helpers.searches import Search


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    monkeypatch.setattr(outbox, "INTERVAL", 0.1)
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    return Search(tmp_path, f"sqlite:///{new_database(tmp_path)}")
