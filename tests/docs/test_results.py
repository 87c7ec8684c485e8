"""The pages of results hold to the trials beside them: each table is what the report makes of its CSV today."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from platform.report import main
from tests.helpers.paths import ROOT
from tests.helpers.sweeps import here

RESULTS = ROOT / "docs" / "results"
AGAIN = re.compile(r"^\$ uv run python -m platform\.report (.* --from docs/results/.*\.csv)$", re.MULTILINE)
PAGES = [path for path in sorted(RESULTS.glob("*.md")) if path.name != "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_has_the_table_that_its_command_prints(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    commands = AGAIN.findall(re.sub(r"\\\n +", "", text))
    assert commands
    for command in commands:
        done = here(main, ROOT, *shlex.split(command), "--format", "markdown")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() in text
