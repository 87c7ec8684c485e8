"""Whatever ends a sweep, the same command goes on: nothing is lost, and nothing is trained or recorded twice."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from platform.report import main as report_main
from tests.helpers.faults import trials, under, until, wait_until_gone
from tests.helpers.paths import ROOT
from tests.helpers.stores import Server
from tests.helpers.sweeps import artifact, here, project, runs, sweep

SPEC = """\
name: toy
base: {protocol: digits, backbone: wrn10-1, epochs: 3, batch_size: 3}
resources: {cpus_per_worker: 1}
splits: [0]
rows:
  - {name: Plain, set: {method: plain}}
  - {name: BackMix, set: {method: backmix}}
"""
STEPS = 200  # of an epoch: it takes longer than the 2 seconds between two reports, so that it can be interrupted within
QUICK = SPEC.replace("batch_size: 3", "batch_size: 64, images_per_class: 60")


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def statuses(folder: Path) -> Counter[tuple[str, str]]:
    found = [run for run in runs(folder) if run.info.lifecycle_stage == "active"]
    return Counter((run.data.tags["kind"], run.info.status) for run in found)


def numbers(folder: Path) -> dict[tuple[str, str, str], tuple[dict[str, float], bytes, bytes]]:
    """Of each trial by (row, split, seed), what must be the same to the last digit."""
    found = {}
    for run in trials(folder):
        tags = run.data.tags
        metrics = {name: value for name, value in run.data.metrics.items() if "second" not in name}
        files = [artifact(run, name).read_bytes() for name in ("scores.parquet", "weights.pt")]
        found[tags["row"], tags["split"], tags["seed"]] = (metrics, files[0], files[1])
    return found


def started(said: str) -> list[str]:
    return re.findall(r"^(.+), split \d+, seed \d+ started", said, re.MULTILINE)


def test_a_killed_driver_loses_no_finished_trial_and_leaves_no_run_running(tmp_path: Path) -> None:
    folder = project(tmp_path, QUICK)
    process = sweep(folder)
    until(process, r"Plain, .* finished")
    process.kill()
    process.wait()
    again = sweep(folder)
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    assert re.search(r"2 trials in .*: ([01] trained, [12] cached), 0 failed", said), said
    assert statuses(folder) == {("sweep", "FINISHED"): 1, ("trial", "FINISHED"): 2}


@pytest.mark.slow
def test_a_driver_that_is_killed_at_random_moments_loses_nothing() -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--kills", "3", "--splits", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills: nothing was lost" in done.stdout


@pytest.mark.slow
def test_a_ray_that_does_not_start_is_told_and_leaves_no_run_running(tmp_path: Path) -> None:
    folder = project(tmp_path, QUICK)
    command = [sys.executable, "-m", "platform.sweep", "toy.yaml"]
    with tempfile.NamedTemporaryFile() as no_folder:  # pytest's own paths are too long for sockets, told otherwise
        environment = {**os.environ, "RAY_TMPDIR": no_folder.name}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Ray did not start on this machine" in done.stderr
    assert "Traceback" not in done.stderr
    assert {status for _, status in statuses(folder)} == {"KILLED"}


# Signals, and a checkpoint that is damaged


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that nothing disturbed."""
    folder = project(tmp_path_factory.mktemp("alone"), SPEC)
    process = sweep(folder)
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said
    return folder


@dataclass
class Stop:
    """A sweep that signals ended."""

    code: int
    said: str
    seconds: float  # from the last signal to its end
    statuses: Counter[tuple[str, str]]
    checkpoints: dict[str, list[Path]]  # by the row of their trial, from the oldest to the newest


@pytest.fixture(scope="module")
def stops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Stop]]:
    """One sweep after SIGTERM, Ctrl-C, and Ctrl-C twice; after the first, a byte of a checkpoint is damaged."""
    folder = project(tmp_path_factory.mktemp("stopped"), SPEC)
    found = {}
    in_progress = ["BackMix.* epoch 1/3"]  # it started last: where Plain has ended by then, it goes on
    for how, after in [("SIGTERM", in_progress), ("Ctrl-C", ["epoch 2/3"]), ("twice", ["started"])]:
        process = sweep(folder)
        said = until(process, *after)
        time.sleep(0.1 if how == "twice" else 1.5)  # into the next epoch
        children = under(process)
        for _ in range(2 if how == "twice" else 1):
            if how == "SIGTERM":
                process.send_signal(signal.SIGTERM)
            else:
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
            since = time.monotonic()
            time.sleep(0.1)
        said += process.communicate(timeout=120)[0]
        seconds = time.monotonic() - since
        wait_until_gone(children)
        rows = {run.data.tags["identity"]: run.data.tags["row"] for run in trials(folder)}
        kept = (folder / "results/trials").glob("*/*/checkpoints/*.pt")
        checkpoints: dict[str, list[Path]] = {}
        for file in sorted(kept):
            checkpoints.setdefault(rows[file.parts[-3]], []).append(file)
        found[how] = Stop(process.returncode, said, seconds, statuses(folder), checkpoints)
        if how == "SIGTERM":
            newest = next(files[-1] for files in checkpoints.values() if len(files) > 1)
            content = bytearray(newest.read_bytes())
            content[len(content) // 2] ^= 0xFF
            newest.write_bytes(content)
    return folder, found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C", "twice"])
def test_a_signal_ends_a_sweep_with_130_and_no_run_running(how: str, stops: tuple[Path, dict[str, Stop]]) -> None:
    stop = stops[1][how]
    assert stop.code == 130, stop.said
    assert stop.statuses["sweep", "KILLED"] == 1
    assert stop.statuses["trial", "KILLED"] >= 1
    assert {status for _, status in stop.statuses} <= {"KILLED", "FINISHED"}
    assert "This goes on from here:" in stop.said
    assert "python -m platform.sweep toy.yaml" in stop.said
    assert "Traceback" not in stop.said


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
def test_a_signal_leaves_a_checkpoint_within_an_epoch(how: str, stops: tuple[Path, dict[str, Stop]]) -> None:
    steps = [int(files[-1].name.split(".")[0]) for files in stops[1][how].checkpoints.values()]
    assert any(step % STEPS for step in steps), steps


@pytest.mark.slow
def test_a_second_signal_does_not_wait_for_checkpoints(stops: tuple[Path, dict[str, Stop]]) -> None:
    assert stops[1]["twice"].seconds < 30  # they may take twice as long


@pytest.mark.slow
def test_after_all_that_it_ends_with_the_numbers_of_a_sweep_left_alone(
    alone: Path, stops: tuple[Path, dict[str, Stop]]
) -> None:
    folder, _ = stops
    process = sweep(folder)
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said
    assert statuses(folder) == {("sweep", "FINISHED"): 1, ("trial", "FINISHED"): 2}
    assert numbers(folder) == numbers(alone)
    assert not [file for file in (folder / "results").rglob("*") if file.is_file()]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_told_and_the_one_before_serves(stops: tuple[Path, dict[str, Stop]]) -> None:
    _, found = stops
    row, files = next((row, files) for row, files in found["SIGTERM"].checkpoints.items() if len(files) > 1)
    said = found["Ctrl-C"].said
    assert re.search(rf"^{row}, .*: a checkpoint was damaged and is left out: {files[-1].name}", said, re.MULTILINE)


# A Ray that dies


@pytest.mark.slow
@pytest.mark.parametrize("which", ["raylet", "gcs_server"])
def test_a_ray_that_dies_is_told_soon_and_the_same_command_ends_with_the_same_numbers(
    which: str, alone: Path, tmp_path: Path
) -> None:
    folder = project(tmp_path, SPEC)
    process = sweep(folder)
    said = until(process, "epoch 1/3")
    children = under(process)
    next(child for child in children if child.name() == which).kill()
    since = time.monotonic()
    said += process.communicate(timeout=120)[0]
    assert time.monotonic() - since < 30  # Ray's core would abort after 60, or wait for ever
    assert process.returncode == 1, said
    assert "Ray on this machine has died" in said
    assert "This goes on from here:" in said
    assert "Traceback" not in said
    wait_until_gone(children)
    assert {status for _, status in statuses(folder)} <= {"KILLED", "FINISHED"}
    assert list((folder / "results/trials").glob("*/*/checkpoints/*.pt"))
    again = sweep(folder)
    said = again.communicate(timeout=600)[0]
    assert again.returncode == 0, said
    assert numbers(folder) == numbers(alone)


# More of the same


@pytest.mark.slow
def test_two_sweeps_at_once_train_only_what_is_new_and_each_once(alone: Path) -> None:
    """One row and one split more in one file, that row again in another; both files given to two commands at once."""
    more = SPEC.replace("splits: [0]", "splits: [0, 1]").replace("name: toy", "name: other")
    cutmix = "{name: CutMix, set: {method: cutmix, epochs: 1, batch_size: 64}}"
    (alone / "toy.yaml").write_text(f"{SPEC}  - {cutmix}\n")
    (alone / "other.yaml").write_text(more.partition("rows:")[0] + f"rows: [{cutmix}]\n")
    both = [sweep(alone, "other.yaml") for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    names = [name for text in said for name in re.findall(r"^(CutMix, .*) started", text, re.MULTILINE)]
    assert sorted(names) == ["CutMix, split 0, seed 0", "CutMix, split 1, seed 0"]
    for text in said:
        assert not re.search(r"^(Plain|BackMix), .* started", text, re.MULTILINE)
        assert re.search(r"4 trials in .* 0 failed", text)
        assert re.search(r"│ CutMix .* 2 │", text)
    client = MlflowClient(f"sqlite:///{alone}/mlflow.db")
    every = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    identities = Counter(run.data.tags["identity"] for run in every if run.data.tags["kind"] == "trial")
    assert set(identities.values()) == {1}
    assert {run.info.status for run in every} == {"FINISHED"}


@pytest.mark.slow
def test_fresh_trains_again_and_one_run_of_each_identity_counts(tmp_path: Path) -> None:
    folder = project(tmp_path, QUICK)
    for arguments, wanted in [([], 2), (["--fresh"], 2), ([], 0)]:
        process = sweep(folder, *arguments)
        said = process.communicate(timeout=600)[0]
        assert process.returncode == 0, said
        assert len(started(said)) == wanted
    counted = [run for run in trials(folder) if not {"superseded", "stopped"} & set(run.data.tags)]
    assert sorted(run.data.tags["row"] for run in counted) == ["BackMix", "Plain"]
    assert {run.info.status for run in trials(folder)} == {"FINISHED"}
    assert len(trials(folder)) == 4


# Until decided

DECIDED = """\
name: toy
base: {protocol: digits, backbone: wrn10-1, epochs: 3, batch_size: 16}
resources: {cpus_per_worker: 1}
splits: [0, 1]
until: {max_seeds: 5, smallest: 8}
columns: {Acc.: test/accuracy, AUROC: test/auroc}
rows:
  - {name: Plain, set: {method: plain}}
  - {name: Untrained, set: {method: plain, epochs: 1, lr: 0.0001}}
  - {name: CutMix, set: {method: cutmix}}
claims:
  - {row: Untrained, over: Plain, columns: [Acc.], sign: "-"}
  - {row: CutMix, over: Plain, columns: [Acc., AUROC], sign: "-"}
"""


@pytest.mark.slow
def test_a_table_that_is_killed_at_random_moments_decides_what_it_decides_alone(tmp_path: Path) -> None:
    """The runs' metrics, scores and weights too, and each trial has one run."""
    moments = random.Random(0)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    for folder in (alone, killed):
        folder.mkdir()
        project(folder, DECIDED)
    said = sweep(alone).communicate(timeout=600)[0]
    expected = report(alone)
    assert "decided after 3 seeds, sequential" in expected, said + expected
    for _ in range(5):
        process = sweep(killed)
        for _ in range(moments.randrange(1, 4)):
            until(process, " finished")
        time.sleep(moments.uniform(0, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = sweep(killed)
    said = again.communicate(timeout=600)[0]
    assert again.returncode == 0, said
    assert report(killed) == expected
    assert numbers(killed) == numbers(alone)
    assert statuses(killed) == statuses(alone)


def report(folder: Path) -> str:
    """Without the hours of what is missing, since those of trainings differ."""
    said = here(report_main, folder, "toy.yaml", "--format", "markdown").stdout
    return re.sub(r", [\d.]+ core-hours", "", said)


# A server that dies


@pytest.mark.slow
def test_what_an_mlflow_server_missed_while_it_was_dead_is_there_afterwards_once(tmp_path: Path) -> None:
    folder = project(tmp_path, QUICK)
    server = Server(f"sqlite:///{folder}/mlflow.db", folder)
    try:
        first = sweep(folder, "--tracking-uri", server.uri)
        said = until(first, "epoch 1/3")
        server.kill()  # until after the sweep
        said += first.communicate(timeout=600)[0]
        assert first.returncode == 1, said
        assert "does not answer: records are kept in" in said
        assert "This brings MLflow what it lacks:" in said
        assert "the next sweep with this folder delivers them" in said
        assert len(started(said)) == 2
        server.start()
        (folder / "toy.yaml").write_text(QUICK + "  - {name: CutMix, set: {method: cutmix}}\n")
        second = sweep(folder, "--tracking-uri", server.uri)
        said = until(second, "epoch 1/3")
        server.kill()
        time.sleep(5)
        server.start()
        said += second.communicate(timeout=600)[0]
        assert second.returncode == 0, said
        assert re.search(r"\d+ records that an interrupted sweep left are being delivered", said)
        assert started(said) == ["CutMix"]
        again = sweep(folder, "--tracking-uri", server.uri)
        said = again.communicate(timeout=600)[0]
        assert again.returncode == 0, said
        assert started(said) == []
    finally:
        server.kill()
    assert statuses(folder) == {("sweep", "FINISHED"): 2, ("trial", "FINISHED"): 3}
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    for run in trials(folder):
        assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2, 3]
        kept = folder / "artifacts" / run.info.experiment_id / run.info.run_id / "artifacts"
        assert {"config.yaml", "scores.parquet", "weights.pt"} <= {file.name for file in kept.iterdir()}
