"""pytest loads the standard `platform` before ours can be found: one line makes it our package too."""

import os
from pathlib import Path

import platform

# Before torch is imported: threads that wait for their part of a sum spin, and two files of tests have two cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

platform.__path__ = [str(Path(__file__).parents[1] / "platform")]  # type: ignore[attr-defined]
