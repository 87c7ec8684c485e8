"""`runs export`: a finished trial's weights for its library's own network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision

import osr
from platform import runs
from tests.helpers import recorded
from tests.helpers.sweeps import here
from tests.records.conftest import Command


def test_a_librarys_network_is_written_with_the_lines_that_load_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recorded.BASE, "backbone", "timm:resnet10t")
    uri = recorded.recorded(tmp_path)
    done = here(runs.main, tmp_path, "export", "Plain", "net.pth")
    assert done.returncode == 0
    assert "# of 32 px images, RGB in 0..1, less (0.5, 0.5, 0.5), by (0.25, 0.25, 0.25)" in done.stdout
    names: dict[str, Any] = {"torch": torch, "torchvision": torchvision, "timm": timm}
    monkeypatch.chdir(tmp_path)
    exec(done.stdout, names)
    ours, images = osr.Store(uri).network("Plain"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(names["net"].eval()(images), ours(images).logits_BK, rtol=1e-4)
    again = here(runs.main, tmp_path, "export", "Plain", "net.pth")
    assert again.returncode == 2
    assert "net.pth could not be written: File exists" in again.stderr


def test_a_network_of_no_library_is_told_in_one_line(run: Command) -> None:
    done = run("export", "Plain", "net.pth")
    assert done.returncode == 2
    assert "wrn10-1 is no network of torchvision's or timm's, as resnet18 is" in done.stderr
