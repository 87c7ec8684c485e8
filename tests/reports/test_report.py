"""The report of a store that real sweeps made: what it says, that it is right, and in which forms."""

import base64
import csv
import io
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from platform.files import search_file
from platform.report import main
from platform.reports.page import Links
from platform.reports.source import TableSource
from platform.tracking.reader import Reader
from tests.helpers.sweeps import Done, artifact, here, project
from tests.helpers.tables import TABLE


def report(folder: Path, *arguments: str) -> Done:
    return here(main, folder, *arguments)


def sweep(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "platform.sweep", *arguments], cwd=folder, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all of the table but one row's last split."""
    made = project(tmp_path_factory.mktemp("report"), TABLE)
    (made / "toy.yaml").write_text(TABLE.replace("splits: [0, 1, 2]", "splits: [0, 1]"))
    sweep(made, "toy.yaml")
    (made / "toy.yaml").write_text(TABLE)
    return made


@pytest.fixture(scope="module")
def lines(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The CSV by row and column."""
    done = report(folder, "toy.yaml", "--format", "csv")
    assert done.returncode == 0, done.stderr
    return {(line["row"], line["column"]): line for line in csv.DictReader(io.StringIO(done.stdout))}


def scores(run_id: str, folder: Path) -> pd.DataFrame:
    run = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").get_run(run_id)
    return pd.read_parquet(artifact(run, "scores.parquet"))


def by_hand(run_id: str, folder: Path, score: str = "mls") -> dict[str, float]:
    table = scores(run_id, folder)
    table = table[table["part"] == "test"]
    known = table["label"] >= 0
    right = table.loc[known, "prediction"] == table.loc[known, "label"]
    return {"Acc.": 100 * right.mean(), "AUROC": 100 * roc_auc_score(known, table[score])}


def test_a_cell_is_the_mean_and_spread_of_what_its_runs_recorded(folder: Path, lines: Any) -> None:
    for row in ("Plain", "BackMix & more"):
        for column in ("Acc.", "AUROC"):
            line = lines[row, column]
            values = [by_hand(run_id, folder)[column] for run_id in line["runs"].split()]
            assert len(values) == 4
            assert float(line["mean"]) == pytest.approx(np.mean(values))
            assert float(line["std"]) == pytest.approx(np.std(values, ddof=1))


def test_cells_say_what_they_are(lines: Any) -> None:
    assert lines["Theirs", "AUROC"]["state"] == "published only"
    assert lines["Plain", "IN30"]["state"] == "published only"
    assert lines["Plain", "AUROC"]["state"] == "4 of 6, missing"
    assert (lines["Plain", "AUROC"]["n"], lines["Plain", "AUROC"]["wanted"]) == ("4", "6")


def test_measured_stands_beside_published_with_a_mark_where_the_spread_does_not_explain_it(lines: Any) -> None:
    line = lines["Plain", "Acc."]
    assert float(line["difference"]) == pytest.approx(float(line["mean"]) - 10.0)
    assert line["marked"] == "yes"


def test_a_claim_is_judged_over_partitions(folder: Path, lines: Any) -> None:
    said = report(folder, "toy.yaml").stdout
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")

    def by_place(row: str) -> dict[tuple[str, str], float]:
        tags = {run_id: client.get_run(run_id).data.tags for run_id in lines[row, "AUROC"]["runs"].split()}
        return {(t["split"], t["seed"]): by_hand(run_id, folder)["AUROC"] for run_id, t in tags.items()}

    one, other = by_place("BackMix & more"), by_place("Plain")
    by_split = [np.mean([one[split, seed] - other[split, seed] for seed in "01"]) for split in "01"]
    low, high = stats.ttest_1samp(by_split, 0).confidence_interval(0.95)
    text = f"{np.mean(by_split):+.1f} [{low:+.1f}, {high:+.1f}], n = 2 partitions".replace("-", "−")
    assert f"BackMix & more − Plain, AUROC: published +1.0; measured {text}" in said


def test_another_score_is_read_from_what_was_recorded(folder: Path) -> None:
    done = report(folder, "toy.yaml", "--format", "csv", "--score", "msp", "--metric", "auroc.arpl")
    assert done.returncode == 0, done.stderr
    line = next(
        line
        for line in csv.DictReader(io.StringIO(done.stdout))
        if (line["row"], line["heading"]) == ("Plain", "AUROC, as auroc.arpl, by msp")
    )
    values = [by_hand(run_id, folder, "msp")["AUROC"] for run_id in line["runs"].split()]
    assert float(line["mean"]) == pytest.approx(np.mean(values), abs=0.01)  # ties apart
    assert line["difference"] == ""


def test_a_column_that_names_a_score_keeps_it_whatever_is_asked_of_the_others(folder: Path, lines: Any) -> None:
    (folder / "named.yaml").write_text(TABLE.replace("  IN30:", "  By MLS: test/digits/mls/auroc\n  IN30:"))
    done = report(folder, "named.yaml", "--format", "csv", "--score", "msp")
    found = {(line["row"], line["column"]): line for line in csv.DictReader(io.StringIO(done.stdout))}
    assert found["Plain", "By MLS"]["mean"] == lines["Plain", "AUROC"]["mean"]  # the table's score is MLS
    assert found["Plain", "AUROC"]["mean"] != lines["Plain", "AUROC"]["mean"]


def test_a_score_that_was_never_recorded_is_missing_and_the_command_that_evaluates_it_is_said(folder: Path) -> None:
    done = report(folder, "toy.yaml", "--score", "odin")
    assert done.returncode == 0
    assert "8 finished trials were not evaluated by odin" in done.stderr
    assert "python -m platform.sweep toy.yaml --profile paper --set 'extra_scores=[odin]'" in done.stderr
    assert "missing [70.5]" in done.stdout


def test_numbers_computed_again_from_the_scores_are_the_recorded_ones(folder: Path) -> None:
    recorded, again = (
        report(folder, "toy.yaml", "--format", "csv", *option).stdout for option in ((), ("--recompute",))
    )
    assert recorded == again


def test_piped_it_is_markdown_with_the_caption_and_the_command_that_fills_it(folder: Path) -> None:
    said = report(folder, "toy.yaml").stdout
    assert said.startswith("**BackMix, Table IV: A toy**")
    assert "| row | Acc. | AUROC | IN30 |" in said
    assert "digits, split family agc, unknown: digits, score mls; wrn10-1, 2 epochs" in said
    assert "| [89.9] |" in said
    assert "python -m platform.sweep toy.yaml --profile paper" in said


def test_a_changed_or_reduced_run_says_so_and_is_not_compared(folder: Path) -> None:
    said = report(folder, "toy.yaml", "--set", "epochs=1").stdout
    assert "Changed by hand: epochs=1: not the protocol of the file." in said
    assert "missing [70.5]" in said


def test_a_profile_that_has_not_run_says_what_has(folder: Path) -> None:
    said = report(folder, "toy.yaml", "--set", "epochs=1").stderr
    assert "no sweep of toy has run with --profile paper --set epochs=1" in said
    assert "there are: --profile paper" in said


def test_the_page_holds_its_runs_and_figures_and_is_kept_with_the_sweep(folder: Path) -> None:
    done = report(folder, "toy.yaml", "--format", "html")
    assert done.returncode == 0, done.stderr
    text = (folder / "reports" / "toy.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|http://127\.0\.0\.1:5000/#/experiments/\d+/runs/)', text)
    assert "BackMix &amp; more" in text
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(pictures) == 8  # those that the file names, and the power of its claims
    assert all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    assert "teacher: no row with a teacher has a finished trial" in text
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run_id,) = set(re.findall(r"sweep&#39;s run (\w+)|sweep’s run (\w+)|sweep's run (\w+)", done.stdout)[0]) - {""}
    kept = {Path(f.path).name for f in client.list_artifacts(run_id, "report")}
    assert {"toy.html", "norms.png", "norms.parquet"} <= kept


def test_the_page_is_well_formed(folder: Path) -> None:
    class Checker(HTMLParser):
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in ("meta", "img", "br", "!doctype"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    report(folder, "toy.yaml", "--format", "html", "--no-figures")
    Checker().feed((folder / "reports" / "toy.html").read_text())
    assert Checker.open == []


def test_latex_has_a_line_a_row_and_escapes_names(folder: Path, tmp_path: Path) -> None:
    text = report(folder, "toy.yaml", "--format", "latex").stdout
    assert r"BackMix \& more &" in text
    assert text.count(r"\\") == 2 + 3  # the columns, and what is measured and what is published of each
    found = subprocess.run("kpsewhich booktabs.sty", shell=True, capture_output=True).returncode == 0
    if found:  # compiled where LaTeX is installed
        document = (
            f"\\documentclass{{article}}\\usepackage{{booktabs,graphicx}}\\begin{{document}}{text}\\end{{document}}"
        )
        (tmp_path / "t.tex").write_text(document)
        done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]


def test_an_empty_store_shows_the_skeleton_with_the_published_numbers(tmp_path: Path) -> None:
    folder = project(tmp_path, TABLE, store=False)
    done = report(folder, "toy.yaml")
    assert done.returncode == 0
    assert "missing [70.5]" in done.stdout
    assert "This fills it" in done.stdout
    assert "no runs yet" in done.stderr
    assert not (folder / "mlflow.db").exists()


def test_all_tables_make_an_index(folder: Path) -> None:
    (folder / "search_spaces").mkdir(exist_ok=True)
    shutil.copy(folder / "toy.yaml", folder / "search_spaces" / "toy.yaml")
    done = report(folder, "--all")
    assert done.returncode == 0, done.stderr
    index = (folder / "reports" / "index.html").read_text()
    assert 'href="toy.html"' in index
    assert "BackMix, Table IV: A toy" in index


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("toy.yaml", "--score", "mps"), "--score mps: unknown (did you mean 'msp'?)"),
        (("toy.yaml", "--metric", "aurok"), "--metric aurok: unknown (did you mean 'auroc'?)"),
        (("nowhere.yaml",), "nowhere.yaml"),
        (("toy.yaml", "--profile", "quik"), "no profile 'quik'"),
        ((), "name files, or --all"),
        (("toy.yaml", "--tracking-uri", "http://127.0.0.1:9"), "does not answer"),
        (("toy.yaml", "--from", "toy.yaml"), "no file that `--format trials` wrote"),
        (("toy.yaml", "--from", "nowhere.csv"), "nowhere.csv: No such file"),
        (("toy.yaml", "--against", "sqlite:///none.db"), "there is no such store"),
        (("toy.yaml", "--against", "toy.yaml", "--format", "csv"), "--against compares one file"),
        (("toy.yaml", "--format", "csv", "--out", "no/such/folder/x.csv"), "--out"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = report(folder, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", ["markdown", "csv", "latex"])
def test_a_table_is_made_again_of_its_exported_trials_alone(folder: Path, tmp_path: Path, form: str) -> None:
    assert report(folder, "toy.yaml", "--format", "trials", "--out", str(tmp_path / "trials.csv")).returncode == 0
    (tmp_path / "toy.yaml").write_text(TABLE)
    again = report(tmp_path, "toy.yaml", "--format", form, "--from", "trials.csv")
    assert again.stdout == report(folder, "toy.yaml", "--format", form).stdout.partition("\nThis fills it")[0]
    assert again.stdout


def test_exported_trials_of_another_table_are_refused_by_its_name(folder: Path, tmp_path: Path) -> None:
    assert report(folder, "toy.yaml", "--format", "trials", "--out", str(tmp_path / "trials.csv")).returncode == 0
    (tmp_path / "other.yaml").write_text(TABLE.replace("name: toy", "name: other").replace("epochs: 2", "epochs: 3"))
    done = report(tmp_path, "other.yaml", "--from", "trials.csv")
    assert done.returncode == 2
    assert "--from trials.csv has trials of toy (paper), and none of other (paper)" in done.stderr


def test_what_fills_a_table_names_the_store_that_was_read_and_nothing_fills_a_file(
    folder: Path, tmp_path: Path
) -> None:
    uri = f"sqlite:///{folder}/mlflow.db"
    (tmp_path / "toy.yaml").write_text(TABLE)
    assert (
        f"toy.yaml --profile paper --tracking-uri {uri}" in report(tmp_path, "toy.yaml", "--tracking-uri", uri).stdout
    )
    assert report(folder, "toy.yaml", "--format", "trials", "--out", str(tmp_path / "trials.csv")).returncode == 0
    assert "This fills it" not in report(tmp_path, "toy.yaml", "--from", "trials.csv").stdout


def test_a_table_is_set_beside_one_of_another_store_and_of_another_file(folder: Path) -> None:
    stored = report(folder, "toy.yaml", "--against", "sqlite:///mlflow.db", "--format", "terminal")
    assert stored.returncode == 0, stored.stderr
    assert stored.stdout.count(" +0.0 ") == 4
    (folder / "other.yaml").write_text(
        TABLE.replace("name: Plain", "name: Renamed").replace("over: Plain", "over: Renamed")
    )
    other = report(folder, "toy.yaml", "--against", "other.yaml").stdout
    assert re.search(r"\| Renamed \| Acc\. \|  \| \d+\.\d", other)


@pytest.mark.parametrize("uri", ["postgresql://me:secret@host/db", "https://me:secret@host"])
def test_a_page_has_no_password_of_the_store(uri: str) -> None:
    links = Links.of(uri, None, None)
    assert "secret" not in links.ui + links.command


@pytest.mark.parametrize(("ending", "said"), [("failed", "failed"), ("stopped", "stopped"), ("superseded", "missing")])
def test_a_trial_that_did_not_finish_is_shown_as_what_it_is(folder: Path, ending: str, said: str) -> None:
    spec = search_file.load(folder / "toy.yaml").profile("paper")
    reader = Reader.open(f"sqlite:///{folder}/mlflow.db")
    assert reader is not None
    everything = {one.identity: replace(one, ending=ending) for one in reader.finished.values()}
    source = TableSource(
        spec, spec, folder / "toy.yaml", "paper", (), False, replace(reader, finished={}, ended=everything), dict
    )
    plain = source.table(lambda trial, name: None).cells[1][0]
    assert plain.state == said
    assert {trial.state for trial in plain.trials} >= {said}


def test_the_command_itself_prints_the_table(folder: Path) -> None:
    command = [sys.executable, "-m", "platform.report", "toy.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout == report(folder, "toy.yaml").stdout


def test_a_store_that_has_not_changed_is_read_without_mlflow(folder: Path, lines: Any) -> None:
    code = "import sys; from platform.report import main; main(['toy.yaml']); sys.exit('mlflow' in sys.modules)"
    again = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert again.stdout == report(folder, "toy.yaml").stdout


def test_a_store_that_has_changed_is_read_again(folder: Path, lines: Any) -> None:
    uri = f"sqlite:///{folder}/mlflow.db"
    before = Reader.open(uri)
    client = mlflow.MlflowClient(uri)
    run = client.create_run(client.create_experiment("other"), tags={"kind": "sweep"})
    after = Reader.open(uri)
    assert before is not None
    assert after is not None
    assert [s.run_id for s in after.sweeps if s not in before.sweeps] == [run.info.run_id]
    assert "other" in after.experiments.values()
