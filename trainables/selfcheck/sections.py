"""The sections, each in a process of its own on a GPU: what ruins its context, or hangs, ends no other.

They are not beside the command itself: a process that is started to run a function has none of a package's `__main__`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection

from trainables.selfcheck.agreement import agreement
from trainables.selfcheck.machine import machine
from trainables.selfcheck.sharing import sharing
from trainables.selfcheck.speed import captured, compiled, profile, speed
from trainables.selfcheck.steps import going_on, precision, read_backs
from trainables.selfcheck.told import Line, Scope, reason

# Title, and seconds after which a section is given up on a GPU.
SECTIONS: dict[str, tuple[Callable[[Scope], Iterator[Line]], str, float]] = {
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


def here(name: str, scope: Scope) -> Iterator[Line]:
    """The lines of a section; an error of it is one more."""
    try:
        yield from SECTIONS[name][0](scope)
    except Exception as error:
        yield Line(f"**FAILED** {reason(error)}", failed=True)


def apart(name: str, scope: Scope, seconds: float) -> Iterator[Line]:
    """The same from a process of its own: what ruins a GPU's context, or hangs, ends no other section."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe(duplex=False)
    until = time.monotonic() + seconds
    process = context.Process(target=_send, args=(name, replace(scope, until=until), its))
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


def _send(name: str, scope: Scope, to: Connection) -> None:
    for line in here(name, scope):
        to.send(line)
    to.send(None)
