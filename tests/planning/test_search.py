"""Studies: what is proposed, what is remembered, what is stopped early, and what is best."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from platform.files.spec import Spec
from platform.planning.search import Proposal, Study
from trainables.reading.yaml_file import ConfigError

BASE = {"method": "cutmix", "protocol": "digits", "backbone": "wrn10-1", "epochs": 8}


def spec(search: str = "{lr: {float: [0.01, 0.1]}, momentum: {float: [0.5, 0.9]}}", **more: Any) -> Spec:
    content = {"name": "toy", "base": BASE, "search": yaml.safe_load(search), "trials": 6}
    return Spec.model_validate({**content, **more})


def run(study: Study, value: float = 0.5) -> list[Proposal]:
    """Every proposal, told `value` in each objective."""
    made = []
    while proposal := study.ask():
        made.append(proposal)
        study.tell(proposal.number, "finished", {o.metric: value for o in study.spec.objectives})
    return made


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp", "nsga2"])
def test_every_sampler_proposes_within_the_ranges(sampler: str, tmp_path: Path) -> None:
    study = Study(spec(optuna={"sampler": sampler}), "images", tmp_path)
    made = run(study)
    assert len(made) == 6
    assert all(0.01 <= p.settings["lr"] <= 0.1 and 0.5 <= p.settings["momentum"] <= 0.9 for p in made)


def test_a_condition_decides_whether_a_setting_is_proposed(tmp_path: Path) -> None:
    search = """
      optimizer: {choice: [sgd, adam]}
      momentum: {float: [0.5, 0.9], when: {optimizer: sgd}}
    """
    made = run(Study(spec(search, trials=12), "images", tmp_path))
    assert {p.settings["optimizer"] for p in made} == {"sgd", "adam"}
    assert all(("momentum" in p.settings) == (p.settings["optimizer"] == "sgd") for p in made)


def test_steps_and_logarithms_are_kept(tmp_path: Path) -> None:
    search = "{batch_size: {int: [16, 64], step: 16}, lr: {float: [0.001, 0.1], log: true}}"
    made = run(Study(spec(search, trials=10), "images", tmp_path))
    assert {p.settings["batch_size"] for p in made} <= {16, 32, 48, 64}


def test_a_study_that_goes_on_proposes_nothing_twice(tmp_path: Path) -> None:
    first = run(Study(spec(), "images", tmp_path))
    more = run(Study(spec(trials=9), "images", tmp_path))
    assert len(more) == 3
    assert not {p.settings["lr"] for p in first} & {p.settings["lr"] for p in more}


def ask_all(folder: Path, of: Spec) -> None:
    while Study(of, "images", folder).ask():
        pass


def test_processes_that_share_a_search_make_as_many_proposals_as_it_wants(tmp_path: Path) -> None:
    of = spec(trials=7)
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=ask_all, args=(tmp_path, of)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    there = Study(of, "images", tmp_path)
    assert len(list(there.history())) == 7
    assert len({p.settings["lr"] for p in there.unfinished()}) == 7


def test_of_two_that_ask_for_the_last_proposal_at_once_one_withdraws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(spec(), "images", tmp_path)
    run(study)
    monkeypatch.setattr(Study, "left", 1)  # as it was before the other one's proposal
    assert study.ask() is None
    assert [told.status for told in study.history()] == ["finished"] * 6


def test_a_failed_proposal_is_not_replaced_for_ever_by_the_one_that_it_failed_in(tmp_path: Path) -> None:
    study = Study(spec(), "images", tmp_path)
    made = 0
    while proposal := study.ask():
        study.tell(proposal.number, "failed", {})
        made += 1
    assert made == 6


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp", "nsga2"])
def test_a_search_that_was_interrupted_proposes_what_it_would_have(sampler: str, tmp_path: Path) -> None:
    of = spec(optuna={"sampler": sampler}, trials=8)

    def proposals(folder: Path, *, interrupted: bool) -> list[Proposal]:
        made = []
        study = Study(of, "images", folder)
        while proposal := study.ask():
            if interrupted:
                study = Study(of, "images", folder)
                (proposal,) = study.unfinished()
            made.append(proposal)
            study.tell(proposal.number, "finished", {"val/auroc": proposal.settings["lr"]})
        return made

    assert proposals(tmp_path / "cut", interrupted=True) == proposals(tmp_path / "whole", interrupted=False)


def test_random_proposals_do_not_depend_on_what_has_ended(tmp_path: Path) -> None:
    of = spec(optuna={"sampler": "random"})
    one_by_one, together = Study(of, "images", tmp_path / "one"), Study(of, "images", tmp_path / "other")
    assert run(one_by_one) == [together.ask() for _ in range(6)]


def test_a_searched_number_is_the_one_that_a_file_writes(tmp_path: Path) -> None:
    of = spec("{cut_size: {float: [0.1, 0.9], step: 0.2}}", trials=30, optuna={"sampler": "random"})
    study = Study(of, "images", tmp_path)
    assert {p.settings["cut_size"] for p in run(study)} == {0.1, 0.3, 0.5, 0.7, 0.9}
    assert {told.proposal.settings["cut_size"] for told in study.history()} == {0.1, 0.3, 0.5, 0.7, 0.9}
    assert {p.settings["cut_size"] for p in study.best(5)} == {0.1, 0.3, 0.5, 0.7, 0.9}


def test_a_condition_on_a_stepped_number_holds_for_the_number_as_written(tmp_path: Path) -> None:
    search = """
      momentum: {float: [0.1, 0.7], step: 0.6}
      lr: {float: [0.01, 0.1], when: {momentum: 0.7}}
    """
    made = run(Study(spec(search, trials=12, optuna={"sampler": "random"}), "images", tmp_path))
    assert {("lr" in p.settings, p.settings["momentum"]) for p in made} == {(True, 0.7), (False, 0.1)}


def test_other_images_or_fixed_settings_are_another_study(tmp_path: Path) -> None:
    run(Study(spec(), "images", tmp_path))
    there = Study.there(spec(), "images", tmp_path)
    assert there is not None
    assert len(list(there.history())) == 6
    assert Study.there(spec(), "other images", tmp_path) is None


def test_asking_what_is_there_creates_nothing(tmp_path: Path) -> None:
    assert Study.there(spec(), "images", tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_search_forgets(tmp_path: Path) -> None:
    first = run(Study(spec(), "images", tmp_path))
    again = run(Study(spec(), "images", tmp_path, fresh=True))
    assert [p.settings for p in again] == [p.settings for p in first]


def test_a_failed_proposal_is_replaced_by_the_next_process_not_by_this_one(tmp_path: Path) -> None:
    study = Study(spec(trials=2), "images", tmp_path)
    for status in ("failed", "finished"):
        proposal = study.ask()
        assert proposal is not None
        study.tell(proposal.number, status, {"val/auroc": 0.5})
    assert study.ask() is None
    assert len(run(Study(spec(trials=2), "images", tmp_path))) == 1


@pytest.mark.parametrize(
    "scheduler",
    [{"asha": {"grace_epochs": 1, "reduction_factor": 2}}, {"median": {"grace_epochs": 1, "startup_trials": 1}}],
)
def test_a_scheduler_stops_what_is_behind_also_after_a_restart(scheduler: dict[str, Any], tmp_path: Path) -> None:
    of = spec(scheduler=scheduler)
    study = Study(of, "images", tmp_path)
    good = study.ask()
    assert good is not None
    assert [study.stops(good.number, epoch, {"val/auroc": 0.9}) for epoch in range(1, 4)] == [False] * 3
    study.tell(good.number, "finished", {"val/auroc": 0.9})
    later = Study(of, "images", tmp_path)
    bad = later.ask()
    assert bad is not None
    stops = [later.stops(bad.number, epoch, {"val/auroc": 0.1}) for epoch in range(1, 4)]
    assert any(stops)
    later.tell(bad.number, "stopped", {"val/auroc": 0.1})
    assert [told.status for told in later.history()] == ["finished", "stopped"]


def test_the_best_is_by_the_objective_and_its_mode(tmp_path: Path) -> None:
    study = Study(spec(objective={"metric": "val/accuracy", "mode": "min"}), "images", tmp_path)
    for value in (0.5, 0.2, 0.7):
        proposal = study.ask()
        assert proposal is not None
        study.tell(proposal.number, "finished", {"val/accuracy": value})
    assert [p.number for p in study.best(2)] == [1, 0]


def test_with_several_objectives_the_best_are_the_pareto_front(tmp_path: Path) -> None:
    objectives = [{"metric": "val/auroc"}, {"metric": "val/accuracy"}]
    study = Study(spec(objective=objectives, optuna={"sampler": "nsga2"}), "images", tmp_path)
    for auroc, accuracy in ((0.5, 0.9), (0.8, 0.6), (0.4, 0.5), (0.7, 0.7)):
        proposal = study.ask()
        assert proposal is not None
        study.tell(proposal.number, "finished", {"val/auroc": auroc, "val/accuracy": accuracy})
    assert [p.number for p in study.best(10)] == [1, 3, 0]


@pytest.mark.parametrize("place", ["sqlite:///{}/optuna.db", "{}/optuna.log"])
def test_a_study_is_where_the_file_says_for_others_to_open(place: str, tmp_path: Path) -> None:
    study = Study(spec(optuna={"storage": place.format(tmp_path)}), "images", tmp_path / "unused")
    run(study)
    backend = optuna.storages.journal.JournalFileBackend(f"{tmp_path}/optuna.log")
    where = place.format(tmp_path) if "://" in place else optuna.storages.JournalStorage(backend)
    (name,) = optuna.get_all_study_names(where)
    assert name.startswith("toy-")
    assert len(optuna.load_study(study_name=name, storage=where).trials) == 6
    assert not (tmp_path / "unused").exists()


def test_a_storage_that_cannot_be_opened_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"optuna\.storage .*file/optuna\.log"):
        Study(spec(optuna={"storage": f"{tmp_path}/file/optuna.log"}), "images", tmp_path)


FOREIGN = {
    "notes.txt": b"two lines\nof which the last one does not end",
    "empty.db": b"SQLite format 3\x00" + bytes(84),
    "cells.json": b'{"cells": []}',
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("opens", [Study, Study.there])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(name: str, opens: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FOREIGN[name])
    with pytest.raises(ConfigError, match=f"{name}: is no journal of Optuna's, and is left as it is"):
        opens(spec(optuna={"storage": f"{tmp_path}/{name}"}), "images", tmp_path)
    assert (tmp_path / name).read_bytes() == FOREIGN[name]
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("opens", [Study, Study.there])
def test_a_database_of_something_else_is_refused_and_left_as_it_is(opens: Any, tmp_path: Path) -> None:
    place = tmp_path / "mlflow.db"
    with sqlite3.connect(place) as database:
        database.execute("create table experiments (name text)")
    before = place.read_bytes()
    with pytest.raises(ConfigError, match="is the database of something else"):
        opens(spec(optuna={"storage": f"sqlite:///{place}"}), "images", tmp_path)
    assert place.read_bytes() == before


@pytest.mark.parametrize("place", ["sqlite:///{}/optuna.db", "{}/optuna.log"])
def test_a_study_that_is_looked_at_is_not_written(place: str, tmp_path: Path) -> None:
    of = spec(optuna={"storage": place.format(tmp_path)})
    assert Study.there(of, "images", tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    run(Study(of, "images", tmp_path))
    (file,) = tmp_path.iterdir()
    if file.suffix == ".log":
        file.write_bytes(file.read_bytes() + b'{"op_code":4')  # a line that is being written, or was torn
    before = file.read_bytes()
    there = Study.there(of, "images", tmp_path)
    assert there is not None
    assert [told.status for told in there.history()] == ["finished"] * 6
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (before, [file])
