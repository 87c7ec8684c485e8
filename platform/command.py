"""Commands that people are told to type: in the way in which they started ours."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from trainables.reading.addresses import showable


def command(*words: str) -> str:
    """`words` as a shell takes them, by the console script `osr` or after `uv run` where this process was started by
    it; no address tells a secret."""
    uv = "UV_RUN_RECURSION_DEPTH" in os.environ
    script = Path(sys.argv[0])
    if script.stem == "osr":
        if words[:2] == ("python", "-m"):
            words = ("osr", words[2].rpartition(".")[2], *words[3:])
        tool = str(script.with_name(words[0]))
        # By its path where a shell does not find it: `uv run` needs the project's folder, and this runs from any.
        words = words if shutil.which(words[0]) == tool and not uv else (tool, *words[1:])
        uv = False
    return showable(shlex.join([*(["uv", "run"] if uv else []), *words]))


def examples(text: str) -> str:
    """The `text` of a help, with its commands as `command` has them."""
    return re.sub(r"python -m \S+", lambda found: command(*found[0].split()), text)
