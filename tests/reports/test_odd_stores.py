"""Tables of stores as no sweep of a test leaves them: lost processes, mixed code, files without a store."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from platform.files import search_file
from platform.reports.against import side_by_side
from platform.reports.exported import exported, read_exported
from platform.reports.of_file import table_of
from platform.reports.table import ReportTable, ReportTrial
from platform.tracking.index import FinishedTrial, SweepRun, TrialRun
from platform.tracking.reader import Reader
from trainables.settings.identity import identity_of

BASE = "{protocol: cifar10, split_family: agc, method: plain, backbone: wrn10-1, epochs: 2}"
ROWS = f"""\
name: rows
base: {BASE}
splits: [0, 2]
columns: {{Acc.: test/accuracy, AUROC: test/auroc}}
rows:
  - {{name: Plain, set: {{}}}}
  - {{name: Taught, set: {{method: distill, mix: cutmix, teacher: {{backbone: wrn16-1}}}}}}
  - {{name: Best, best_of: search.yaml}}
"""
SEARCH = f"name: search\nbase: {BASE}\nsearch: {{lr: {{float: [0.01, 0.1]}}}}\ntrials: 3\n"
IMAGES = {"cifar10": ["f00d", 50_000]}
SWEEPS = [
    SweepRun("s1", "rows", True, "paper", "", IMAGES, {}),
    SweepRun("s2", "search", True, "paper", "", IMAGES, {"best.lr": "0.05"}),
]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.yaml").write_text(ROWS)
    Path("search.yaml").write_text(SEARCH)


def table(reader: Reader, name: str = "rows.yaml") -> ReportTable:
    return table_of(search_file.load(Path(name)), "paper", (), reader)


def trials() -> list[ReportTrial]:
    """All of the table, none of which has run yet."""
    shown = table(Reader("", sweeps=SWEEPS))
    return [trial for line in shown.cells for trial in line[0].trials]


def finished(identity: str, **of: object) -> FinishedTrial:
    metrics = {"test/accuracy": 0.8, "test/cifar10/msp/auroc": 0.7}
    run = FinishedTrial(
        identity, f"run of {identity}", "rows", "row", "row", "aaaa", "false", 1.0, 3600.0, "cpu, 1 threads",
        json.dumps({"params": {}, "metrics": metrics}),
    )  # fmt: skip
    return replace(run, **of)  # type: ignore[arg-type]


def reader(of: Mapping[str, FinishedTrial]) -> Reader:
    return Reader("", of, sweeps=SWEEPS)


@pytest.fixture
def everything() -> dict[str, FinishedTrial]:
    """All trials of the table, and the teachers."""
    made = {trial.identity: finished(trial.identity) for trial in trials()}
    taught = [trial for trial in trials() if trial.config.teacher]
    for trial in taught:
        assert trial.config.teacher is not None
        teacher = identity_of(trial.config.teacher, {"cifar10": "f00d"})
        made[teacher] = finished(teacher, seconds=7200.0, row="teacher")
    return made


def test_a_trial_whose_process_is_gone_is_not_running() -> None:
    first, second = trials()[:2]
    tags = {"host": "here", "pid": "1", "born": "1.0", "driver": "gone", "sweep": "s1"}
    begun = {
        trial.identity: TrialRun(
            trial.identity, "r", "elsewhere", "row", "row", "", "", 0.0, 0.0, "", json.dumps({"tags": tags}), "running"
        )
        for trial in (first, second)
    }
    cell = table(Reader("", sweeps=SWEEPS, running=begun)).cells[0][0]
    assert cell.state == "interrupted"
    assert {trial.experiment for trial in cell.trials} == {"elsewhere"}  # whose run it is, for its link


def test_a_caption_says_where_several_versions_and_devices_are_behind_a_table(
    everything: dict[str, FinishedTrial],
) -> None:
    said = " ".join(table(reader(everything)).caption)
    assert "several versions" not in said
    assert "trained on cpu" not in said
    other = trials()[0].identity
    everything[other] = replace(everything[other], git_sha="bbbb", git_dirty="true", device="NVIDIA H200")
    said = " ".join(table(reader(everything)).caption)
    assert "Its trials were trained by code of several versions: aaaa and bbbb with changes." in said
    assert "Its trials were trained on NVIDIA H200 and cpu, 1 threads." in said


def test_what_is_not_told_of_test_images_is_counted_by_trials(everything: dict[str, FinishedTrial]) -> None:
    Path("twice.yaml").write_text(ROWS.replace("name: rows", "name: twice") + "  - {name: Again, set: {}}\n")
    said = " ".join(table(reader(everything), "twice.yaml").caption)
    assert f"Which test images {len(trials())} trials saw was not recorded" in said


def test_an_exported_table_has_rows_of_a_search_and_the_costs_of_teachers(
    everything: dict[str, FinishedTrial], tmp_path: Path
) -> None:
    before = table(reader(everything))
    Path("trials.csv").write_text(exported([before], reader(everything)))
    after = table(read_exported(Path("trials.csv"), "--from"))
    assert [[cell.values for cell in line] for line in after.cells] == [
        [cell.values for cell in line] for line in before.cells
    ]
    assert [len(line[0].values) for line in after.cells] == [2, 2, 2]
    assert {trial.teacher_seconds for trial in after.cells[1][0].trials} == {7200.0}


@pytest.mark.parametrize("first", ["table", "search"])
def test_a_search_and_a_table_of_its_best_settings_may_be_in_one_file(
    first: str, everything: dict[str, FinishedTrial]
) -> None:
    """The search was confirmed, so that it has trials of its own."""
    Path("search.yaml").write_text(SEARCH + "confirm: {splits: [0]}\n")
    sweeps = [SWEEPS[0], replace(SWEEPS[1], images=IMAGES)]
    shown = table(Reader("", sweeps=sweeps), "search.yaml")
    everything |= {trial.identity: finished(trial.identity) for line in shown.cells for trial in line[0].trials}
    there = Reader("", everything, sweeps=sweeps)
    both = [table(there), table(there, "search.yaml")]
    Path("trials.csv").write_text(exported(both if first == "table" else both[::-1], there))
    again = read_exported(Path("trials.csv"), "--from")
    assert [len(line[0].values) for line in table(again).cells] == [2, 2, 2]
    assert [cell.values for cell in table(again, "search.yaml").all_cells] == [
        cell.values for cell in both[1].all_cells
    ]
    assert any(cell.values for cell in both[1].all_cells)


@pytest.mark.parametrize("name", ["=1+1", "'=1+1", "'plain"])
def test_names_that_a_spreadsheet_would_compute_come_back_from_an_export(
    name: str, everything: dict[str, FinishedTrial]
) -> None:
    first = trials()[0].identity
    everything[first] = replace(everything[first], row=name)
    text = exported([table(reader(everything))], reader(everything))
    assert ",=" not in text
    Path("trials.csv").write_text(text)
    assert read_exported(Path("trials.csv"), "--from").finished[first].row == name


def test_trials_of_other_classes_are_not_paired(everything: dict[str, FinishedTrial]) -> None:
    Path("other.yaml").write_text(ROWS.replace("split_family: agc", "split_family: osrci"))
    shown = table(Reader("", sweeps=SWEEPS), "other.yaml")
    others = {trial.identity: finished(trial.identity) for line in shown.cells[:1] for trial in line[0].trials}
    one, other = table(reader(everything)), table(reader(others), "other.yaml")
    lines = {line[:2]: line[2:] for line in side_by_side(one, other)}
    assert lines["Plain", "Acc."] == ("80.0 ± 0.0", "80.0 ± 0.0", "", "")
    same = {line[:2]: line[2:] for line in side_by_side(one, one)}
    assert same["Plain", "Acc."] == ("80.0 ± 0.0", "80.0 ± 0.0", "+0.0", "2 partitions")
