"""A sweep that is followed while it runs, to end it at some moment, and the runs of its trials."""

import re
import subprocess
from pathlib import Path

import psutil
from mlflow.entities import Run

from tests.helpers.sweeps import runs


def trials(folder: Path) -> list[Run]:
    """The runs of trials, those that lost a contest left out."""
    found = [run for run in runs(folder) if run.info.lifecycle_stage == "active"]
    return [run for run in found if run.data.tags["kind"] == "trial"]


def until(process: subprocess.Popen[str], *patterns: str) -> str:
    """What a sweep says until it has said all of `patterns`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if all(re.search(pattern, said) for pattern in patterns):
            return said
    raise AssertionError(f"it ended without {patterns}:\n{said}")


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


def under(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)
