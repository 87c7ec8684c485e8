"""Studies: what is proposed, what is remembered, what is stopped early, and what is best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from platform.search import Proposal, Study
from platform.spec import Spec

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
    from trainables.yaml_file import ConfigError

    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"optuna\.storage .*file/optuna\.log"):
        Study(spec(optuna={"storage": f"{tmp_path}/file/optuna.log"}), "images", tmp_path)
