"""pytest loads the standard `platform` before ours can be found: one line makes it our package too."""

import os
from pathlib import Path

import platform

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two tests run at a time, each with torch's threads otherwise
platform.__path__ = [str(Path(__file__).parents[1] / "platform")]  # type: ignore[attr-defined]
