"""Two tables side by side, of real trials on a GPU that are in docs/results/."""

import csv
import math
from pathlib import Path

import pytest
from scipy import stats

from platform.report import main
from tests.helpers.paths import ROOT
from tests.helpers.sweeps import here

BEFORE = ROOT / "docs" / "results" / "asymmetric_table09.csv"
TABLE = (str(ROOT / "search_spaces/asymmetric/table09.yaml"), "--profile", "pneumonia", "--set", "base.precision=bf16")
BETTER = (0.01, 0.03, 0.02)  # accuracy of each seed of the first row, after a change


@pytest.fixture
def after(tmp_path: Path) -> str:
    lines = list(csv.DictReader(BEFORE.open()))
    rows = (line for line in lines if line["row"] == "MedMNIST")
    for line, better in zip(rows, BETTER, strict=True):
        line["test/accuracy"] = str(float(line["test/accuracy"]) + better)
    with (tmp_path / "after.csv").open("w") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    return str(tmp_path / "after.csv")


def test_every_cell_has_its_paired_difference_with_an_interval(after: str, tmp_path: Path) -> None:
    done = here(main, tmp_path, *TABLE, "--from", after, "--against", str(BEFORE))
    assert done.returncode == 0, done.stderr
    told = [[part.strip() for part in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    found = {(row, column): difference for row, column, _, _, difference, _ in told[2:]}
    half = 100 * stats.t.ppf(0.975, 2) * math.sqrt(1e-4 / 3)  # of 1, 3 and 2 points: their deviation is 1
    assert found == {
        ("MedMNIST", "Pneumonia AUC"): "+0.0",
        ("MedMNIST", "Pneumonia Acc."): f"+2.0 [−{half - 2:.1f}, +{half + 2:.1f}]",
        ("Ours", "Pneumonia AUC"): "+0.0",
        ("Ours", "Pneumonia Acc."): "+0.0",
    }
    assert f"second: {BEFORE}, " in done.stdout
