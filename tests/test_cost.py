"""What a plan will take, told before it starts."""

from pathlib import Path

import pytest

from platform import cost, search_file
from platform.plan import Images, Sweep, make_plan
from trainables.config import TrialConfig

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
    plan = make_plan([Sweep(tmp_path / "toy.yaml", spec, "paper", ())], Images(tmp_path), lambda path, profile: {})
    measured: list[str] = []
    real = cost.measure

    def noticed(config: TrialConfig, *rest: object) -> cost.Cost:
        measured.append(config.method)
        return real(config, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cost, "PATIENCE", patience)
    monkeypatch.setattr(cost, "measure", noticed)
    guess = cost.estimate(plan, cost.work(plan, {}, {}), [], 1, here=True)
    assert guess is not None
    assert guess.seconds > cost.STARTUP_SECONDS
    assert len(measured) == timed
    assert ("for 1 of 3 kinds of trials" in guess.source) == (timed == 1)
