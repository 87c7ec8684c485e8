"""What `runs list` and `runs show` say of a store after a day of work."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from platform.planning.results import Outcome, Results
from platform.records.listing import comma_separated
from platform.terminal.summary import failures
from platform.terminal.tracebacks import last_first
from platform.tracking.trials import Place
from tests.helpers.paths import ROOT
from tests.helpers.recorded import COMMAND
from tests.records.conftest import Command
from trainables.settings.resolving import resolve


def test_every_trial_is_listed_with_what_became_of_it(run: Command) -> None:
    said = run().stdout
    found = {row: status for status, row in re.findall(r"│ \w{10} │ (\w+) +│ toy +│ (\w[\w ]*\w) +│", said)}
    assert found == {
        "Plain": "finished",
        "CutMix": "finished",
        "Broken": "failed",
        "Broken off": "interrupted",
        "Gone": "lost",
    }
    assert "2 finished" in said


def test_a_line_has_the_metrics_of_the_run_in_percent(run: Command) -> None:
    (trial,) = json.loads(run("list", "--row", "Plain", "--json").stdout)["trials"]
    said = run("list", "--row", "Plain").stdout
    accuracy, auroc = (100 * trial["metrics"][name] for name in ("test/accuracy", "test/digits/msp/auroc"))
    assert f"│ {accuracy:.1f} │ {auroc:.1f} msp │" in said


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--failed"], {"Gone", "Broken"}),
        (["--row", "CutMix"], {"CutMix"}),
        (["--sweep", "another"], set()),
        (["--since", "1h"], {"Gone", "Broken off", "Broken", "CutMix", "Plain"}),
        (["--since", "2999-01-01"], {"Gone"}),  # it has not ended
    ],
)
def test_a_filter_lets_pass_what_it_says(run: Command, options: list[str], rows: set[str]) -> None:
    assert {trial["row"] for trial in json.loads(run(*options, "--json").stdout)["trials"]} == rows


def test_a_time_that_cannot_be_read_is_told(run: Command) -> None:
    done = run("--since", "yesterday")
    assert (done.returncode, done.stderr) == (2, "--since yesterday: write a day as 2026-11-20, or 90m, 12h, 3d, 2w\n")


def test_a_csv_has_a_line_a_trial_and_all_metrics(run: Command) -> None:
    lines = {line["row"]: line for line in csv.DictReader(run("list", "--csv").stdout.splitlines())}
    trials = {trial["row"]: trial for trial in json.loads(run("list", "--json").stdout)["trials"]}
    assert set(lines) == set(trials)
    for name, value in trials["Plain"]["metrics"].items():
        assert float(lines["Plain"][name]) == value
    assert len(trials["Plain"]["metrics"]) > 30
    assert lines["Broken"]["test/accuracy"] == ""


def test_a_row_whose_name_is_a_formula_is_a_text_in_a_csv() -> None:
    text = comma_separated([{"row": "=1+1", "metrics": {"test/accuracy": -0.5}}])
    assert text == "row,test/accuracy\n'=1+1,-0.5\n"


@pytest.mark.parametrize("name", ["b2b2b2b2b2b2b2b2", "b2", "CutMix, split 0, seed 0", "CutM", "toy, CutMix, split 0"])
def test_a_trial_is_found_by_its_identity_or_its_name_or_how_one_begins(run: Command, name: str) -> None:
    assert json.loads(run("show", name, "--json").stdout)["row"] == "CutMix"


def test_a_run_is_found_by_how_its_id_begins(run: Command) -> None:
    for trial in json.loads(run("list", "--json").stdout)["trials"]:
        assert json.loads(run("show", trial["run_id"][:12], "--json").stdout)["run_id"] == trial["run_id"]


def test_a_name_that_may_be_several_is_answered_by_all_of_them(run: Command) -> None:
    done = run("show", "Brok")
    assert done.returncode == 2
    told = {line.split("  ")[-1] for line in done.stderr.splitlines()[1:]}
    assert told == {"toy, Broken, split 0, seed 0", "toy, Broken off, split 0, seed 0"}


def test_a_name_that_no_run_has_is_told(run: Command) -> None:
    done = run("show", "Nobody")
    assert (done.returncode, done.stderr) == (2, "no run is called Nobody: `list` shows which there are\n")


def test_a_trial_shows_its_settings_files_and_commands(run: Command, place: Path) -> None:
    trial = json.loads(run("show", "b2", "--json").stdout)
    assert {name: trial["differs"].get(name) for name in ("method", "lr", "epochs")} == {
        "method": "cutmix",
        "lr": "0.05",
        "epochs": None,
    }
    assert set(trial["places"]) == {"config.yaml", "scores.parquet", "weights.pt"}
    assert all(Path(path).is_file() and place in Path(path).parents for path in trial["places"].values())
    assert trial["again"]["its sweep"] == COMMAND
    said = run("show", "b2").stdout
    assert COMMAND in said
    assert f"trainables.trial {trial['places']['config.yaml']}" in said


def test_a_failed_trial_shows_its_traceback_what_went_wrong_first(run: Command) -> None:
    said = run("show", "c3").stdout
    head, _, traceback = said.partition("Traceback, what went wrong first\n")
    lines = [line.strip() for line in traceback.splitlines()]
    assert lines[0].startswith("RuntimeError: ")
    assert lines[1].endswith("in _failed")
    assert "test/accuracy" not in head


def test_a_sweep_shows_its_command_and_its_trials(run: Command) -> None:
    said = run("show", "toy").stdout
    assert COMMAND in said
    assert all(row in said for row in ("Plain", "CutMix", "Broken", "Broken off", "Gone"))


def test_a_store_that_is_not_there_is_told(run: Command) -> None:
    done = run("list", "--tracking-uri", "sqlite:///other.db")
    assert done.returncode == 2
    assert done.stderr.startswith("no runs yet: there is no sqlite:///other.db. Go where the sweep ran")


def test_a_store_that_has_not_changed_is_looked_at_without_torch_ray_and_mlflow(run: Command, place: Path) -> None:
    run()
    script = (
        "import sys; from platform import runs; code = runs.main(sys.argv[1:]); "
        "print([m for m in ('torch', 'ray', 'mlflow', 'pandas') if m in sys.modules]); sys.exit(code)"
    )
    for command in (["list"], ["show", "b2"]):
        options = ["--tracking-uri", f"sqlite:///{place}/mlflow.db"]
        done = subprocess.run(
            [sys.executable, "-c", script, *command, *options], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.stdout.splitlines()[-1], done.returncode) == ("[]", 0), done.stderr


def test_a_traceback_is_turned_round_call_by_call() -> None:
    text = (
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n    ^^^\n'
        '  File "b.py", line 2, in g\n'
        "    h()\nValueError: one\n  and more\nof it\n\nDuring handling of the above exception, another exception "
        'occurred:\n\nTraceback (most recent call last):\n  File "c.py", line 3, in i\n    j()\nKeyError: two\n'
    )
    assert list(last_first(text)) == [
        "KeyError: two",
        '  File "c.py", line 3, in i',
        "    j()",
        "ValueError: one",
        "  and more",
        "of it",
        "During handling of the above exception, another exception occurred:",
        '  File "b.py", line 2, in g',
        "    h()",
        '  File "a.py", line 1, in f',
        "    g()",
        "    ^^^",
    ]


def test_the_end_of_a_sweep_shows_one_traceback_of_those_that_are_alike() -> None:
    config = resolve({"method": "plain", "protocol": "digits"})
    results = Results()
    for number, error in enumerate(["ValueError: one", "ValueError: one", "KeyError: two"]):
        place = Place("toy", "row", f"Row {number}", number)
        results.add(Outcome(place, config, f"{number:016x}", "failed", {}, error=f"Traceback (most …):\n{error}\n"))
    told = [lines[:2] for lines in failures(results, [])]
    assert told == [
        ["[red]Row 0, split 0, seed 0 failed[/red], and 1 more like it:", "  ValueError: one"],
        ["[red]Row 2, split 0, seed 0 failed[/red]:", "  KeyError: two"],
    ]
