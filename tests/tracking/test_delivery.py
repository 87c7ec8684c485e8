"""Nothing is lost and nothing is twice, whatever is killed: records that arrive later, and a server that was gone."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException, get_error_code

from platform.tracking import outbox
from platform.tracking.claims import Claims, Ours
from platform.tracking.errors import TrackingError, temporary
from platform.tracking.store import Store
from platform.tracking.tracker import Tracker
from tests.helpers.stores import FORK, Server, finish, flush, report, runs, state, statuses, steps, sweep_of

pytestmark = pytest.mark.usefixtures("quick")


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
    tracker.requests(sweep, [{"run_id": during.run_id}])
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
    listing = reader.fetch(sweep.run_id, "cells.json", tmp_path)
    assert listing is not None
    assert json.loads(listing.read_text()) == [{"run_id": ids["during"]}]


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


def test_a_folder_of_files_that_was_never_there_is_told_and_not_taken_for_an_empty_one(
    track: Callable[..., Tracker], tmp_path: Path
) -> None:
    said: list[str] = []
    tracker = track(say=said.append)
    trial = state("a")
    tracker.claim(trial, sweep_of(tracker, tmp_path / "toy.yaml"))
    trial.status, trial.files = "finished", tmp_path / "on another node"
    report(tracker, trial, 3)
    tracker.ended(trial)
    flush(tracker)
    assert said == [f"files of MLflow run {trial.run_id} are gone: files of {trial.files}"]


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


@pytest.mark.parametrize(
    "error",
    [
        RestException({"error_code": "UNAUTHENTICATED", "message": "the token has expired"}),
        RestException({"error_code": "PERMISSION_DENIED", "message": "not now"}),
        MlflowException("Response body: 'default backend - 404'", error_code=get_error_code(404)),
    ],
    ids=["401", "403", "404 of a proxy"],
)
def test_a_login_that_ran_out_and_a_proxy_without_its_server_are_waited_for(error: MlflowException) -> None:
    assert temporary(error)


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND", "INVALID_PARAMETER_VALUE"])
def test_what_mlflow_itself_refuses_is_refused_for_good(code: str) -> None:
    assert not temporary(RestException({"error_code": code, "message": "no"}))


def test_records_that_are_refused_are_told_at_the_end_with_where_they_are(
    track: Callable[..., Tracker], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = track()
    trial = state("a")
    sweep = sweep_of(tracker, tmp_path / "toy.yaml")
    tracker.claim(trial, sweep)
    flush(tracker)
    with monkeypatch.context() as refusing:
        refusal = RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"})
        refusing.setattr(Store, "put_folder", lambda *_, **__: (_ for _ in ()).throw(refusal))
        finish(tracker, trial, tmp_path)
        flush(tracker)
    tracker.end_sweep(sweep, "FINISHED")
    (problem,) = tracker.close()
    assert f"were refused, as told above, and are set aside in {tmp_path}/outbox 0/refused.jsonl" in problem
    assert (statuses(uri), statuses(uri, "sweep")) == ({"KILLED": 1}, {"FINISHED": 1})
