"""Where this machine keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$OSR_CACHE`, or `osr-platform` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "osr-platform"
    return Path(os.environ.get("OSR_CACHE") or default)
