"""Each trial is trained once, whoever wants it: what is finished, in work, or left by the dead."""

import os
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from platform.tracking import drivers
from platform.tracking.claims import Elsewhere, Finished, Ours
from platform.tracking.tracker import Tracker
from tests.helpers.stores import (
    CONFIG,
    FORK,
    TEST,
    VAL,
    bury,
    finish,
    flush,
    report,
    runs,
    state,
    statuses,
    steps,
    sweep_of,
)

pytestmark = pytest.mark.usefixtures("quick")


def test_what_finished_is_known_in_every_experiment(track: Callable[..., Tracker], tmp_path: Path) -> None:
    tracker = track()
    for experiment in ("one", "two"):
        trial = state(experiment)
        tracker.claim(trial, sweep_of(tracker, tmp_path / "toy.yaml", experiment=experiment))
        finish(tracker, trial, tmp_path, **{"train/seconds": 12.5})
    flush(tracker)
    finished = track().finished()
    assert set(finished) == {"one", "two"}
    assert finished["two"].sweep == "two"
    assert (finished["two"].seconds, finished["two"].device, finished["two"].row) == (12.5, "cpu", "Row")
    assert finished["two"].metrics[TEST] == 0.75
    assert finished["two"].params["epochs"] == "3"


def test_a_claim_finds_what_another_finished_or_trains(track: Callable[..., Tracker], uri: str, tmp_path: Path) -> None:
    first, second = track(), track()
    one, other = sweep_of(first, tmp_path / "a.yaml"), sweep_of(second, tmp_path / "b.yaml", experiment="other")
    mine = state("a")
    first.claim(mine, one)
    assert isinstance(busy := second.claim(state("a"), other), Elsewhere)
    assert f"process {os.getpid()} on " in busy.who
    finish(first, mine, tmp_path)
    flush(first)
    assert isinstance(done := second.claim(state("a"), other), Finished)
    assert done.trial.run_id == mine.run_id
    assert [run.info.run_id for run in runs(uri, view=ViewType.ALL)] == [mine.run_id]


def test_a_trial_whose_process_died_is_gone_on_with_in_its_run(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    first, second = track(), track()
    before = state("a")
    first.claim(before, sweep_of(first, tmp_path / "a.yaml"))
    report(first, before, 1)
    report(first, before, 2)
    flush(first)
    bury(uri, before.run_id)
    again = state("a")
    sweep = sweep_of(second, tmp_path / "b.yaml", key="another")
    assert second.claim(again, sweep) == Ours(before.run_id)
    finish(second, again, tmp_path, since=1)  # its checkpoint was of epoch 1
    flush(second)
    (run,) = runs(uri)
    assert (run.info.status, run.data.tags["attempts"]) == ("FINISHED", "2")
    assert run.data.tags["mlflow.parentRunId"] == sweep.run_id
    for name in ("train/loss", VAL):
        assert steps(uri, run.info.run_id, name) == [1, 2, 3]


def test_interrupted_and_failed_trials_are_gone_on_with_and_stopped_ones_are_not(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    tracker = track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    for status in ("interrupted", "failed", "stopped"):
        first, second = state(status), state(status)
        tracker.claim(first, sweep)
        first.status = status  # type: ignore[assignment]
        tracker.ended(first)
        assert isinstance(tracker.claim(second, sweep), Ours)
        assert (first.run_id == second.run_id) == (status != "stopped")
        finish(tracker, second, tmp_path)
    assert len(tracker.finished()) == 3
    assert statuses(uri) == {"FINISHED": 4}


def test_a_fresh_training_takes_the_place_of_the_finished_one(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    tracker = track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    old, new = state("a"), state("a")
    for trial in (old, new):
        assert isinstance(tracker.claim(trial, sweep, fresh=trial is new), Ours)
        assert tracker.finished().keys() == (set() if trial is old else {"a"})
        finish(tracker, trial, tmp_path)
    assert tracker.finished()["a"].run_id == new.run_id
    assert tracker.fetch(old.run_id, "weights.pt", tmp_path) is not None
    (superseded,) = (run for run in runs(uri) if "superseded" in run.data.tags)
    assert superseded.data.tags["superseded"] == new.run_id


def test_a_deleted_run_is_no_longer_known(track: Callable[..., Tracker], uri: str, tmp_path: Path) -> None:
    tracker = track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    trials = [state("a"), state("b")]
    for trial in trials:
        tracker.claim(trial, sweep)
        finish(tracker, trial, tmp_path)
    assert set(tracker.finished()) == {"a", "b"}
    MlflowClient(uri).delete_run(trials[0].run_id)
    assert set(tracker.finished()) == {"b"}
    assert isinstance(tracker.claim(state("a"), sweep), Ours)


def test_an_added_evaluation_goes_into_the_finished_run(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    tracker, reader = track(), track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    trial = state("a")
    tracker.claim(trial, sweep)
    finish(tracker, trial, tmp_path)
    flush(tracker)
    assert "test/cifar/auroc" not in reader.finished()["a"].metrics
    added = state("a", evaluates_only=True, run_id=trial.run_id)
    assert tracker.claim(added, sweep) == Ours(trial.run_id)
    finish(tracker, added, tmp_path, since=CONFIG.epochs - 1, **{"test/cifar/auroc": 0.5})
    flush(tracker)
    assert statuses(uri) == {"FINISHED": 1}
    assert reader.finished()["a"].metrics["test/cifar/auroc"] == 0.5
    failing = state("a", evaluates_only=True, run_id=trial.run_id, error="Traceback: no images")
    tracker.started(failing)
    failing.status = "failed"
    tracker.ended(failing)
    tracker.close()
    assert statuses(uri) == {"FINISHED": 1}


def test_runs_of_dead_drivers_are_ended_and_those_of_live_ones_are_not(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    tracker = track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    dead, live = state("dead"), state("live")
    for trial in (dead, live):
        tracker.claim(trial, sweep)
    bury(uri, dead.run_id)
    track()
    assert {run.data.tags["identity"]: run.info.status for run in runs(uri)} == {"dead": "KILLED", "live": "RUNNING"}
    assert statuses(uri, "sweep") == {"RUNNING": 1}


def test_a_driver_on_another_machine_lives_as_long_as_its_sweep_beats(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    far, client = track(), MlflowClient(uri)
    sweep = sweep_of(far, tmp_path / "toy.yaml")
    trial = state("a")
    far.claim(trial, sweep)
    for run_id in (sweep.run_id, trial.run_id):
        client.set_tag(run_id, "host", "another")
    near = track()
    own = sweep_of(near, tmp_path / "toy.yaml")
    assert own.run_id != sweep.run_id
    assert isinstance(near.claim(state("a"), own), Elsewhere)
    client.set_tag(sweep.run_id, "heartbeat", str(time.time() - 200))
    later = track()
    assert later.claim(state("a"), own) == Ours(trial.run_id)


def test_a_sweep_whose_run_is_refused_leaves_the_others_their_signs_of_life(
    track: Callable[..., Tracker], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "BEAT", 0.1)
    monkeypatch.setattr(drivers, "LOOK", 0.1)
    client, tracker = MlflowClient(uri), track()
    lives = sweep_of(tracker, tmp_path / "toy.yaml").run_id
    tracker._heartbeat.sweeps.update(f"{n:032x}" for n in range(20))  # MLflow knows none of these
    client.set_tag(lives, "heartbeat", "0")
    deadline = time.monotonic() + 20
    while client.get_run(lives).data.tags["heartbeat"] == "0" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert float(client.get_run(lives).data.tags["heartbeat"]) > 0


def compete(uri: str, folder: Path, identities: list[str], start: Barrier, trained: Queue) -> None:
    """A process that trains what it gets of the identities, until all are finished."""
    folder.mkdir()
    tracker = Tracker(uri, folder / "outbox", print)
    sweep = sweep_of(tracker, folder / "toy.yaml", experiment=folder.name)
    start.wait(60)
    wanted, count = list(identities), 0
    while wanted:
        trial = state(wanted[0])
        claim = tracker.claim(trial, sweep)
        if isinstance(claim, Elsewhere):
            wanted.append(wanted.pop(0))
            time.sleep(0.02)
            continue
        if isinstance(claim, Ours):
            finish(tracker, trial, folder)
            count += 1
        wanted.pop(0)
    tracker.end_sweep(sweep, "FINISHED")
    problems = tracker.close()
    assert not problems, problems
    trained.put(count)


def test_two_processes_that_want_the_same_train_each_trial_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new.db"  # both make its tables
    identities = [f"{n:016x}" for n in range(10)]
    start, trained = FORK.Barrier(2), FORK.Queue()
    arguments = [(uri, tmp_path / name, identities, start, trained) for name in ("one", "two")]
    processes = [FORK.Process(target=compete, args=each) for each in arguments]
    for process in processes:
        process.start()
    assert sum(trained.get(timeout=120) for _ in processes) == len(identities)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert Counter(run.data.tags["identity"] for run in runs(uri)) == dict.fromkeys(identities, 1)
    assert statuses(uri) == {"FINISHED": len(identities)}
    assert statuses(uri, "sweep") == {"FINISHED": 2}
    for run in runs(uri):
        assert steps(uri, run.info.run_id, "train/loss") == [1, 2, 3]
