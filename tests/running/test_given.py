"""A network that others trained, in a sweep: evaluated, its head fine-tuned; cached and reported like any other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from platform import report
from platform import sweep as command
from tests.helpers.sweeps import here, project, sweep
from trainables.objectives import network_of
from trainables.settings.resolving import resolve

SPEC = """\
name: toy
base: {method: plain, protocol: digits, backbone: wrn10-1, weights: net.pt}
rows:
  - {name: Given, set: {train: none}}
  - {name: Head, set: {train: head, images_per_class: 20, epochs: 1}}
"""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = project(tmp_path_factory.mktemp("given"), SPEC, store=False)
    torch.manual_seed(0)
    torch.save(network_of(resolve({"method": "plain", "backbone": "wrn10-1"}), 6, 32).state_dict(), folder / "net.pt")
    process = sweep(folder)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return folder, output


def test_a_plan_and_its_end_say_which_is_evaluated_and_which_is_trained(evaluated: tuple[Path, str]) -> None:
    said = evaluated[1]
    assert re.search(r"to train .*1 trials", said)
    assert re.search(r"to evaluate .*1 networks that others trained", said)
    assert re.search(r"2 trials in .*: 1 trained, 1 evaluated, 0 failed", said)


def test_both_are_cached(evaluated: tuple[Path, str]) -> None:
    done = here(command.main, evaluated[0], "toy.yaml")
    assert done.returncode == 0, done.stderr
    assert re.search(r"2 trials in .*: 0 trained, 2 cached, 0 failed", done.stdout)


def test_a_report_shows_both_and_what_each_trains(evaluated: tuple[Path, str]) -> None:
    done = here(report.main, evaluated[0], "toy.yaml")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| Given +\| [\d.]+ ", done.stdout)
    assert re.search(r"\| Head +\| [\d.]+ ", done.stdout)
    assert "Given, not trained here: Given. Given, only the head trained here: Head." in done.stdout
