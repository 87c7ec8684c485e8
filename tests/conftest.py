"""pytest loads the standard `platform` before ours can be found: one line makes it our package too."""

import os
import sys
from pathlib import Path

import pytest

import platform

# Before torch is imported: threads that wait for their part of a sum spin, and two files of tests have two cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where an environment keeps Python from writing bytecode, each of the many processes would compile torch, Ray and
# MLflow for itself: half of all that the tests do.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

platform.__path__ = [str(Path(__file__).parents[1] / "platform")]  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start Ray first: the longest, which at the end would have nothing beside them."""
    items.sort(key=lambda item: not hasattr(item.module, "project"))  # type: ignore[attr-defined]
