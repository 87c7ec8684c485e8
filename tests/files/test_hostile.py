"""A few of `benchmarks.hostile`: refused in a line, and nothing written."""

from pathlib import Path

import pytest

from benchmarks import hostile

KINDS = ("YAML", "settings", "names", "files", "--set")
FEW = [case for kind in KINDS for case in [c for c in hostile.cases() if c.kind == kind][::10]]


@pytest.mark.parametrize("case", FEW, ids=lambda case: f"{case.kind} {case.name!a}")
def test_a_hostile_case_is_answered_and_nothing_is_written(case: hostile.Case, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    assert hostile.ask(case, tmp_path / "above").fault() == ""
