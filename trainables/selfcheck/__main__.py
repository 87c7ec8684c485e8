"""The command that shows whether this code does on a machine what it should, and how fast.

python -m trainables.selfcheck

It needs no image, no network, and no Ray: what it prints is Markdown, to be pasted into an issue. Without a GPU it
shows what a CPU can. The exit code is 1 where a check failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from trainables import __version__
from trainables.selfcheck.sections import SECTIONS, apart, here
from trainables.selfcheck.told import Scope

SPARE = 30.0  # seconds that a section which began in time may go on for


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainables.selfcheck",
        description="Show whether methods compute on this machine what they should, and how fast.",
    )
    parser.add_argument("--version", action="version", version=f"osr-platform {__version__}")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: the GPU if there is one)")
    parser.add_argument("--quick", action="store_true", help="fewer methods, shorter measurements")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="default: all")
    parser.add_argument("--minutes", type=float, default=4.0, help="no section begins after so many (default: 4)")
    parser.add_argument("--out", type=Path, help="a file that gets the same text")
    args = parser.parse_args(argv)
    has_gpu = torch.cuda.is_available() if args.device == "auto" else args.device.startswith("cuda")
    scope = Scope(torch.device(("cuda" if args.device == "auto" else args.device) if has_gpu else "cpu"), args.quick)
    with args.out.open("w") if args.out else nullcontext() as file:

        def tell(text: str) -> None:
            print(text, flush=True)
            if file:
                print(text, file=file, flush=True)

        failed = _check(args.sections, scope, args.minutes, tell)
    return 1 if failed else 0


def _check(sections: list[str], scope: Scope, minutes: float, tell: Callable[[str], None]) -> int:
    """Go through the sections; how many checks failed."""
    began = time.monotonic()
    failed = 0
    for name in sections:
        _, title, limit = SECTIONS[name]
        left = 60 * minutes - (time.monotonic() - began)
        tell(f"\n### {title}\n")
        if left <= 0:
            tell(f"Left out: over {minutes:g} minutes. `--sections {name}` runs it alone.")
            continue
        started = time.monotonic()
        lines = apart(name, scope, min(limit, left + SPARE)) if scope.on_gpu else here(name, scope)
        for line in lines:
            tell(line.text)
            failed += line.failed
        tell(f"\n({time.monotonic() - started:.0f} s)")
    ended = f"{failed} check{'s' * (failed > 1)} FAILED" if failed else "All checks hold"
    tell(f"\n**{ended}** ({time.monotonic() - began:.0f} s)")
    return failed


if __name__ == "__main__":
    sys.exit(main())
