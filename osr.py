"""The commands of this project, from any folder.

  osr sweep FILE …      run searches and ablations                python -m platform.sweep
  osr report FILE …     print their tables beside published ones  python -m platform.report
  osr runs …            look at what has run, compare, clean      python -m platform.runs
  osr protocols …       show protocols and get their images       python -m platform.protocols
  osr trial CONFIG …    run one resolved trial                    python -m trainables.trial

`osr sweep --help` and the like say more.
"""

import sys
from importlib import import_module
from pathlib import Path

import platform

COMMANDS = {
    "sweep": "platform.sweep",
    "report": "platform.report",
    "runs": "platform.runs",
    "protocols": "platform.protocols",
    "trial": "trainables.trial",
}


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        asked = name in ("-h", "--help")
        print(__doc__, end="", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    platform.__path__ = [str(Path(__file__).parent / "platform")]  # the standard one, wherever ours is not found first
    sys.path[0] = str(Path.cwd())  # not the script's folder: as `python -m` finds methods of one's own
    code: int = import_module(COMMANDS[name]).main(sys.argv[2:])
    return code
