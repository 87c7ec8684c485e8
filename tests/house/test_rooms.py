"""The arrows between rooms are those that `pyproject.toml` draws."""

import subprocess
import sys

from tests.helpers.paths import ROOT

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def test_every_arrow_between_rooms_goes_one_way() -> None:
    # In a process of its own that starts here: only there `platform` is ours from the beginning.
    done = subprocess.run([sys.executable, "-c", LINT, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
