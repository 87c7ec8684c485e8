"""Commands that people are told to type: in the way in which they started ours."""

from __future__ import annotations

import os
import shlex

from trainables.addresses import showable


def command(*words: str) -> str:
    """`words` as a shell takes them, after `uv run` where this process was started by it; no address tells a secret."""
    return showable(shlex.join([*(["uv", "run"] if "UV_RUN_RECURSION_DEPTH" in os.environ else []), *words]))


def examples(text: str) -> str:
    """The `text` of a help, with its commands as `command` has them."""
    return text.replace("python -m", command("python", "-m"))
