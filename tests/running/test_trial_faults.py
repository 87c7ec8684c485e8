"""Faults inside a trial, for real: what fails does so alone and is told in a line, what may pass is tried again."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run

from tests.helpers.sweeps import artifact, project, runs, sweep

pytestmark = pytest.mark.slow

LEARNERS = '''\
"""Plain, with faults. What has happened once is remembered in files beside this one."""

import errno
import os
import signal
from pathlib import Path

import ray
import torch

from trainables.objectives import cross_entropy

HERE = Path(__file__).resolve().parent


def first(what: str) -> bool:
    """Whether a worker asks for the first time; the driver, which times a few steps, is let alone."""
    if not ray.is_initialized():
        return False
    known = (HERE / what).exists()
    (HERE / what).touch()
    return not known


class Raises(cross_entropy.CrossEntropy):
    def loss(self, model, ids_B):
        if ray.is_initialized() and not (HERE / "mended").exists():  # what fails here too is refused by the plan
            raise LookupError("a mistake of one's own")
        return super().loss(model, ids_B)


class OutOfMemory(cross_entropy.CrossEntropy):
    def loss(self, model, ids_B):
        if first("memory"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return super().loss(model, ids_B)


class DiskFull(cross_entropy.CrossEntropy):
    def loss(self, model, ids_B):
        if first("disk"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().loss(model, ids_B)


class Killed(cross_entropy.CrossEntropy):
    """Its process gets SIGKILL in the second epoch of five steps each."""

    steps = 0

    def loss(self, model, ids_B):
        self.steps += 1
        if self.steps == 8 and first("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, ids_B)
'''
SPEC = """\
name: toy
base: {protocol: digits, backbone: wrn10-1, epochs: 3, batch_size: 64, images_per_class: 60}
resources: {cpus_per_worker: 1}
rows:
  - {name: Raises, set: {objective: "faulty:Raises"}}
  - {name: Diverges, set: {method: plain, lr: 1.0e+30}}
  - {name: Out of memory, set: {objective: "faulty:OutOfMemory"}}
  - {name: Disk full, set: {objective: "faulty:DiskFull"}}
  - {name: Killed, set: {objective: "faulty:Killed"}}
  - {name: Plain, set: {method: plain}}
"""


@dataclass
class Swept:
    folder: Path
    code: int
    said: str
    runs: dict[str, Run]  # by row

    @classmethod
    def after(cls, folder: Path, *arguments: str) -> "Swept":
        process = sweep(folder, *arguments)
        said = process.communicate(timeout=300)[0]
        assert process.returncode in (0, 1), said
        active = [run for run in runs(folder) if run.info.lifecycle_stage == "active"]
        trials = [run for run in active if run.data.tags["kind"] == "trial"]
        found = {run.data.tags["row"]: run for run in trials}
        assert len(found) == len(trials), said
        return cls(folder, process.returncode, said, found)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = project(tmp_path_factory.mktemp("faulty"), SPEC)
    (folder / "faulty.py").write_text(LEARNERS)
    return Swept.after(folder)


def numbers(run: Run) -> dict[str, float]:
    return {name: value for name, value in run.data.metrics.items() if "second" not in name}


def test_what_fails_does_not_end_the_others_and_the_exit_code_tells(faulty: Swept) -> None:
    assert faulty.code == 1, faulty.said
    assert {row: run.info.status for row, run in faulty.runs.items()} == {
        "Raises": "FAILED",
        "Diverges": "FAILED",
        "Out of memory": "FINISHED",
        "Disk full": "FINISHED",
        "Killed": "FINISHED",
        "Plain": "FINISHED",
    }
    assert re.search(r"6 trials in .* 4 trained, 2 failed", faulty.said)


@pytest.mark.parametrize(
    ("row", "error", "where"),
    [
        ("Raises", "LookupError: a mistake of one's own", "faulty.py"),
        ("Diverges", "FloatingPointError: the loss is nan: try a lower lr than 1e+30", "training/loop.py"),
    ],
)
def test_a_failed_trial_has_its_own_traceback_and_readable_lines(
    row: str, error: str, where: str, faulty: Swept
) -> None:
    first, last = (line for line in faulty.said.splitlines() if error in line)
    assert first == f"{row}, split 0, seed 0 failed: {error}"
    assert last == f"  {error}"  # the end of the sweep tells the traceback, what went wrong first
    assert "Traceback" not in faulty.said
    traceback = artifact(faulty.runs[row], "traceback.txt").read_text()
    assert traceback.startswith("Traceback")
    assert where in traceback
    assert traceback.strip().endswith(error)


@pytest.mark.parametrize("row", ["Out of memory", "Disk full", "Killed"])
def test_what_may_pass_is_tried_again_and_ends_as_if_nothing_had_happened(row: str, faulty: Swept) -> None:
    assert re.search(rf"^{row}, split 0, seed 0: .*; attempt 2 of 3 follows$", faulty.said, re.MULTILINE)
    assert faulty.runs[row].data.tags["attempts"] == "2"
    assert numbers(faulty.runs[row]) == numbers(faulty.runs["Plain"])


def test_the_same_command_tries_again_what_failed_and_nothing_else(faulty: Swept) -> None:
    (faulty.folder / "mended").touch()
    again = Swept.after(faulty.folder)
    assert again.code == 1, again.said
    assert re.findall(r"^(.*), split 0, seed 0 started", again.said, re.MULTILINE) == ["Raises", "Diverges"]
    assert again.runs["Raises"].info.run_id == faulty.runs["Raises"].info.run_id
    assert again.runs["Raises"].info.status == "FINISHED"
    assert numbers(again.runs["Raises"]) == numbers(again.runs["Plain"])
    assert again.runs["Diverges"].info.status == "FAILED"
    assert re.search(r"6 trials in .* 1 trained, 4 cached, 1 failed", again.said)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the files of one small trial, but not for its checkpoints."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=576k", "tmpfs", str(place)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("mounting a small file system takes rights that this user lacks")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_costs_checkpoints_first_and_then_the_trials_whose_files_do_not_fit(
    tiny: Path, tmp_path: Path
) -> None:
    taught = "{name: Taught, set: {method: distill, teacher: {epochs: 1}}}"
    rows = f"rows: [{{name: Large, set: {{backbone: wrn16-2}}}}, {{name: Small, set: {{epochs: 2}}}}, {taught}]\n"
    text = SPEC.partition("rows:")[0].replace("epochs: 3", "epochs: 1, method: plain").replace("1}", "2}")
    full = Swept.after(project(tmp_path, text + rows), "--storage", str(tiny))
    assert full.code == 1, full.said
    statuses = {row: run.info.status for row, run in full.runs.items()}
    assert statuses == {"Small": "FINISHED", "Large": "FAILED", "teacher wrn10-1": "FAILED"}
    assert "Traceback" not in full.said
    assert re.search(r"^Small, .*: no checkpoint could be written at .*No space left", full.said, re.MULTILINE)
    assert "no checkpoint could be written" in full.runs["Small"].data.tags["warnings"]
    assert artifact(full.runs["Small"], "weights.pt").is_file()
    for failed in ("Large", "teacher wrn10-1"):  # the teacher's files fit, but not a copy of its weights beside them
        assert len(re.findall(rf"^{failed}, .*No space left.*; attempt \d of 3 follows$", full.said, re.MULTILINE)) == 2
        assert re.search(rf"^{failed}, .* failed: OSError: .*No space left on device", full.said, re.MULTILINE)
    assert "1 left out" in full.said
