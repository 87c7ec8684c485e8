"""What is made of Tune's events: trials ended and kept, and files taken over, without Ray and workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import RestException

from platform import sweep as command
from platform.running import connection, launch
from platform.running.interrupt import Interrupt
from platform.running.queue import Queue
from platform.tracking.claims import ClaimOutcome, Claims
from platform.tracking.errors import TrackingError
from platform.tracking.trials import Listener, TrialState
from tests.helpers.queues import ROWS, SEARCH, filled, metrics, plan
from tests.helpers.sweeps import here, project, runs
from trainables.storage.folder import Folder

FILES = ("config.yaml", "scores.parquet", "weights.pt")


class Ends(Listener):
    """Remembers how each trial ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def ended(self, trial: TrialState) -> None:
        self.seen.append((trial.place.row, trial.status))


class Drive:
    """A run, of two rows where nothing else is said, as Tune drives it, by hand."""

    def __init__(self, folder: Path, *listeners: Listener, store: str = "one", text: str = ROWS) -> None:
        self.ends, self.said = Ends(), list[str]()
        self.queue: Queue = filled(plan(text), folder / store, say=self.said.append)
        site = launch.Site(folder / "data", Folder.at(folder / "results"), store, {})
        self.run = launch.Run(self.queue, (self.ends, *listeners), site, Interrupt(self.said.append), self.said.append)
        self.trials = folder / "results" / "trials" / store

    def start(self, trial_id: str = "t") -> Path:
        """The next trial, which keeps a checkpoint; its folder."""
        job = self.queue.next()
        assert job is not None
        self.run.start(trial_id, job)
        return self._write(job.identity, "checkpoints", ["000005.pt"])

    def report(self, trial_id: str = "t", *, files: Sequence[str] = (), **result: Any) -> bool:
        """Whether it stops here; with `files`, at its last report."""
        job = self.run.jobs[trial_id]
        self._write(job.identity, "files", files)
        found = {"train/loss": 1.0, "val/accuracy": 0.5} | (metrics() if files else {})
        told = {"device": "cpu", "warnings": [], "history": [], "tested": {}, "epoch": 1, "metrics": found}
        return self.run.stops(trial_id, told | {"last": bool(files)} | result)

    def _write(self, identity: str, name: str, files: Sequence[str]) -> Path:
        folder = self.trials / identity
        for file in files:
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_text(name)
        return folder


def test_a_trial_that_has_finished_leaves_no_folder(tmp_path: Path) -> None:
    drive = Drive(tmp_path)
    folder = drive.start()
    assert not drive.report()
    drive.report(files=FILES)
    drive.run.ended("t")
    assert drive.ends.seen == [("Plain", "finished")]
    assert not folder.exists()


class Actor:
    """A worker as Tune has it, which keeps a checkpoint when it is interrupted."""

    def __init__(self) -> None:
        self.trial_id, self.kept = "t", False
        self.interrupt = self.temporary_state = self.ray_actor = self

    def remote(self) -> None:
        self.kept = True


def test_a_refused_claim_ends_the_sweep_once_what_runs_has_kept_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.ray, "wait", lambda asked, **options: None)
    drive = Drive(tmp_path)
    drive.start()

    def refuse(trial: TrialState) -> ClaimOutcome:
        raise TrackingError("MLflow refuses a run: 404")

    monkeypatch.setattr(drive.queue.store, "claim", refuse)
    assert launch._Feed(drive.run).suggest("u") == launch.Searcher.FINISHED
    actor = Actor()
    with pytest.raises(TrackingError, match="refuses a run: 404"):
        launch._Relay(drive.run).on_step_begin(1, [actor])
    assert actor.kept
    assert drive.ends.seen == [("Plain", "interrupted")]


@pytest.mark.parametrize("claim", [1, 2])
def test_a_sweep_that_a_refusal_ended_tells_what_there_is_the_reason_and_how_to_go_on(
    claim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command without Ray: the first trial is refused, or starts, and the second is refused."""
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    contest, asked = Claims.contest, list[str]()

    def refused(self: Claims, opening: dict[str, Any], *arguments: Any) -> Any:
        asked.append(opening["identity"])
        if len(asked) == claim:
            raise RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such page"})
        return contest(self, opening, *arguments)

    def work_off(run: launch.Run, *rest: Any, **options: Any) -> None:
        feed = launch._Feed(run)
        assert isinstance(feed.suggest("t"), dict)
        assert feed.suggest("u") == launch.Searcher.FINISHED
        launch._Relay(run).on_step_begin(1, [])

    monkeypatch.setattr(Claims, "contest", refused)
    monkeypatch.setattr(launch, "work_off", work_off)
    for name in ("connect", "disconnect"):
        monkeypatch.setattr(connection, name, lambda *arguments: None)
    folder = project(tmp_path, ROWS.replace("name: rows", "name: toy"))
    done = here(command.main, folder, "toy.yaml")
    assert done.returncode == 1
    assert "refuses a run: " in done.stderr
    assert "no such page: the sweep ends here, with everything kept that was finished" in done.stderr
    assert "0 trained" in done.stdout
    assert "This goes on from here:" in done.stdout
    assert {run.info.status for run in runs(folder)} == {"KILLED"} or claim == 1


class Full(Listener):
    """Whose disk is full: it raises at what it is told first."""

    def __init__(self, at: str = "reported") -> None:
        setattr(self, at, self._fail)

    def _fail(self, trial: TrialState) -> None:
        raise OSError("No space left on device")


@pytest.mark.parametrize("last", [False, True])
def test_an_error_of_a_listener_leaves_the_trial_that_reported_to_another_command(tmp_path: Path, last: bool) -> None:
    drive = Drive(tmp_path, Full())
    folder = drive.start()
    assert not drive.report(files=FILES if last else ())
    drive.run.ended("t")  # as Tune tells after a last report
    assert drive.ends.seen == []
    drive.run.leave()
    assert drive.ends.seen == [("Plain", "interrupted")]
    assert (folder / "checkpoints" / "000005.pt").is_file()
    with pytest.raises(OSError, match="No space left"):
        drive.run.check()


def test_a_proposal_is_open_in_its_study_after_an_error_of_ours(tmp_path: Path) -> None:
    drive = Drive(tmp_path, Full(), text=SEARCH)
    drive.start()
    drive.report()
    drive.run.ended("t")
    drive.run.leave()
    assert [told.status for told in drive.queue.studies["search"].history()] == ["running"]


def test_an_error_of_a_listener_keeps_no_other_from_hearing_of_an_end(tmp_path: Path) -> None:
    drive = Drive(tmp_path, Full("ended"))
    drive.run.listeners = [*reversed(drive.run.listeners)]
    folder = drive.start()
    drive.report(files=FILES)
    drive.run.ended("t")
    assert drive.ends.seen == [("Plain", "finished")]
    assert drive.queue.results.count("finished") == 1
    assert (folder / "files" / "weights.pt").is_file()  # it may be the tracker that has not got them
    drive.start("u")
    drive.run.leave()
    assert drive.ends.seen == [("Plain", "finished"), ("CutMix", "interrupted")]


@pytest.mark.parametrize("files", [("config.yaml",), ("config.yaml", "scores.parquet")])
def test_a_finished_trial_whose_files_are_not_here_is_tried_again_and_not_finished(
    tmp_path: Path, files: Sequence[str]
) -> None:
    """As where each node has a `--storage` of its own: the worker's files are on another disk."""
    drive = Drive(tmp_path)
    folder = drive.start()
    drive.report(files=files)
    drive.run.ended("t")
    assert drive.ends.seen == []
    (said,) = drive.said
    assert "weights.pt is not in " in said
    assert "give a --storage that all nodes and this process share; attempt 2 of 3 follows" in said
    assert (folder / "checkpoints" / "000005.pt").is_file()
    assert drive.run.problem is None


def test_a_finished_trial_of_which_nothing_is_here_is_not_finished(tmp_path: Path) -> None:
    drive = Drive(tmp_path)
    drive.start()
    drive.report(last=True)
    drive.run.ended("t")
    assert drive.ends.seen == []
    assert "config.yaml and weights.pt are not in " in drive.said[0]


def test_drivers_of_two_stores_leave_each_others_checkpoints_alone(tmp_path: Path) -> None:
    one, other = Drive(tmp_path, store="one"), Drive(tmp_path, store="other")
    folder, theirs = one.start(), other.start()
    assert folder.name == theirs.name
    one.report(files=FILES)
    one.run.ended("t")
    assert not folder.exists()
    assert (theirs / "checkpoints" / "000005.pt").is_file()
