"""What a search leaves in a real MLflow store after interrupts, extensions and repetitions: always its study's results.

Trials are ended by hand, the rest is real: plan, queue, study, tracker and reader.
"""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Sequence

import optuna
import pandas as pd
import pytest
import yaml
from rich.console import Console

from platform import report
from platform.files import search_file
from platform.files.spec import Spec
from platform.planning.search import Study
from platform.running.cluster import Cluster, Node
from platform.running.fitting import fit
from tests.helpers.searches import SEARCH, Search
from tests.helpers.sweeps import project


def lr_of(tried: Sequence[tuple[float, str]], value: float) -> dict[str, float]:
    (found,) = (lr for auroc, lr in tried if auroc == value)
    return {"lr": float(found)}


def test_a_search_that_was_interrupted_has_no_best_settings_yet(search: Search) -> None:
    search.command([0.9, 0.5], cut=True)
    assert search.best() == {}


def test_a_search_that_was_resumed_has_the_trials_and_the_best_of_both_commands(search: Search) -> None:
    search.command([0.9, 0.5], cut=True)
    search.command([0.7])
    assert [auroc for auroc, _ in search.tried()] == [0.9, 0.5, 0.7]
    assert search.best() == search.best_elsewhere() == lr_of(search.tried(), 0.9)


def test_a_search_that_is_run_again_keeps_its_trials_and_its_best(search: Search) -> None:
    first = search.command([0.7, 0.9, 0.5])
    before = search.tried(), search.best()
    again = search.command([])
    assert (search.tried(), search.best()) == before
    assert (len(before[0]), before[1]) == (3, lr_of(before[0], 0.9))
    assert (first.trials("finished"), again.trials("finished"), again.cached) == (4, 0, 4)


def test_a_finished_search_that_is_run_again_says_so_without_loading_ray_or_networks(search: Search) -> None:
    search.command([0.7, 0.9, 0.5])
    project(search.folder, SEARCH, store=False)
    (search.folder / "results").mkdir()
    (search.folder / "studies").rename(search.folder / "results" / "studies")
    loaded = "print('loaded', sorted({'ray', 'torchvision', 'matplotlib'} & set(sys.modules)))"
    script = f"import sys; from platform.sweep import main; code = main(['toy.yaml']); {loaded}; sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=search.folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing: every trial is finished" in done.stdout
    assert "0 trained, 4 cached, 0 failed" in done.stdout
    assert "loaded []" in done.stdout


def test_no_password_of_a_studys_storage_reaches_the_store(search: Search) -> None:
    change = "optuna.storage=mysql://me:hunter2@host/db"
    search.command([0.7, 0.9, 0.5], text=f"{SEARCH}# optuna: {{storage: mysql://me:hunter2@host/db}}\n")
    (stored,) = search.folder.glob("mlruns/**/toy.yaml")
    assert "mysql://***@host/db" in stored.read_text()
    for file in (file for file in search.folder.rglob("*") if file.is_file() and file.name != "toy.yaml"):
        assert b"hunter2" not in file.read_bytes(), file
    fitted = fit(
        search_file.load(search.folder / "toy.yaml"), None, [change], Cluster((Node(2, 0),)), Console(quiet=True)
    )
    assert fitted.changed == ("optuna.storage=mysql://***@host/db",)  # as tags and captions have it
    assert fitted.spec.optuna.storage == change.partition("=")[2]


def test_the_store_and_the_report_say_what_of_optuna_proposed(
    search: Search, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search.command([0.7, 0.9, 0.5], text=SEARCH + "scheduler: {asha: {grace_epochs: 1}}\noptuna: {seed: 4}\n")
    sampler = "TPESampler(seed=4, n_startup_trials=3, multivariate=True, group=False)"
    pruner = "SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)"
    (sweep,) = search.reader.sweeps
    said = {name.removeprefix("optuna."): v for name, v in sweep.params.items() if name.startswith("optuna.")}
    assert said == {"version": optuna.__version__, "sampler": sampler, "pruner": pruner}
    sentence = f"Settings were proposed by Optuna {optuna.__version__} with {sampler} and {pruner}."
    assert sentence in shown(search, "markdown", capsys, monkeypatch).replace("\\_", "_")


def test_a_search_of_scores_reads_what_its_training_has_just_recorded_and_reports_what_that_gives(
    search: Search, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = {"pseudo-unknown": [0.1, 0.6, 0.2], "known": [0.5, 0.7, 0.9]}  # of 9 pairs one is in the wrong order
    lines = [{"set": name, "msp": score, "mls": -score} for name, scores in sides.items() for score in scores]
    recorded = pd.DataFrame(lines).assign(part="val", label=0, prediction=0, logits=[[0.0, 1.0]] * 6)
    text = SEARCH.replace("lr: {float: [0.01, 0.1]}", "score: {choice: [msp, mls]}").replace("trials: 3", "trials: 9")
    results = search.command([0.3], text=text, recorded=recorded)  # which no score of the file has
    assert (results.best["toy"], results.trials("finished")) == ([{"score": "msp"}], 2)
    said = shown(search, "markdown", capsys, monkeypatch)
    assert "Best settings: score msp (val/auroc 88.9 in the search)." in said


def test_the_store_and_the_report_of_a_search_by_means_have_the_means(
    search: Search, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SEARCH + "splits: [1]\nseeds: [0, 1]\nfigures: [search]\n"
    search.command([0.5, 0.7, 0.9, 0.7, 0.1], text=text, cut=True)
    search.command([0.3], text=text)
    (sweep,) = search.reader.sweeps
    _, metrics, _ = search.reader.runs([sweep.run_id])[sweep.run_id]
    assert (sweep.params["splits"], sweep.params["seeds"]) == ("[1]", "[0, 1]")
    of_best = {name: value for name, value in metrics.items() if name.startswith("search/")}
    assert of_best == pytest.approx(
        {f"search/best/val/auroc/{n}": v for n, v in {"mean": 0.8, "std": 0.02**0.5, "n": 2}.items()}
    )
    found = search.reader.requests(sweep)
    wanted = [(proposal, 1, seed) for proposal in range(3) for seed in (0, 1)]
    assert [(r["proposal"], r["split"], r["seed"]) for r in found if r["phase"] == "search"] == wanted
    page = shown(search, "html", capsys, monkeypatch)
    assert "(val/auroc 80.0 in the search, mean of 2 trainings)" in page
    drawn = pd.read_parquet(search.folder / "toy" / "search-history-val-auroc.parquet")
    assert list(drawn["val/auroc"]) == pytest.approx([0.6, 0.8, 0.2])


@pytest.mark.parametrize(("more", "best"), [([0.8, 0.6], 0.9), ([0.8, 0.95], 0.95)])
def test_a_search_that_was_extended_has_the_best_of_all_its_trials(
    search: Search, more: list[float], best: float
) -> None:
    search.command([0.7, 0.9, 0.5])
    search.command(more, changed=["trials=5"])
    tried = search.tried("trials=5")
    assert [auroc for auroc, _ in tried] == [0.7, 0.9, 0.5, *more]
    assert search.best("trials=5") == search.best_elsewhere() == lr_of(tried, best)


def test_what_an_earlier_command_wrote_as_the_best_is_corrected(search: Search) -> None:
    search.command([0.7, 0.9, 0.5])
    search.command([0.8, 0.95], changed=["trials=5"])
    search.command([])
    assert len(search.tried()) == 5
    assert search.best() == search.best_elsewhere() == lr_of(search.tried(), 0.95)


def test_a_setting_that_the_best_has_no_more_is_none_of_the_best_settings(search: Search) -> None:
    conditional = "optimizer: {choice: [sgd, adam]}, momentum: {float: [0.5, 0.9], when: {optimizer: sgd}}"
    text = SEARCH.replace("{lr: ", f"{{{conditional}, lr: ") + "optuna: {sampler: random, seed: 7}\n"
    spec = Spec.model_validate({**yaml.safe_load(text), "trials": 9})
    asked = [proposal for _ in range(9) if (proposal := Study(spec, "seen", search.folder / "seen").ask())]
    optimizers = [proposal.settings["optimizer"] for proposal in asked]
    for number, best in enumerate(("sgd", "adam", "sgd")):
        these = optimizers[3 * number : 3 * number + 3]
        assert best in these
        values = [0.5 + 0.1 * number if optimizer == best else 0.1 for optimizer in these]
        search.command(values, text=text, changed=[f"trials={3 * number + 3}"])
        search.command([], text=text)  # whose run has the best settings that were found before
        found = search.best()
        assert (found["optimizer"], "momentum" in found) == (best, best == "sgd")


CONFIRMED = SEARCH.replace("trials: 3", "trials: 4").replace(
    "confirm: {splits: [0]}", "confirm: {top: 3, splits: [0], baselines: [{name: MixUp, set: {method: mixup}}]}"
)
TESTED = {"best 1": 0.9, "best 2": 0.7, "best 3": 0.6, "MixUp": 0.8}


def shown(search: Search, form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The report of a search in a form."""
    monkeypatch.chdir(search.folder)
    assert report.main(["toy.yaml", "--format", form, "--out", str(search.folder)][: 5 if form == "html" else 3]) == 0
    text = capsys.readouterr().out
    return (search.folder / "toy.html").read_text() if form == "html" else text


def test_the_report_of_a_search_has_its_best_settings_all_rows_and_their_differences_in_every_form(
    search: Search, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search.command([0.7, 0.9, 0.5, 0.8], text=CONFIRMED, tested=TESTED)
    ranked = [lr_of(search.tried(), value)["lr"] for value in (0.9, 0.8, 0.7)]
    for form in ("markdown", "html", "latex"):
        text = shown(search, form, capsys, monkeypatch)
        for rank, (lr, value) in enumerate(zip(ranked, ("90.0", "80.0", "70.0"), strict=True), 1):
            assert f"Best settings {rank}: lr {lr:.3g} (val/auroc {value} in the search)." in text, text
        minus = "$-$" if form == "latex" else "−"
        assert f"best 1 {minus} best 2, AUROC: measured +20.0, n = 1 seeds" in text
        assert f"best 1 {minus} MixUp, AUROC: measured +10.0, n = 1 seeds" in text
        assert "What the paper says" not in text
    lines = csv.DictReader(io.StringIO(shown(search, "csv", capsys, monkeypatch)))
    values = {line["row"]: float(line["mean"]) for line in lines if line["column"] == "AUROC"}
    differences = {"best 1 − best 2": 20, "best 1 − best 3": 30, "best 1 − MixUp": 10}
    assert values == pytest.approx({**{row: 100 * value for row, value in TESTED.items()}, **differences})


def test_the_report_of_a_search_with_fewer_settings_than_it_confirms_has_the_rows_that_there_are(
    search: Search, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = CONFIRMED.replace("lr: {float: [0.01, 0.1]}", "lr: {choice: [0.01, 0.02]}")
    assert few != CONFIRMED
    few += "optuna: {sampler: random, seed: 1}\n"
    search.command([0.7, 0.9, 0.5, 0.8], text=few, tested=TESTED)
    text = shown(search, "markdown", capsys, monkeypatch)
    assert re.findall(r"^\| (best \d|MixUp) ", text, re.MULTILINE) == ["best 1", "best 2", "MixUp"]
    assert "Only 2 distinct settings finished in the search: best 3 is left out." in text
