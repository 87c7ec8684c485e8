"""A command of the user's own that is told what became of a sweep: it sends a mail, or a message to a chat."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

SECONDS = 60.0  # for it to end


def notify(command: str, told: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Run `command` in a shell with `told` as JSON on its stdin. Where that fails, `say` gets a line."""
    try:
        done = subprocess.run(
            command, shell=True, input=json.dumps(told, indent=1), capture_output=True, text=True, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"--notify: {error}")
        return
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        say(f"--notify: the command ended with {done.returncode}{f': {reason[-1]}' if reason else ''}")
