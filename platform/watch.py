"""A look, beside a running sweep, at whether its cluster is there: Ray Tune waits for minutes and says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from platform.interrupt import Interrupt

EVERY = 3.0  # seconds between two looks


@contextmanager
def watching(there: Callable[[], bool], interrupt: Interrupt, every: float = EVERY) -> Iterator[Event]:
    """Once `there` says no, the event is set, and `KeyboardInterrupt` raised in what runs within."""
    gone, over = Event(), Event()

    def look() -> None:
        while not over.wait(every):
            if not there():
                gone.set()
                interrupt.end()
                return

    watch = Thread(target=look, name="watch", daemon=True)
    watch.start()
    try:
        yield gone
    finally:
        over.set()
        watch.join(every)  # a look at a cluster that does not answer may take longer: it is left behind
