"""Teachers come before their students, are trials like others, and are never trained twice."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Run
from test_sweep import artifact, project, runs, sweep

from platform.spec import Spec
from trainables.config import TrialConfig

SPEC = """\
name: toy
base:
  {method: asymmetric, teacher: {backbone: wrn10-1, epochs: 2}, protocol: digits, backbone: wrn10-1, epochs: 1,
   batch_size: 64, images_per_class: 60}
search:
  cmi_weight: {float: [0.5, 2.0]}
  lr: {float: [0.01, 0.1]}
trials: 2
confirm: {splits: [1], baselines: [{name: Distilled, set: {method: distill}}, {name: Plain, set: {method: plain}}]}
"""


@pytest.fixture(scope="module")
def swept_twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The same command twice, the second time with nothing but what MLflow has."""
    folder = project(tmp_path_factory.mktemp("teachers"), SPEC)
    said = []
    for _ in range(2):
        process = sweep(folder)
        said.append(process.communicate(timeout=300)[0])
        assert process.returncode == 0, said[-1]
        shutil.rmtree(folder / "results")
    return folder, said[0], said[1]


def trials(folder: Path, phase: str) -> list[Run]:
    return [run for run in runs(folder) if run.data.tags.get("phase") == phase]


def test_one_teacher_serves_all_trials_of_the_same_images(swept_twice: tuple[Path, str, str]) -> None:
    folder, said, _ = swept_twice
    assert "teachers: 2 trials" in said
    teachers = {run.data.params["split"]: run for run in trials(folder, "teacher")}
    assert {split: run.data.params["pseudo_unknown"] for split, run in teachers.items()} == {"0": "2", "1": "0"}
    assert len(trials(folder, "search")) == 4


def test_a_search_over_the_students_settings_leaves_the_teacher_as_it_is(swept_twice: tuple[Path, str, str]) -> None:
    folder, _, _ = swept_twice
    for run in trials(folder, "search"):
        assert run.data.params["teacher.lr"] == "0.1"
        assert run.data.params["lr"] != "0.1"


def test_a_teacher_that_mlflow_knows_is_not_trained_again(swept_twice: tuple[Path, str, str]) -> None:
    folder, _, again = swept_twice
    assert "confirm: 3 trials" in again
    assert "teachers: " not in again
    assert len(trials(folder, "teacher")) == 2


def test_a_teacher_leaves_what_every_trial_leaves(swept_twice: tuple[Path, str, str]) -> None:
    folder, _, _ = swept_twice
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
