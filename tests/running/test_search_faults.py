"""A search whose process is killed goes on with what it had proposed, whatever it was in the midst of."""

import os
import re
import signal
from collections import Counter
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from platform.files.spec import Spec
from platform.planning.search import Study
from tests.helpers.faults import trials, under, until, wait_until_gone
from tests.helpers.sweeps import project, sweep


def proposals(folder: Path) -> list[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(folder / "results/studies/toy.log")))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


@pytest.mark.slow
def test_a_search_goes_on_with_what_it_had_proposed(tmp_path: Path) -> None:
    search = """\
name: toy
base: {method: backmix, protocol: digits, backbone: wrn10-1, epochs: 2, batch_size: 16, images_per_class: 60}
search: {mask_ratio: {float: [0.0, 1.0]}, cut_size: {float: [0.04, 0.4]}}
resources: {cpus_per_worker: 1}
trials: 6
"""
    folder = project(tmp_path, search)
    process = sweep(folder)
    until(process, "search 3 epoch 1/2")
    children = under(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_gone(children)
    before = {trial.number: trial for trial in proposals(folder)}
    assert TrialState.RUNNING in {trial.state for trial in before.values()}
    for wanted in (6, 8):
        (folder / "toy.yaml").write_text(search.replace("trials: 6", f"trials: {wanted}"))
        process = sweep(folder)
        said = process.communicate(timeout=600)[0]
        assert process.returncode == 0, said
        after = {trial.number: trial for trial in proposals(folder)}
        assert {trial.state for trial in after.values()} == {TrialState.COMPLETE}
        assert len(after) == wanted
        assert {number: after[number].params for number in before} == {n: t.params for n, t in before.items()}
        done = [number for number, trial in before.items() if trial.state is TrialState.COMPLETE]
        assert not {f"search {number + 1}" for number in done} & set(re.findall(r"^(search \d+) started", said, re.M))
        before = after
    assert len(re.findall(r"^search \d+ started", said, re.MULTILINE)) == 2
    assert Counter(run.data.tags["identity"] for run in trials(folder)).most_common(1)[0][1] == 1
    assert {run.info.status for run in trials(folder)} == {"FINISHED"}


SEARCH = """\
name: toy
base: {method: backmix, protocol: digits, backbone: wrn10-1}
search: {mask_ratio: {float: [0.0, 1.0]}, cut_size: {float: [0.04, 0.4]}}
trials: 6
"""


def study(folder: Path, text: str = SEARCH) -> Study:
    return Study(Spec.model_validate(yaml.safe_load(text)), "context", folder)


def test_a_proposal_is_completed_whose_driver_was_killed_while_it_was_made(tmp_path: Path) -> None:
    killed = study(tmp_path)
    killed._study.ask().suggest_float("mask_ratio", 0.0, 1.0)
    (proposal,) = study(tmp_path).unfinished()
    (again,) = study(tmp_path).unfinished()
    assert proposal.settings.keys() == {"mask_ratio", "cut_size"}
    assert again == proposal


@pytest.mark.parametrize("lost", [1, 3, 60], ids=lambda lost: f"{lost} bytes")
def test_a_study_whose_last_line_is_torn_goes_on(lost: int, tmp_path: Path) -> None:
    for number in range(2):
        study(tmp_path).ask()
        study(tmp_path).tell(number, "finished", {"val/auroc": 0.5})
    journal = tmp_path / "toy.log"
    journal.write_bytes(journal.read_bytes()[:-lost])
    assert [told.proposal.number for told in study(tmp_path).history()] == [0, 1]
    (proposal,) = study(tmp_path).unfinished()  # whose end it was
    study(tmp_path).tell(proposal.number, "finished", {"val/auroc": 0.5})
    assert study(tmp_path).left == 4


def test_a_lock_that_a_killed_process_left_on_a_study_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(JournalFileSymlinkLock.__init__, "__defaults__", (3,))  # seconds, not half a minute
    text = SEARCH + "optuna: {storage: studies/toy.log}\n"
    study(tmp_path, text).ask()
    killed = JournalFileSymlinkLock(str(Path("studies/toy.log").absolute()))
    killed.acquire()
    assert len(study(tmp_path, text).unfinished()) == 1
