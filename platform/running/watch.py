"""A look, beside a running sweep, at whether its cluster is there: Ray itself waits for minutes and says nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

EVERY = 2.0  # seconds between two looks
SILENCE = 10.0  # seconds without an answer after which it is told
STUCK = 5.0  # seconds that what runs may take to end
_ANSWER = 5.0  # seconds until a machine must answer
Address = tuple[str, int]  # host, port


def answers(addresses: Sequence[Address]) -> bool:
    """Whether something listens at each of them."""
    try:
        for address in addresses:
            socket.create_connection(address, timeout=_ANSWER).close()
    except OSError:
        return False
    return True


@contextmanager
def watching(
    addresses: Sequence[Address],
    patience: float,
    say: Callable[[str], None],
    end: Callable[[], None],
    give_up: Callable[[], None],
) -> Iterator[Event]:
    """After `patience` seconds without an answer from all of `addresses`, set the event and call `end` in a thread; and
    `give_up` in it where what runs within goes on for all that, since Ray's core holds the main thread.

    A silence that lasts for less is told, by `say`, when it is found to be one.
    """
    gone, over = Event(), Event()

    def look() -> None:
        since, told = None, False  # when a silence began, and whether it was told
        while not over.wait(EVERY):
            if answers(addresses):
                since, told = None, False
                continue
            now = time.monotonic()
            since = now if since is None else since
            if now - since >= patience:
                gone.set()
                end()
                if not over.wait(STUCK):
                    give_up()
                return
            if now - since >= SILENCE and not told:
                told = True
                say("the Ray cluster does not answer: waiting for it")

    watch = Thread(target=look, name="watch", daemon=True)
    watch.start()
    try:
        yield gone
    finally:
        over.set()
        watch.join()  # for ever, where it gives up at this moment
