"""`runs stop`: one trial of a running sweep ends with a checkpoint, and the others go on."""

from pathlib import Path

import pytest

from platform import runs as command
from tests.helpers.faults import trials, until
from tests.helpers.sweeps import here, project, sweep

SPEC = """\
name: toy
base: {protocol: digits, backbone: wrn10-1, images_per_class: 60}
resources: {cpus_per_worker: 1}
rows:
  - {name: Long, set: {method: plain, epochs: 2000}}
  - {name: Short, set: {method: cutmix, epochs: 1}}
"""


def test_a_trial_that_is_asked_to_end_keeps_a_checkpoint_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    folder = project(tmp_path, SPEC)
    process = sweep(folder, "--tensorboard", "curves")
    until(process, r"Long, .* started")
    asked = here(command.main, folder, "stop", "Long")
    assert asked.returncode == 0, asked.stderr
    assert f"asked process {process.pid} on " in asked.stdout
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert "Long, split 0, seed 0 ends, as `runs stop` asks" in said
    assert "1 trials were ended by `runs stop`: the same command goes on with them." in said
    ended = {run.data.tags["row"]: run for run in trials(folder)}
    assert {row: run.info.status for row, run in ended.items()} == {"Long": "KILLED", "Short": "FINISHED"}
    identity = ended["Long"].data.tags["identity"]
    assert list((folder / "results" / "trials").glob(f"*/{identity}/checkpoints/*"))
    drawn = {file.parent.name for file in (folder / "curves" / "toy").rglob("*tfevents*")}
    assert {name[: name.index("-")] for name in drawn} >= {"Short split 0 seed 0"}
    again = here(command.main, folder, "stop", "Long")
    assert again.returncode == 2
    assert "Long is interrupted: only a trial that is running can be ended" in again.stderr
