"""Teachers come before their students, are trials like others, and are never trained twice."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow.entities import Run

from platform import report
from platform.files.spec import Spec
from platform.files.trial_settings import with_teacher
from tests.helpers.sweeps import artifact, here, project, runs, sweep
from trainables.settings.resolving import resolve

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
figures: [teacher]
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
    folder, _ = swept
    teachers = {run.data.params["split"]: run for run in trials(folder, "teacher")}
    assert {split: run.data.params["pseudo_unknown"] for split, run in teachers.items()} == {"0": "2", "1": "0"}
    assert len(trials(folder, "teacher")) == 2
    assert len(trials(folder, "search")) == 1


def test_the_report_draws_what_the_teacher_makes_of_mixed_images(swept: tuple[Path, str]) -> None:
    done = here(report.main, swept[0], "toy.yaml", "--format", "html")
    assert done.returncode == 0, done.stderr
    drawn = pd.read_parquet(swept[0] / "reports" / "toy" / "teacher.parquet")
    assert drawn["share"].tolist() == [round(0.1 * n, 1) for n in range(1, 10)]
    assert drawn[["error", "overconfident"]].stack().between(0, 1).all()


def test_a_student_starts_once_its_teacher_has_ended(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    (teacher,) = (run for run in trials(folder, "teacher") if run.data.params["split"] == "0")
    (student,) = trials(folder, "search")
    assert teacher.info.end_time <= student.info.start_time


def test_a_search_over_the_students_settings_leaves_the_teacher_as_it_is(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    for run in trials(folder, "search"):
        assert run.data.params["teacher.lr"] == "0.1"
        assert run.data.params["lr"] != "0.1"


def test_a_teacher_leaves_what_every_trial_leaves(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    for run in trials(folder, "teacher"):
        assert run.info.status == "FINISHED"
        for name in ("config.yaml", "scores.parquet", "weights.pt"):
            assert artifact(run, name).is_file()


@pytest.mark.slow
def test_a_teacher_that_mlflow_knows_is_not_trained_again(swept: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = swept
    base, _, _ = SPEC.partition("search:")
    (folder / "toy.yaml").write_text(base + "splits: [1]\nrows: [{name: Longer, set: {method: distill, epochs: 2}}]\n")
    process = sweep(folder, "--storage", str(tmp_path / "elsewhere"))
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert re.search(r"to train .* 1 trials", said)
    assert re.search(r"1 teachers beside them", said)
    assert len(list((tmp_path / "elsewhere/teachers").glob("*.pt"))) == 1
    assert len(trials(folder, "teacher")) == 2


@pytest.mark.slow
def test_students_of_a_failed_teacher_are_left_out(tmp_path: Path) -> None:
    diverging = SPEC.replace("epochs: 2}", "epochs: 2, lr: 1.0e+30}").partition("confirm:")[0]
    folder = project(tmp_path, diverging)
    process = sweep(folder)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 1
    assert re.search(r"teacher wrn10-1 of the search failed.*the loss is", said)
    assert re.search(r"1 failed, 1 left out", said)
    assert [run.info.status for run in trials(folder, "teacher")] == ["FAILED"]
    assert trials(folder, "search") == []


def test_a_row_changes_of_a_teacher_what_it_names() -> None:
    spec = Spec.model_validate(yaml.safe_load(SPEC))
    settings = with_teacher(spec, {"teacher": {"backbone": "wrn16-1"}, "lr": 0.01})
    teacher = resolve(settings).teacher
    assert teacher is not None
    assert (teacher.backbone, teacher.epochs, teacher.lr) == ("wrn16-1", 2, 0.1)
