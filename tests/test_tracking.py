"""Tracking with real stores: one run a trial whatever is killed, nothing twice, nothing lost, nobody in the way."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from platform.tracking import outbox
from platform.tracking.claims import Claims, Elsewhere, Finished, Ours
from platform.tracking.errors import TrackingError
from platform.tracking.runs import opening_of
from platform.tracking.store import Store
from platform.tracking.sweeps import Sweep
from platform.tracking.tracker import Tracker
from platform.tracking.trials import TrialState
from trainables.settings.resolving import resolve

VAL, TEST = "val/pseudo-unknown/msp/auroc", "test/digits/msp/auroc"  # what a run calls `val/auroc` and `test/auroc`
CONFIG = resolve({"method": "backmix", "protocol": "digits", "backbone": "wrn10-1", "epochs": 3, "mask_ratio": 0.25})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(outbox, "INTERVAL", 0.1)
    monkeypatch.setattr(outbox, "LONGEST_WAIT", 0.5)
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables: making them takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}")
    return file


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty, tmp_path)}"


@pytest.fixture
def track(uri: str, tmp_path: Path) -> Iterator[Callable[..., Tracker]]:
    """Trackers as different processes have them: each with an outbox of its own, closed at the end."""
    trackers: list[Tracker] = []

    def make(*, to: str = "", box: str = "", say: Callable[[str], None] = lambda text: None) -> Tracker:
        trackers.append(Tracker(to or uri, tmp_path / (box or f"outbox {len(trackers)}"), say))
        return trackers[-1]

    yield make
    for tracker in trackers:
        tracker.close(1)


def sweep_of(tracker: Tracker, file: Path, *, key: str = "k", experiment: str = "toy", **params: Any) -> Sweep:
    file.write_text("name: toy")
    return tracker.start_sweep(experiment, f"sweep {experiment}", key, params, {"profile": "quick"}, [file])


def state(identity: str, **changes: Any) -> TrialState:
    return TrialState(
        **{"sweep": "toy", "number": 1, "phase": "row", "row": "Row", "config": CONFIG} | changes, identity=identity
    )


def report(tracker: Tracker, trial: TrialState, epoch: float, **metrics: float) -> None:
    trial.epoch, trial.device = epoch, "cpu"
    trial.metrics = {"train/loss": 1 / (epoch + 1), VAL: 0.5, "val/msp/tnr95": 0.1 * epoch, **metrics}
    tracker.reported(trial)


def finish(tracker: Tracker, trial: TrialState, folder: Path, *, since: int = 0, **metrics: float) -> None:
    """Train to the end, with the three files that a finished trial has; its folder is deleted then."""
    tracker.started(trial)
    for epoch in range(since + 1, CONFIG.epochs + 1):
        if epoch == CONFIG.epochs:
            trial.status = "finished"
        report(tracker, trial, epoch, **({TEST: 0.75, **metrics} if epoch == CONFIG.epochs else {}))
    trial.files = folder / f"files of {trial.identity}"
    trial.files.mkdir(parents=True)
    for name in ("config.yaml", "scores.parquet", "weights.pt"):
        (trial.files / name).write_text(trial.identity)
    tracker.ended(trial)
    shutil.rmtree(trial.files)


def flush(tracker: Tracker) -> None:
    assert tracker._outbox.flush(30)


def runs(uri: str, kind: str = "trial", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    client = MlflowClient(uri)
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run for run in client.search_runs(every, run_view_type=view) if run.data.tags.get("kind") == kind]


def statuses(uri: str, kind: str = "trial") -> Counter[str]:
    return Counter(run.info.status for run in runs(uri, kind))


def steps(uri: str, run_id: str, name: str) -> list[int]:
    return [metric.step for metric in MlflowClient(uri).get_metric_history(run_id, name)]


def bury(uri: str, run_id: str) -> None:
    """The process that has this run is dead: its number belongs to a process that was born at another time."""
    MlflowClient(uri).set_tag(run_id, "born", "1.0")


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


def test_what_finished_is_known_in_every_experiment(track: Callable[..., Tracker], tmp_path: Path) -> None:
    tracker = track()
    for experiment in ("one", "two"):
        trial = state(experiment)
        tracker.claim(trial, sweep_of(tracker, tmp_path / "toy.yaml", experiment=experiment))
        finish(tracker, trial, tmp_path, **{"train/seconds": 12.5})
    flush(tracker)
    known = track().finished()
    assert set(known) == {"one", "two"}
    assert known["two"].sweep == "two"
    assert (known["two"].seconds, known["two"].device, known["two"].row) == (12.5, "cpu", "Row")
    assert known["two"].metrics[TEST] == 0.75
    assert known["two"].params["epochs"] == "3"
    assert set(tracker.finished(["two", "three"])) == {"two"}


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
    assert done.known.run_id == mine.run_id
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
    tracker.cells(again, [{"row": "Row", "run_id": "abc"}])
    tracker.end_sweep(again, "FINISHED")
    flush(tracker)
    (found,) = tracker.sweeps("toy")
    assert found.params == {"trials": "3", "best.lr": "0.2"}
    assert found.run_id == first.run_id
    assert MlflowClient(uri).get_run(found.run_id).data.metrics == {"confirm/best/auroc": 0.75}
    assert tracker.sweeps("another") == []


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

FORK = multiprocessing.get_context("fork")  # for importing MLflow takes seconds


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


def record_and_wait(uri: str, folder: Path, recorded: Event) -> None:
    """A process that finished one trial and is in the midst of another, with nothing of both delivered."""
    outbox.INTERVAL = 1000.0
    tracker = Tracker(uri, folder / "outbox", print)
    sweep = sweep_of(tracker, folder / "toy.yaml", experiment="first")
    done, half = state("done"), state("half")
    tracker.claim(half, sweep)
    tracker.claim(done, sweep)
    finish(tracker, done, folder)
    report(tracker, half, 1)
    recorded.set()
    time.sleep(1000)


def test_what_a_killed_process_recorded_is_delivered_by_the_next(
    track: Callable[..., Tracker], uri: str, tmp_path: Path
) -> None:
    recorded = FORK.Event()
    process = FORK.Process(target=record_and_wait, args=(uri, tmp_path, recorded))
    process.start()
    assert recorded.wait(60)
    process.kill()
    process.join()
    assert statuses(uri) == {"RUNNING": 2}
    said: list[str] = []
    tracker = track(box="outbox", say=said.append)
    assert any(re.fullmatch(r"\d+ records that an interrupted sweep left are being delivered", line) for line in said)
    assert set(tracker.finished()) == {"done"}
    assert statuses(uri) == {"FINISHED": 1, "KILLED": 1}
    assert statuses(uri, "sweep") == {"KILLED": 1}
    sweep = sweep_of(tracker, tmp_path / "toy.yaml", experiment="first")
    assert [run.info.run_id for run in runs(uri, "sweep")] == [sweep.run_id]
    half = state("half")
    assert isinstance(tracker.claim(half, sweep), Ours)
    finish(tracker, half, tmp_path / "later", since=1)
    flush(tracker)
    assert statuses(uri) == {"FINISHED": 2}
    assert {run.data.tags["identity"] for run in runs(uri)} == {"done", "half"}
    for run in runs(uri):
        assert steps(uri, run.info.run_id, "train/loss") == [1, 2, 3]
        assert tracker.fetch(run.info.run_id, "weights.pt", tmp_path) is not None


# A server


class Server:
    """`mlflow server` on a database, to be killed and started again."""

    def __init__(self, uri: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.store, self.folder = uri, folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        options = ["--backend-store-uri", self.store, "--artifacts-destination", str(self.folder / "artifacts")]
        options += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 90
        while True:
            try:
                with urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(uri: str, tmp_path: Path) -> Iterator[Server]:
    started = Server(uri, tmp_path)
    yield started
    started.kill()


def test_a_server_that_is_killed_and_comes_back_has_everything_once(
    track: Callable[..., Tracker], server: Server, uri: str, tmp_path: Path
) -> None:
    said: list[str] = []
    tracker = track(to=server.uri, say=said.append)
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    before, across, during = state("before"), state("across"), state("during")
    tracker.claim(before, sweep)
    finish(tracker, before, tmp_path)
    flush(tracker)
    tracker.claim(across, sweep)
    report(tracker, across, 1)
    server.kill()
    started = time.monotonic()
    assert isinstance(tracker.claim(during, sweep), Ours)
    assert time.monotonic() - started < 15
    assert during.run_id.startswith("claim-")
    finish(tracker, during, tmp_path)
    finish(tracker, across, tmp_path, since=1)
    weights = tracker.fetch(during.run_id, "weights.pt", tmp_path)
    assert weights is not None
    assert weights.read_text() == "during"
    tracker.cells(sweep, [{"run_id": during.run_id}])
    with pytest.raises(TrackingError):
        tracker.fetch(before.run_id, "weights.pt", tmp_path)
    server.start()
    tracker.end_sweep(sweep, "FINISHED")
    assert tracker.close() == []
    assert [re.sub(r"^MLflow at \S+ (.*?):.*", r"\1", line) for line in said] == ["does not answer", "answers again"]
    assert statuses(uri) == {"FINISHED": 3}
    assert statuses(uri, "sweep") == {"FINISHED": 1}
    ids = {run.data.tags["identity"]: run.info.run_id for run in runs(uri)}
    for run in runs(uri):
        assert steps(uri, run.info.run_id, "train/loss") == [1, 2, 3]
        assert run.data.params["backbone"] == "wrn10-1"
    reader = track(to=server.uri)
    for run_id in ids.values():
        assert reader.fetch(run_id, "scores.parquet", tmp_path) is not None
    cells = reader.fetch(sweep.run_id, "cells.json", tmp_path)
    assert cells is not None
    assert json.loads(cells.read_text()) == [{"run_id": ids["during"]}]


def test_two_that_trained_the_same_while_the_server_was_down_leave_one_finished_run(
    track: Callable[..., Tracker], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = track(), track()
    sweeps = [sweep_of(first, tmp_path / "a.yaml"), sweep_of(second, tmp_path / "b.yaml", experiment="other")]
    with monkeypatch.context() as down:
        # As where nothing answers: nobody can see the other's claim.
        down.setattr(Claims, "contest", lambda *_: (_ for _ in ()).throw(ConnectionError("refused")))
        trials = [state("a"), state("a")]
        for tracker, sweep, trial in zip((first, second), sweeps, trials, strict=True):
            assert isinstance(tracker.claim(trial, sweep), Ours)
            assert trial.run_id.startswith("claim-")
    for tracker, trial in zip((first, second), trials, strict=True):
        finish(tracker, trial, tmp_path)
        flush(tracker)
    assert statuses(uri) == {"FINISHED": 1, "KILLED": 1}
    ended = {run.info.status: run for run in runs(uri)}
    assert ended["KILLED"].data.tags["duplicate_of"] == ended["FINISHED"].info.run_id
    assert first.close() == second.close() == []


def test_a_run_ends_when_its_trial_did_and_not_when_that_was_delivered(
    track: Callable[..., Tracker], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = track()
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    trial = state("a")
    tracker.claim(trial, sweep)
    flush(tracker)
    with monkeypatch.context() as down:
        down.setattr(Store, "log", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("refused")))
        finish(tracker, trial, tmp_path)
        tracker.end_sweep(sweep, "FINISHED")
        ended = time.time()
        assert not tracker._outbox.flush(30, once=True)
    flush(tracker)
    for run in [*runs(uri), *runs(uri, "sweep")]:
        assert run.info.status == "FINISHED"
        assert run.info.start_time <= run.info.end_time <= 1000 * ended


def test_files_that_arrived_before_a_request_failed_are_not_told_to_be_gone(
    track: Callable[..., Tracker], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tracker = track(say=said.append)
    trials = [state("a"), state("b")]
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    for trial in trials:
        tracker.claim(trial, sweep)
    flush(tracker)
    with monkeypatch.context() as down:
        # Files arrive, and what comes after them does not; both are removed, as by one that died before it said so.
        down.setattr(Store, "end", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("refused")))
        finish(tracker, trials[0], tmp_path)
        assert not tracker._outbox.flush(30, once=True)
        down.setattr(Store, "put_folder", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("refused")))
        finish(tracker, trials[1], tmp_path)
        assert not tracker._outbox.flush(30, once=True)
        for kept in tracker._outbox.folder.glob("*.files/*"):
            shutil.rmtree(kept)
    flush(tracker)
    (gone,) = [line for line in said if "are gone" in line]
    assert trials[1].run_id in gone
    assert "weights.pt" in gone
    assert statuses(uri) == {"FINISHED": 2}


def test_records_that_no_server_took_are_told_at_the_end(
    track: Callable[..., Tracker], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = track()
    trial = state("a")
    tracker.claim(trial, sweep_of(tracker, tmp_path / "toy.yaml"))
    flush(tracker)
    with monkeypatch.context() as down:
        down.setattr(Store, "log", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("refused")))
        finish(tracker, trial, tmp_path)
        (problem,) = tracker.close(0.5)
    assert "the next sweep with this folder delivers them" in problem
    assert set(track(box="outbox 0").finished()) == {"a"}
