"""The command that shows whether this code does on a machine what it should, and how fast.

python -m trainables.selfcheck

It needs no image, no network, and no Ray: what it prints is Markdown, to be pasted into an issue. Without a GPU it
shows what a CPU can. The exit code is 1 where a check failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from trainables.selfcheck.agreement import agreement
from trainables.selfcheck.machine import machine
from trainables.selfcheck.sharing import sharing
from trainables.selfcheck.speed import captured, compiled, profile, speed
from trainables.selfcheck.steps import going_on, precision, read_backs
from trainables.selfcheck.told import Line, Place, reason

# Title, and seconds after which a section is given up on a GPU.
SECTIONS: dict[str, tuple[Callable[[Place], Iterator[Line]], str, float]] = {
    "machine": (machine, "Machine", 60),
    "read-backs": (read_backs, "No step reads back from the device", 100),
    "agreement": (agreement, "The GPU computes what the CPU does", 150),
    "precision": (precision, "Precision", 90),
    "checkpoint": (going_on, "A checkpoint goes on", 90),
    "speed": (speed, "Speed", 180),
    "profile": (profile, "What a step is made of", 90),
    "sharing": (sharing, "Two trials on one GPU", 120),
    "graphs": (captured, "A whole step as one CUDA graph", 120),
    "compile": (compiled, "torch.compile", 300),
}


SPARE = 30.0  # seconds that a section which began in time may go on for


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainables.selfcheck",
        description="Show whether methods compute on this machine what they should, and how fast.",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: the GPU if there is one)")
    parser.add_argument("--quick", action="store_true", help="fewer methods, shorter measurements")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="default: all")
    parser.add_argument("--minutes", type=float, default=4.0, help="no section begins after so many (default: 4)")
    parser.add_argument("--out", type=Path, help="a file that gets the same text")
    args = parser.parse_args(argv)
    has_gpu = torch.cuda.is_available() if args.device == "auto" else args.device.startswith("cuda")
    place = Place(torch.device(("cuda" if args.device == "auto" else args.device) if has_gpu else "cpu"), args.quick)
    with args.out.open("w") if args.out else nullcontext() as file:

        def tell(text: str) -> None:
            print(text, flush=True)
            if file:
                print(text, file=file, flush=True)

        failed = _check(args.sections, place, args.minutes, tell)
    return 1 if failed else 0


def _check(sections: list[str], place: Place, minutes: float, tell: Callable[[str], None]) -> int:
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
        lines = _apart(name, place, min(limit, left + SPARE)) if place.on_gpu else _here(name, place)
        for line in lines:
            tell(line.text)
            failed += line.failed
        tell(f"\n({time.monotonic() - started:.0f} s)")
    ended = f"{failed} check{'s' * (failed > 1)} FAILED" if failed else "All checks hold"
    tell(f"\n**{ended}** ({time.monotonic() - began:.0f} s)")
    return failed


def _here(name: str, place: Place) -> Iterator[Line]:
    """The lines of a section; an error of it is one more."""
    try:
        yield from SECTIONS[name][0](place)
    except Exception as error:
        yield Line(f"**FAILED** {reason(error)}", failed=True)


def _apart(name: str, place: Place, seconds: float) -> Iterator[Line]:
    """The same from a process of its own: what ruins a GPU's context, or hangs, ends no other section."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe(duplex=False)
    until = time.monotonic() + seconds
    process = context.Process(target=_send, args=(name, replace(place, until=until), its))
    process.start()
    its.close()
    try:
        while mine.poll(max(0.0, until - time.monotonic())):
            line = mine.recv()
            if line is None:
                return
            yield line
        yield Line(f"**FAILED** it took longer than {seconds:.0f} s", failed=True)
    except EOFError:
        process.join(5)
        yield Line(f"**FAILED** its process ended with code {process.exitcode}", failed=True)
    finally:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _send(name: str, place: Place, to: Connection) -> None:
    for line in _here(name, place):
        to.send(line)
    to.send(None)


if __name__ == "__main__":
    sys.exit(main())
