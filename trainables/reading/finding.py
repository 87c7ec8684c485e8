"""Files that settings name by their path from here."""

from __future__ import annotations

import sys
from pathlib import Path


def from_here(name: str) -> Path | None:
    """The file from the current folder, or, on a worker, from where its code is; None where there is none."""
    return next((path for folder in ("", *sys.path) if (path := Path(folder, name)).is_file()), None)
