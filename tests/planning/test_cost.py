"""What a plan will take, told before it starts."""

import re
from pathlib import Path

import pytest
import torch

from platform.files import search_file
from platform.planning import cost
from platform.planning.plan import ImageSets, Sweep, make_plan
from platform.planning.work import Estimate, work
from platform.sweep import main
from tests.helpers.disks import small_disk
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig

TABLE = """\
name: toy
base: {protocol: digits, backbone: wrn10-1, epochs: 1, images_per_class: 20, batch_size: 16}
rows:
  - {name: Plain, set: {method: plain}}
  - {name: MixUp, set: {method: mixup}}
  - {name: CutMix, set: {method: cutmix}}
"""


@pytest.mark.parametrize(("patience", "timed"), [(1000.0, 3), (0.0, 1)])
def test_kinds_of_trials_are_timed_as_long_as_patience_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float, timed: int
) -> None:
    (tmp_path / "toy.yaml").write_text(TABLE)
    spec = search_file.load(tmp_path / "toy.yaml").profile("paper")
    plan = make_plan([Sweep(tmp_path / "toy.yaml", spec, "paper", ())], ImageSets(tmp_path), lambda path, profile: {})
    measured: list[str] = []
    real = cost.measure

    def noticed(config: TrialConfig, *rest: object) -> cost.Cost:
        measured.append(config.method)
        return real(config, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cost, "PATIENCE", patience)
    monkeypatch.setattr(cost, "measure", noticed)
    guess = cost.estimate(plan, work(plan, {}, {}), [], 1, here=True)
    assert isinstance(guess, Estimate)
    assert guess.seconds > cost.STARTUP_SECONDS
    assert len(measured) == timed
    assert ("for 1 of 3 kinds of trials" in guess.source) == (timed == 1)


OWN = """\
from dataclasses import dataclass
from trainables.objectives.base import Objective
from trainables.settings.base import ObjectiveSettings

@dataclass(frozen=True)
class Mine(ObjectiveSettings):
    pass

class Broken(Objective):
    settings: Mine

    def loss(self, model, ids_B):
        return self.given.no_such_thing
"""


def _estimate(folder: Path, changes: str) -> Estimate | str:
    (folder / "toy.yaml").write_text(TABLE.replace("{method: plain}", changes))
    spec = search_file.load(folder / "toy.yaml").profile("paper")
    plan = make_plan([Sweep(folder / "toy.yaml", spec, "paper", ())], ImageSets(folder), lambda path, profile: {})
    return cost.estimate(plan, work(plan, {}, {}), [], 1, here=True)


def test_a_method_of_ones_own_that_fails_in_its_first_step_is_named_by_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_method.py").write_text(OWN)
    with pytest.raises(ConfigError) as caught:
        _estimate(tmp_path, "{objective: 'broken_method:Broken'}")
    line = OWN.splitlines().index("        return self.given.no_such_thing") + 1
    said = f"{tmp_path}/broken_method.py:{line}: broken_method:Broken fails in its first step: AttributeError: "
    assert str(caught.value).startswith(said)


def test_an_estimate_that_fails_otherwise_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it.")

    monkeypatch.setattr(cost, "Trainer", full)  # no machine of the tests is that small
    said = "could not be timed here (plain, wrn10-1): OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."
    assert _estimate(tmp_path, "{method: plain}") == said


@pytest.mark.parametrize(("size", "told"), [("256k", True), ("64m", False)])
def test_a_plan_that_needs_more_room_than_the_stores_disk_has_says_so(
    size: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "small", size) as disk:
        (disk / "toy.yaml").write_text(
            "{name: toy, base: {protocol: digits, backbone: wrn10-1, epochs: 1, images_per_class: 20}, "
            "rows: [{name: Plain, set: {method: plain}}]}"
        )
        monkeypatch.chdir(disk)
        assert main(["toy.yaml", "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert list(disk.iterdir()) == [disk / "toy.yaml"]
    warning = r"The disk of sqlite:///mlflow.db has 0\.\d MB left, less than the 0\.\d MB needed"
    assert bool(re.search(warning, said)) == told, said
