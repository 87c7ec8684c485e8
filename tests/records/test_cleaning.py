"""What `runs clean` removes, and what it never does."""

import mmap
import os
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from platform.tracking.address import short_name
from platform.tracking.outbox import Outbox
from tests.helpers.sweeps import Done, here

FINISHED, UNFINISHED = "a1" * 8, "d4" * 8


@pytest.fixture
def desk(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store, with what sweeps leave beside it."""
    shutil.copy2(place / "mlflow.db", tmp_path)
    for name in (FINISHED, UNFINISHED):
        _write(trials_of(tmp_path) / name / "000010.pt")
        _write(tmp_path / "results" / "teachers" / f"{name}.pt")
        _write(tmp_path / "results" / "teachers" / f"{name}.sha256")
    _write(tmp_path / "results" / "studies" / "toy.log")
    _write(tmp_path / "results" / "outbox" / "store-1.000001.jsonl")
    for name in ("digits", "cifar10"):
        _write(tmp_path / "cache" / f"{name}.arrow")
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    return tmp_path


def trials_of(desk: Path) -> Path:
    return desk / "results" / "trials" / short_name(f"sqlite:///{desk}/mlflow.db")


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(1000))


def clean(desk: Path, *arguments: str) -> Done:
    from platform import runs

    return here(runs.main, desk, "clean", *arguments)


def left(desk: Path) -> set[str]:
    folders = [desk / "results", desk / "cache"]
    return {
        path.name for folder in folders for path in folder.rglob("*") if path.suffix in (".pt", ".sha256", ".arrow")
    }


def test_without_a_choice_all_is_shown_and_nothing_removed(desk: Path) -> None:
    before = left(desk)
    said = clean(desk).stdout
    row = next(line for line in said.splitlines() if "│ teachers" in line)
    assert [cell.strip() for cell in row.split("│")[2:5]] == ["2", "4.0 kB", "1, 2.0 kB"]
    assert "Nothing was removed" in said
    assert left(desk) == before


def test_a_dry_run_names_what_would_be_removed(desk: Path) -> None:
    before = left(desk)
    said = clean(desk, "checkpoints", "--dry-run").stdout
    assert f"would remove {trials_of(desk) / FINISHED}\n" in said.replace("results/", f"{desk}/results/", 1)
    assert left(desk) == before


def test_checkpoints_and_weights_of_finished_trials_go_and_those_of_others_stay(desk: Path) -> None:
    said = clean(desk, "checkpoints", "teachers").stdout
    assert [path.name for path in trials_of(desk).iterdir()] == [UNFINISHED]
    assert {path.stem for path in (desk / "results" / "teachers").iterdir()} == {UNFINISHED}
    assert "its trial is not finished" in said
    assert said.endswith("removed 2 things, 3.0 kB\n")


def test_checkpoints_of_another_store_stay_even_of_a_trial_that_is_finished_in_this_one(desk: Path) -> None:
    other = desk / "results" / "trials" / short_name("http://elsewhere:5000") / FINISHED / "000020.pt"
    _write(other)
    assert f"{FINISHED}: it is of another store" in clean(desk, "checkpoints").stdout
    assert other.is_file()


def test_checkpoints_from_before_stores_had_folders_go_since_nothing_reads_them(desk: Path) -> None:
    old = desk / "results" / "trials" / UNFINISHED / "checkpoints" / "000020.pt"
    _write(old)
    clean(desk, "checkpoints")
    assert not old.parent.parent.exists()


def test_the_study_of_a_search_that_is_not_over_stays(desk: Path) -> None:
    assert "its search is not over" in clean(desk, "studies").stdout
    assert (desk / "results" / "studies" / "toy.log").exists()


def test_nothing_under_storage_goes_while_a_sweep_uses_it(desk: Path) -> None:
    outbox = Outbox(desk / "results" / "outbox", "another", lambda key, records: None, print, "MLflow")
    try:
        said = clean(desk, "checkpoints", "teachers", "studies").stdout
    finally:
        outbox.close(1)
    assert said.count("a sweep is running") == 5
    assert said.endswith("removed 0 things, 0 bytes\n")


def test_images_that_a_process_reads_stay(desk: Path) -> None:
    with (desk / "cache" / "digits.arrow").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        said = clean(desk, "images").stdout
    assert "digits.arrow: a process reads it" in said
    assert {name for name in left(desk) if name.endswith(".arrow")} == {"digits.arrow"}


def test_records_that_mlflow_lacks_are_never_removed(desk: Path) -> None:
    done = clean(desk, "undelivered")
    assert (done.returncode, done.stderr.partition(":")[0]) == (2, "undelivered")
    assert (desk / "results" / "outbox" / "store-1.000001.jsonl").exists()


def test_runs_that_were_deleted_in_mlflow_go_with_their_files_and_the_living_stay(desk: Path) -> None:
    client = MlflowClient(f"sqlite:///{desk}/mlflow.db")
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    run = client.create_run(experiment.experiment_id, tags={"kind": "trial"})
    client.log_text(run.info.run_id, "weights", "weights.pt")
    client.delete_run(run.info.run_id)
    living = {found.info.run_id for found in client.search_runs([experiment.experiment_id])}
    said = clean(desk, "deleted").stdout
    assert said.startswith(f"removed {run.info.run_id}\n")
    assert not os.path.exists(run.info.artifact_uri.removeprefix("file://"))
    assert clean(desk, "deleted").stdout == "removed 0 things, 0 bytes\n"
    assert {found.info.run_id for found in client.search_runs([experiment.experiment_id])} == living
