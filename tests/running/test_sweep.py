"""The whole command with real Ray, Optuna and MLflow, small: what it prints, what it records, how it stops."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from platform import report
from platform import sweep as command
from tests.helpers.sweeps import artifact, here, project, runs, sweep

# With this seed the third proposal is the best after one epoch: ASHA lets it and the first to report go on.
SPEC = """\
name: toy
base: {method: backmix, protocol: digits, backbone: wrn10-1, epochs: 3, batch_size: 64, images_per_class: 60}
search:
  mask_ratio: {float: [0.0, 1.0]}
  cut_size: {float: [0.04, 0.4]}
optuna: {seed: 6}
trials: 4
scheduler: {asha: {grace_epochs: 1}}
confirm: {splits: [0, 1], baselines: [{name: Plain, set: {method: plain}}]}
figures: [search]
profiles: {quick: {base: {randaugment_magnitude: 8}}}  # which changes no trial: nothing is augmented
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = project(tmp_path_factory.mktemp("sweep"), SPEC, store=False)
    process = sweep(folder)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return folder, output


def test_it_says_what_it_found_plans_and_ends_with(finished: tuple[Path, str]) -> None:
    output = finished[1]
    assert "No GPU found: profile quick" in output
    assert re.search(r"search .*4 trials by Optuna", output)
    assert re.search(r"time .*about \d+", output)
    assert "Best settings: mask_ratio" in output
    assert re.search(r"best .*± .* 2 ", output)
    assert re.search(r"Plain .*± .* 2 ", output)
    assert "best − Plain, paired" in output
    assert "not the paper's protocol, not comparable" in " ".join(output.split())
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in output


def test_a_search_has_a_report_with_optunas_plots(finished: tuple[Path, str]) -> None:
    done = here(report.main, finished[0], "toy.yaml", "--format", "html")
    assert done.returncode == 0, done.stderr
    page = (finished[0] / "reports" / "toy.html").read_text()
    assert page.count("<img") == 3
    tried = pd.read_parquet(finished[0] / "reports" / "toy" / "search-history-val-auroc.parquet")
    assert set(tried.columns) == {"mask_ratio", "cut_size", "val/auroc", "finished"}
    assert len(tried) == 4
    said = here(report.main, finished[0], "toy.yaml").stdout
    (summary,) = re.findall(r"│ best +│ +(\S+ ± \S+) │", finished[1])
    assert f"| best | {summary} |" in said


def everything_in(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_a_dry_run_of_what_is_finished_says_that_nothing_is_to_do_and_writes_nothing(
    finished: tuple[Path, str],
) -> None:
    before = everything_in(finished[0])
    done = here(command.main, finished[0], "toy.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing: every trial is finished" in done.stdout
    assert re.search(r"cached .*8 trials", done.stdout)
    assert everything_in(finished[0]) == before


def test_the_same_command_again_trains_nothing_and_counts_every_trial(finished: tuple[Path, str]) -> None:
    done = here(command.main, finished[0], "toy.yaml")
    assert done.returncode == 0, done.stderr
    assert re.search(r"8 trials in 0\.\d minutes: 0 trained, 8 cached, 0 failed", done.stdout)
    best = re.compile("Best settings: .*")
    assert best.findall(done.stdout) == best.findall(finished[1])


def test_a_command_of_ones_own_is_told_that_all_has_ended(finished: tuple[Path, str]) -> None:
    folder = finished[0]
    done = here(command.main, folder, "toy.yaml", "--notify", "cat > told.json")
    assert done.returncode == 0, done.stderr
    told = json.loads((folder / "told.json").read_text())
    (folder / "told.json").unlink()
    assert (told["status"], told["exit_code"], told["sweeps"]) == ("finished", 0, ["toy"])
    assert told["trials"]["cached"] == 8
    assert re.fullmatch(r"toy finished: 8 trials in 0\.\d minutes: 0 trained, 8 cached, 0 failed", told["text"])


def test_a_command_of_ones_own_that_fails_is_a_line_and_changes_nothing(finished: tuple[Path, str]) -> None:
    done = here(command.main, finished[0], "toy.yaml", "--notify", "echo no such chat >&2; exit 3")
    assert done.returncode == 0
    assert "\n--notify: the command ended with 3: no such chat\n" in done.stdout


def test_it_prints_no_wall_of_rays_lines(finished: tuple[Path, str]) -> None:
    foreign = [line for line in finished[1].splitlines() if re.search(r"ray|tune|WARNING|INFO|pid=", line)]
    assert not foreign


def test_mlflow_has_a_run_for_the_sweep_and_one_under_it_for_each_trial(finished: tuple[Path, str]) -> None:
    everything = runs(finished[0])
    (parent,) = (r for r in everything if r.data.tags["kind"] == "sweep")
    children = [r for r in everything if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(everything) == 1 + 4 + 4
    assert len(children) == 8
    assert {r.info.status for r in everything} == {"FINISHED"}
    assert parent.info.run_id in finished[1]
    assert artifact(parent, "toy.yaml").read_text() == SPEC
    assert artifact(parent, "cells.json").is_file()


def test_files_lie_beside_the_database(finished: tuple[Path, str]) -> None:
    for run in runs(finished[0]):
        assert artifact(run, "").is_relative_to(finished[0] / "mlruns" / "toy")


def test_a_trials_run_says_what_it_was(finished: tuple[Path, str]) -> None:
    for run in runs(finished[0]):
        if run.data.tags["kind"] == "sweep":
            continue
        tags, params = run.data.tags, run.data.params
        assert re.fullmatch(r"[0-9a-f]{16}", tags["identity"])
        assert {"split_family", "split", "seed", "git.sha", "git.dirty", "version.torch", "device"} <= set(tags)
        assert params["backbone"] == "wrn10-1"
        assert params["batch_size"] == "64"
        assert params["lr"] == "0.1"


def test_the_test_set_is_touched_by_confirmation_only(finished: tuple[Path, str]) -> None:
    phases = {"search": 0, "confirm": 0}
    for run in runs(finished[0]):
        phase = run.data.tags.get("phase")
        if phase is None or "stopped" in run.data.tags:
            continue
        phases[phase] += 1
        parts = set(pd.read_parquet(artifact(run, "scores.parquet"))["part"])
        tested = any(name.startswith("test/") for name in run.data.metrics)
        assert (parts, tested) == (({"val"}, False) if phase == "search" else ({"test"}, True))
        assert artifact(run, "weights.pt").is_file()
    assert phases["search"] >= 1
    assert phases["confirm"] == 4


def test_confirmation_trains_the_best_settings_on_all_known_classes(finished: tuple[Path, str]) -> None:
    trials = [r for r in runs(finished[0]) if r.data.tags["kind"] == "trial"]
    judged = [r for r in trials if r.data.tags["phase"] == "search" and "stopped" not in r.data.tags]
    best = max(judged, key=lambda r: r.data.metrics["val/pseudo-unknown/msp/auroc"])
    confirmed = [r for r in trials if r.data.tags["row"] == "best"]
    assert {(r.data.tags["split"], r.data.tags["seed"]) for r in confirmed} == {("0", "0"), ("1", "0")}
    for run in confirmed:
        assert run.data.params["mask_ratio"] == best.data.params["mask_ratio"]
        assert run.data.params["holdout"] == "0.0"
        assert run.data.params["pseudo_unknown"] == "0"


def test_the_sweeps_run_has_the_confirmed_means_with_n(finished: tuple[Path, str]) -> None:
    everything = runs(finished[0])
    (parent,) = (r for r in everything if r.data.tags["kind"] == "sweep")
    plain = [r.data.metrics["test/digits/msp/auroc"] for r in everything if r.data.tags.get("row") == "Plain"]
    assert parent.data.metrics["confirm/Plain/test/auroc/mean"] == pytest.approx(np.mean(plain))
    assert parent.data.metrics["confirm/Plain/test/auroc/std"] == pytest.approx(np.std(plain, ddof=1))
    assert parent.data.metrics["confirm/Plain/test/auroc/n"] == 2


def test_stopped_trials_say_so(finished: tuple[Path, str]) -> None:
    stopped = [r for r in runs(finished[0]) if "stopped" in r.data.tags]
    assert len(stopped) == finished[1].count(" stopped at epoch ")
    for run in stopped:
        assert run.info.status == "FINISHED"
        assert not artifact(run, "weights.pt").exists()


def test_no_checkpoint_of_a_finished_trial_is_left(finished: tuple[Path, str]) -> None:
    left = [file for file in (finished[0] / "results").rglob("*") if file.is_file()]
    assert [file.relative_to(finished[0] / "results").as_posix() for file in left if file.suffix == ".pt"] == []
    assert finished[0] / "results/studies/toy.log" in left


def test_a_failing_trial_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    text = SPEC.replace("cut_size: {float: [0.04, 0.4]}", "lr: {choice: [0.1, 1e12]}")
    text = re.sub(r"confirm: .*", "confirm: {}", text)
    folder = project(tmp_path, text.replace("optuna: {seed: 6}", "optuna: {sampler: random, seed: 1}"))
    process = sweep(folder, "--set", "scheduler=null", "--set", "epochs=1", "--notify", "cat > told.json")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    failed = [r for r in runs(folder) if r.info.status == "FAILED" and r.data.tags["kind"] == "trial"]
    done = [r for r in runs(folder) if r.info.status == "FINISHED"]
    assert len(failed) + len(done) == 5
    assert failed
    assert done
    assert "FloatingPointError" in artifact(failed[0], "traceback.txt").read_text()
    assert output.count("failed: FloatingPointError: the loss is nan: try a lower lr") == len(failed)
    assert "Traceback" not in output
    told = json.loads((folder / "told.json").read_text())
    assert (told["status"], told["exit_code"], told["trials"]["failed"]) == ("failed in part", 1, len(failed))


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_leaves_no_run_running_and_no_process(tmp_path: Path, how: signal.Signals) -> None:
    folder = project(tmp_path, SPEC)
    process = sweep(folder, "--set", "epochs=20", "--set", "scheduler=null", "--notify", "cat > told.json")
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 4/20" in line:
            break
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to every process of the group
    else:
        process.send_signal(how)
    output = process.stdout.read()
    assert process.wait(timeout=60) == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    statuses = {r.data.tags["kind"]: r.info.status for r in runs(folder)}
    assert statuses == {"sweep": "KILLED", "trial": "KILLED"}
    told = json.loads((folder / "told.json").read_text())
    assert (told["status"], told["exit_code"]) == ("interrupted", 130)
    assert told["trials"]["interrupted"] > 0
    deadline = time.monotonic() + 20
    while _processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not _processes_of(process.pid)


def _processes_of(session: int) -> list[str]:
    """Command lines of what still runs in a session."""
    found = subprocess.run(["ps", "-s", str(session), "-o", "args="], capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if "defunct" not in line]


@pytest.mark.parametrize("uri", ["sqlite:////dev/null/no/mlflow.db", "http://127.0.0.1:9"])
def test_a_store_that_cannot_be_reached_is_named_at_once(uri: str) -> None:
    from platform.tracking.errors import TrackingError
    from platform.tracking.tracker import Tracker

    with pytest.raises(TrackingError, match=f"MLflow at {uri} "):
        Tracker(uri, "toy", "val/auroc")


def test_a_store_that_cannot_be_reached_starts_nothing(tmp_path: Path) -> None:
    done = here(command.main, project(tmp_path, SPEC), "toy.yaml", "--tracking-uri", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "MLflow at http://127.0.0.1:9 does not answer" in done.stderr
    assert "search 1 started" not in done.stdout
