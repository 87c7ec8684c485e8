"""Which code and which versions a run was made with."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("torch", "torchvision", "numpy", "ray", "optuna", "mlflow")  # that shape numbers


@cache
def code_tags() -> dict[str, str]:
    """Git sha, whether the code was changed since, and versions, as tags of a run. A new file is no change: what is
    one's own is known by its content."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        except OSError:  # there is none on this machine
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    sha = git("rev-parse", "HEAD")
    dirty = str(bool(git("status", "--porcelain", "--untracked-files=no"))).lower() if sha else "unknown"
    source = {"mlflow.source.name": "platform.sweep", "mlflow.source.type": "LOCAL", "mlflow.source.git.commit": sha}
    return source | {"git.sha": sha or "unknown", "git.dirty": dirty} | {f"version.{n}": version(n) for n in _LIBRARIES}
