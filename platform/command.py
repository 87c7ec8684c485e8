"""What the commands share: exit codes, options, consoles, and how people are told to type one: as they started ours."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from trainables import __version__
from trainables.reading.addresses import showable

DONE, SOME_FAILED, NOTHING_DONE, INTERRUPTED = 0, 1, 2, 130  # exit codes


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


def new_parser(module: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser of `python -m module`, whose help ends with the examples of `epilog`."""
    parser = argparse.ArgumentParser(
        prog=command("python", "-m", module),
        description=description,
        epilog=examples(epilog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"osr-platform {__version__}")
    return parser


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was typed. A shell that asks how a word may end is told that instead, and the process ends."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    return parser.parse_args(arguments)


class Printed(argparse.Action):
    """An option that prints what `text` makes of its value (empty where none is given), and ends the command."""

    def __init__(self, *args: Any, text: Callable[[str], RenderableType], **options: Any) -> None:
        super().__init__(*args, **options)
        self._text = text

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: Any, option: str | None = None
    ) -> None:
        made = self._text(values or "")
        if isinstance(made, str):
            print(made, end="")
        else:
            consoles()[0].print(made)
        parser.exit()


def add_profile(parser: argparse.ArgumentParser, *, profile: str, change: str) -> None:
    """Add the options that choose what of a file is meant, with their helps."""
    parser.add_argument("--profile", help=profile)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=change)


def add_data_root(parser: argparse.ArgumentParser, why: str = "where image sets are (default: data)") -> None:
    """Add the option that says where images are."""
    parser.add_argument("--data-root", type=Path, default=Path("data"), help=why)


def add_tracking_uri(parser: argparse.ArgumentParser) -> None:
    """Add the option that `store_of` reads."""
    default = "MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here"
    parser.add_argument("--tracking-uri", help=f"MLflow store or server (default: {default})")


def store_of(given: str | None) -> str:
    """The address of the MLflow store that is worked with, where perhaps one was given."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def no_runs(uri: str) -> str:
    """What to say where there is no store."""
    return f"no runs yet: there is no {showable(uri)}. Go where the sweep ran, or name its store (--tracking-uri)"


def consoles() -> tuple[Console, Console]:
    """Where a command prints, 160 columns wide where that is no terminal, and where it prints errors."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    return console, Console(stderr=True, highlight=False, soft_wrap=True)
