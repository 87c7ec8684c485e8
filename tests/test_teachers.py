"""Teachers come before their students, are trials like others, and are never trained twice."""

import re
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Run
from test_sweep import artifact, project, runs, sweep

from platform import search_file, teachers
from platform.plan import make_plan
from platform.spec import Spec
from platform.tracking import Tracker
from trainables.config import TrialConfig

SPEC = """\
name: toy
base:
  {method: asymmetric, teacher: {backbone: wrn10-1, epochs: 2}, protocol: digits, backbone: wrn10-1, epochs: 1,
   batch_size: 64, images_per_class: 60}
search:
  cmi_weight: {float: [0.5, 2.0]}
  lr: {float: [0.01, 0.1]}
trials: 1
confirm: {splits: [1], baselines: [{name: Distilled, set: {method: distill}}]}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = project(tmp_path_factory.mktemp("teachers"), SPEC)
    process = sweep(folder)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return folder, said


def trials(folder: Path, phase: str) -> list[Run]:
    return [run for run in runs(folder) if run.data.tags.get("phase") == phase]


def test_one_teacher_serves_all_trials_of_the_same_images(swept: tuple[Path, str]) -> None:
    folder, said = swept
    assert "teachers: 2 trials" in said
    teachers = {run.data.params["split"]: run for run in trials(folder, "teacher")}
    assert {split: run.data.params["pseudo_unknown"] for split, run in teachers.items()} == {"0": "2", "1": "0"}
    assert len(trials(folder, "search")) == 1


def test_a_search_over_the_students_settings_leaves_the_teacher_as_it_is(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    for run in trials(folder, "search"):
        assert run.data.params["teacher.lr"] == "0.1"
        assert run.data.params["lr"] != "0.1"


def test_a_teacher_that_mlflow_knows_is_not_trained_again(swept: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = swept
    spec = search_file.load(folder / "toy.yaml").profile("paper", [])
    plan = make_plan(spec, "paper", tmp_path)
    another = Tracker(f"sqlite:///{folder}/mlflow.db", "another sweep", spec.objective.metric)
    assert len(plan.teachers) == 2
    assert teachers.missing(plan, another, tmp_path / "teachers") == []
    assert len(list((tmp_path / "teachers").glob("*.pt"))) == 2
    unknown = make_plan(
        search_file.load(folder / "toy.yaml").profile("paper", ["weight_decay=1e-3"]), "paper", tmp_path
    )
    assert len(teachers.missing(unknown, another, tmp_path / "teachers")) == 2


def test_a_teacher_leaves_what_every_trial_leaves(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    for run in trials(folder, "teacher"):
        assert run.info.status == "FINISHED"
        for name in ("config.yaml", "scores.parquet", "weights.pt"):
            assert artifact(run, name).is_file()


def test_students_of_a_failed_teacher_are_left_out(tmp_path: Path) -> None:
    diverging = SPEC.replace("epochs: 2}", "epochs: 2, lr: 1.0e+30}").replace("confirm:", "confirm_not:")
    folder = project(tmp_path, diverging[: diverging.index("confirm_not:")])
    process = sweep(folder)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 1
    assert re.search(r"teacher wrn10-1 of the search failed.*the loss is", said)
    assert "the search is left out: its teacher failed" in said
    assert [run.info.status for run in trials(folder, "teacher")] == ["FAILED"]
    assert trials(folder, "search") == []


def test_a_row_changes_of_a_teacher_what_it_names() -> None:
    spec = Spec.model_validate(yaml.safe_load(SPEC))
    settings = spec.with_teacher({"teacher": {"backbone": "wrn16-1"}, "lr": 0.01})
    teacher = TrialConfig.from_settings(settings).teacher
    assert teacher is not None
    assert (teacher.backbone, teacher.epochs, teacher.lr) == ("wrn16-1", 2, 0.1)
