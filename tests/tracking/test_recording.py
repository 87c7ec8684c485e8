"""What runs of a real store tell: of a trial, of a sweep, and how each of them ended."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from platform.tracking.claims import Ours
from platform.tracking.errors import TrackingError
from platform.tracking.reader import Reader
from platform.tracking.runs import opening_of
from platform.tracking.tracker import Tracker
from tests.helpers.stores import TEST, VAL, finish, flush, report, runs, state, statuses, steps, sweep_of

pytestmark = pytest.mark.usefixtures("quick")


def test_a_finished_trial_leaves_all_that_its_run_must_tell(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    tracker = track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml", trials=3, teacher={"backbone": "wrn10-1"})
    trial = state("a" * 16)
    assert tracker.claim(trial, sweep) == Ours(trial.run_id)
    finish(tracker, trial, tmp_path)
    flush(tracker)
    (run,) = runs(uri)
    tags, client = run.data.tags, MlflowClient(uri)
    assert run.info.run_id == trial.run_id
    assert run.info.status == "FINISHED"
    assert tags["mlflow.parentRunId"] == sweep.run_id
    assert {"identity", "phase", "row", "method", "split", "seed", "git.sha", "version.torch", "device"} <= set(tags)
    assert (run.data.params["backbone"], run.data.params["mask_ratio"]) == ("wrn10-1", "0.25")
    assert run.data.metrics[TEST] == 0.75
    assert steps(uri, trial.run_id, VAL) == [1, 2, 3]
    assert steps(uri, trial.run_id, "val/msp/tnr95") == [3]  # of all metrics only the last epoch's are kept
    files = [file.path for file in client.list_artifacts(trial.run_id)]
    assert files == ["config.yaml", "scores.parquet", "weights.pt"]
    (parent,) = runs(uri, "sweep")
    assert parent.data.params == {"trials": "3", "teacher.backbone": "wrn10-1"}
    assert [file.path for file in client.list_artifacts(sweep.run_id)] == ["toy.yaml"]


def test_each_end_has_its_status(track: Callable[..., Tracker], uri: str, tmp_path: Path) -> None:
    tracker = track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    for status in ("stopped", "failed", "interrupted"):
        trial = state(status)
        tracker.claim(trial, sweep)
        report(tracker, trial, 1)
        trial.status, trial.error = status, "Traceback: boom" if status == "failed" else ""  # type: ignore[assignment]
        trial.warnings = ["a checkpoint was lost"]
        tracker.ended(trial)
    flush(tracker)
    ends = {run.data.tags["identity"]: run for run in runs(uri)}
    assert {name: run.info.status for name, run in ends.items()} == {
        "stopped": "FINISHED",
        "failed": "FAILED",
        "interrupted": "KILLED",
    }
    assert ends["stopped"].data.tags["stopped"] == "by the scheduler, after epoch 1"
    assert ends["failed"].data.tags["warnings"] == "a checkpoint was lost"
    fetched = tracker.fetch(ends["failed"].info.run_id, "traceback.txt", tmp_path)
    assert fetched is not None
    assert fetched.read_text() == "Traceback: boom"
    assert tracker.fetch(ends["failed"].info.run_id, "weights.pt", tmp_path) is None
    assert tracker.finished() == {}


def test_ticks_between_epochs_log_nothing(track: Callable[..., Tracker], uri: str, tmp_path: Path) -> None:
    tracker = track()
    trial = state("a")
    tracker.claim(trial, sweep_of(tracker, tmp_path / "toy.yaml"))
    report(tracker, trial, 1)
    trial.epoch = 1.5
    tracker.reported(trial)
    tracker.close()
    assert steps(uri, trial.run_id, "train/loss") == [1]


def test_a_sweep_goes_on_in_its_own_run(track: Callable[..., Tracker], uri: str, tmp_path: Path) -> None:
    tracker = track()
    first = sweep_of(tracker, tmp_path / "toy.yaml", trials=2)
    assert sweep_of(track(), tmp_path / "toy.yaml", trials=2).run_id != first.run_id  # that is live
    tracker.log_result(first, {"confirm/best/auroc": 0.5}, {"best.lr": 0.1})
    tracker.end_sweep(first, "KILLED")
    flush(tracker)
    again = sweep_of(tracker, tmp_path / "toy.yaml", trials=3)
    assert again.run_id == first.run_id
    tracker.log_result(again, {"confirm/best/auroc": 0.75}, {"best.lr": 0.2})
    tracker.requests(again, [{"row": "Row", "run_id": "abc"}])
    tracker.end_sweep(again, "FINISHED")
    flush(tracker)
    (found,) = tracker.sweeps("toy")
    assert found.params == {"trials": "3", "best.lr": "0.2"}
    assert found.run_id == first.run_id
    assert MlflowClient(uri).get_run(found.run_id).data.metrics == {"confirm/best/auroc": 0.75}
    assert tracker.sweeps("another") == []


def test_of_two_sweeps_the_one_that_ran_again_is_the_newest_to_a_driver_and_to_a_report(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    (tmp_path / "toy.yaml").touch()
    tracker = track()

    def run(key: str) -> str:
        opened = tracker.start_sweep("toy", key, key, {}, {}, [tmp_path / "toy.yaml"])
        tracker.end_sweep(opened, "FINISHED")
        flush(tracker)
        time.sleep(0.01)  # stores have milliseconds
        return opened.run_id

    first, second = run("first"), run("second")
    reader = Reader.open(uri)
    assert reader is not None
    assert [sweep.run_id for sweep in tracker.sweeps("toy")] == [second, first]
    opened = tracker.start_sweep("toy", "first", "first", {}, {}, [tmp_path / "toy.yaml"])
    flush(tracker)
    running = Reader.open(uri)
    assert running is not None
    assert [(sweep.run_id, sweep.finished) for sweep in running.sweeps] == [(first, False), (second, True)]
    tracker.end_sweep(opened, "FINISHED")
    flush(tracker)
    again = Reader.open(uri)
    assert again is not None
    for sweeps in (tracker.sweeps("toy"), again.finished_sweeps("toy")):
        assert [sweep.run_id for sweep in sweeps] == [first, second]


def test_closing_ends_what_is_open_as_killed(track: Callable[..., Tracker], uri: str, tmp_path: Path) -> None:
    tracker = track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    trial = state("a")
    tracker.claim(trial, sweep)
    opening = opening_of(state("b"), sweep, tracker._drivers.me, fresh=False)
    tracker._claims.create(opening)  # a claim that Ctrl-C broke off
    assert tracker.close() == []
    assert tracker.close() == []
    assert statuses(uri) == {"KILLED": 2}
    assert statuses(uri, "sweep") == {"KILLED": 1}
    assert trial.status == "interrupted"


def test_the_page_that_is_printed_lists_the_runs_in_the_mode_for_training(
    track: Callable[..., Tracker], tmp_path: Path
) -> None:
    tracker = track()
    place = sweep_of(tracker, tmp_path / "toy.yaml").experiment_id
    assert f"http://127.0.0.1:5000/#/experiments/{place}/runs?workflowType=machine_learning" in tracker.how_to_see()
    pages = (Path(mlflow.__file__).parent / "server/js/build/static/js").glob("*.js")
    ui = "".join(page.read_text(encoding="utf-8") for page in pages)  # of the MLflow that is installed
    for needed in ('"/experiments/:experimentId/runs"', '.get("workflowType")', 'MACHINE_LEARNING="machine_learning"'):
        assert needed in ui


def test_stores_of_different_folders_are_different_by_the_same_relative_name(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        shutil.copy(empty, folder)
        tracker = Tracker("sqlite:///mlflow.db", folder / "outbox", print)
        trial = state(name)
        tracker.claim(trial, sweep_of(tracker, folder / "toy.yaml"))
        finish(tracker, trial, folder)
        known.append(set(tracker.finished()))
        tracker.close()
        assert (folder / "mlruns" / "toy" / trial.run_id / "artifacts" / "weights.pt").is_file()
    assert known == [{"one"}, {"two"}]


def test_the_message_of_a_refused_store_hides_the_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as raised:
        Tracker("http://me:secret@127.0.0.1:9", tmp_path, print)
    assert "MLflow at http://***@127.0.0.1:9 does not answer" in str(raised.value)
    assert "secret" not in str(raised.value)


# Processes


def test_a_trial_that_goes_on_is_listed_once(track: Callable[..., Tracker], uri: str, tmp_path: Path) -> None:
    for _ in range(2):
        tracker, trial = track(), state("a")
        tracker.claim(trial, sweep_of(tracker, tmp_path / "toy.yaml"))
        report(tracker, trial, 1)
        flush(tracker)
        reader = Reader.open(uri)
        assert reader is not None
        assert [(run.run_id, run.ending) for run in reader.trials()] == [(trial.run_id, "running")]
        tracker.close()


@pytest.mark.parametrize("value", ["no JSON", "5", '["x"]', '{"known": ["x"]}', '{"known": 5}'])
def test_a_tag_that_cannot_be_read_counts_as_absent(
    value: str, track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    tracker, trial, client = track(), state("a"), MlflowClient(uri)
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    tracker.claim(trial, sweep)
    finish(tracker, trial, tmp_path)
    tracker.close()
    for run_id, name in ((trial.run_id, "tested"), (trial.run_id, "knn"), (sweep.run_id, "images")):
        client.set_tag(run_id, name, value)
    reader = Reader.open(uri)
    assert reader is not None
    assert reader.finished["a"].tested == reader.images("toy") == {}
    assert reader.finished["a"].scored_with.keys() <= {"knn"}
