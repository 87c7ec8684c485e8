"""Commands that people are told to type: in the way in which they started ours."""

from __future__ import annotations

import os
import shlex


def command(*words: str) -> str:
    """`words` as a shell takes them, after `uv run` where this process was started by it."""
    return shlex.join([*(["uv", "run"] if "UV_RUN_RECURSION_DEPTH" in os.environ else []), *words])


def examples(text: str) -> str:
    """The `text` of a help, with its commands as `command` has them."""
    return text.replace("python -m", command("python", "-m"))
