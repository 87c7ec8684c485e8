"""What is not the same about two trials."""

import json

from tests.records.conftest import Command


def test_two_trials_differ_by_their_settings_and_metrics(run: Command) -> None:
    found = json.loads(run("diff", "a1", "b2", "--json").stdout)
    assert found["settings"]["lr"] == ["0.1", "0.05"]
    assert found["settings"]["mix"] == ["none", "cutmix"]
    assert "epochs" not in found["settings"]
    assert not found["identical"]
    assert found["made"] == {}
    trials = {trial["row"]: trial["metrics"] for trial in json.loads(run("list", "--json").stdout)["trials"]}
    assert found["metrics"]["test/accuracy"] == [trials[row]["test/accuracy"] for row in ("Plain", "CutMix")]


def test_a_difference_of_metrics_is_the_second_less_the_first_in_percent(run: Command) -> None:
    trials = {trial["row"]: trial["metrics"] for trial in json.loads(run("list", "--json").stdout)["trials"]}
    one, other = (100 * trials[row]["test/digits/msp/auroc"] for row in ("Plain", "CutMix"))
    said = run("diff", "a1", "b2").stdout
    (line,) = [line for line in said.splitlines() if "test/digits/msp/auroc " in line]
    assert [cell.strip() for cell in line.split("│")[2:5]] == [f"{one:.1f}", f"{other:.1f}", f"{other - one:+.1f}"]
    assert "The same code and machine." in said


def test_a_trial_that_has_no_metrics_leaves_its_column_empty(run: Command) -> None:
    said = run("diff", "a1", "c3").stdout
    (line,) = [line for line in said.splitlines() if "test/accuracy" in line]
    assert [cell.strip() for cell in line.split("│")[3:5]] == ["", ""]


def test_two_runs_of_one_trial_are_told_to_be_one(run: Command) -> None:
    assert "Both are runs of one trial" in run("diff", "a1", "a1").stdout


def test_a_sweep_cannot_be_compared(run: Command) -> None:
    done = run("diff", "toy", "a1")
    assert (done.returncode, done.stderr[:14]) == (2, "toy is a sweep")
