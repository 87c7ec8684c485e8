"""What a search leaves in a real MLflow store after interrupts, extensions and repetitions: always its study's results.

Trials are ended by hand, the rest is real: plan, queue, study, tracker and reader.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from platform.files.spec import Spec
from platform.planning.best import best_of, best_settings
from platform.planning.plan import Images, Sweep, make_plan
from platform.planning.results import Results
from platform.planning.search import Study
from platform.running.execute import _conclude, _record, _start, _Store
from platform.running.queue import Queue
from platform.tracking import outbox
from platform.tracking.reader import Reader
from platform.tracking.tracker import Tracker
from trainables.storage.folder import Folder

SEARCH = """\
name: toy
base: {method: plain, protocol: digits, backbone: wrn10-1, epochs: 3, images_per_class: 20}
search: {lr: {float: [0.01, 0.1]}}
trials: 3
confirm: {splits: [0]}
"""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables: making them takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}")
    return file


@dataclass
class Search:
    """A folder in which commands search, one after the other."""

    folder: Path
    uri: str

    def command(
        self, values: Sequence[float], *, text: str = SEARCH, changed: Sequence[str] = (), cut: bool = False
    ) -> Results:
        """Trials of the search end with `values`; with `cut` there is an interrupt when they are used up."""
        content = {**yaml.safe_load(text), **dict(map(yaml_pair, changed))}
        file = self.folder / "toy.yaml"
        file.write_text(text)
        of = Sweep(file, Spec.model_validate(content), "paper", tuple(changed))
        plan = make_plan([of], Images(Path()), lambda path, profile: {})
        tracker = Tracker(self.uri, self.folder / "outbox", lambda said: None)
        assert of.search
        results, study = Results(), Study(of.spec, plan.identity(of.search), self.folder / "studies")
        runs = {of.name: _start(tracker, of, plan.images)}
        store = _Store(tracker, runs, Folder.at(self.folder / "teachers"), fresh=False)
        queue = Queue(plan, store, results, {of.name: study}, lambda needs: 1, lambda said: None)
        queue.known |= tracker.finished()
        queue.fill()
        _record(tracker, runs, plan, results)
        coming = iter(values)
        while job := queue.next():
            trial = job.trial
            tracker.started(trial)
            value = next(coming, None) if trial.phase == "search" else 0.5
            if value is None:
                assert cut
                results.interrupted = True
                for interrupted in queue.interrupt():
                    tracker.ended(interrupted)
                break
            trial.status, trial.epoch = "finished", trial.config.epochs
            scores = [f"test/digits/{score}/{metric}" for score in ("msp", "mls") for metric in ("auroc", "oscr")]
            trial.metrics = (
                {"val/pseudo-unknown/msp/auroc": value} if trial.phase == "search" else dict.fromkeys(scores, value)
            )
            tracker.reported(trial)
            tracker.ended(trial)
            queue.ended(job)
        _conclude(tracker, runs, plan, results, "KILLED" if results.interrupted else "FINISHED")
        assert tracker.close(30) == []
        return results

    @property
    def reader(self) -> Reader:
        found = Reader.open(self.uri)
        assert found is not None
        return found

    def tried(self, changed: str = "") -> list[tuple[float, str]]:
        """From `cells.json` of the newest sweep: of each trial of the search its val/auroc and lr."""
        reader = self.reader
        sweep = next(s for s in reader.sweeps if s.changed == changed)
        ids = [cell["run_id"] for cell in reader.cells(sweep) if cell["phase"] == "search"]
        found = reader.runs(ids)
        return [(found[i][1]["val/pseudo-unknown/msp/auroc"], found[i][0]["lr"]) for i in ids]

    def best(self, changed: str = "") -> dict[str, Any]:
        """As reports read it."""
        return best_settings(next(s for s in self.reader.sweeps if s.changed == changed))

    def best_elsewhere(self) -> dict[str, Any]:
        """As a row of another file takes it."""
        tracker = Tracker(self.uri, self.folder / "another outbox", lambda said: None)
        found = best_of(self.folder / "toy.yaml", "paper", tracker.sweeps)
        tracker.close(30)
        return dict(found)


def yaml_pair(change: str) -> tuple[str, Any]:
    key, _, value = change.partition("=")
    return key, yaml.safe_load(value)


@pytest.fixture
def search(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    monkeypatch.setattr(outbox, "INTERVAL", 0.1)
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    return Search(tmp_path, f"sqlite:///{shutil.copy(empty, tmp_path)}")


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
