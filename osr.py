"""The commands of this project, from any folder.

  osr sweep FILE …      run searches and ablations                python -m platform.sweep
  osr report FILE …     print their tables beside published ones  python -m platform.report
  osr runs …            look at what has run, compare, clean      python -m platform.runs
  osr protocols …       show protocols and get their images       python -m platform.protocols
  osr trial CONFIG …    run one resolved trial                    python -m trainables.trial

`osr sweep --help` and the like say more. From Python, `osr.Store` is a store of runs as frames: docs/python.md.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import platform

COMMANDS = {
    "sweep": "platform.sweep",
    "report": "platform.report",
    "runs": "platform.runs",
    "protocols": "platform.protocols",
    "trial": "trainables.trial",
}


def __getattr__(name: str) -> Any:
    if name != "Store":
        raise AttributeError(f"module 'osr' has no attribute {name!r}")
    _find_ours()
    return import_module("platform.notebook").Store


def main() -> int:
    completes = "_ARGCOMPLETE" in os.environ  # a shell asks how the last word of COMP_LINE may end
    words = os.environ["COMP_LINE"].split(" ") if completes else sys.argv
    name = words[1] if len(words) > 1 + completes else ""
    if name in COMMANDS and completes:
        os.environ["_ARGCOMPLETE"] = "2"  # the word after which it begins
    elif completes or name == "--version":
        return _typed()
    elif name not in COMMANDS:
        asked = name in ("-h", "--help")
        unknown = f"{name}: no such command. There are:\n\n" if name and not asked else ""
        print(unknown + __doc__, end="", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    _find_ours()
    sys.path[0] = str(Path.cwd())  # not the script's folder: as `python -m` finds methods of one's own
    code: int = import_module(COMMANDS[name]).main(sys.argv[2:])
    return code


def _typed() -> int:
    """Tell the version, or a shell the names of the commands."""
    _find_ours()
    command = import_module("platform.command")
    parser = command.new_parser("osr", "", "")
    parser.add_argument("command", choices=COMMANDS)
    command.parsed(parser, None)
    return 0


def _find_ours() -> None:
    """Have `platform.…` found, where Python has loaded the standard module of that name."""
    platform.__path__ = [str(Path(__file__).parent / "platform")]
