"""Ctrl-C and SIGTERM, a batch system's notice: the first keeps where trials are, the second ends all at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interrupt:
    """The first signal within `patiently` only sets `asked`; any other raises `KeyboardInterrupt` at once."""

    say: Callable[[str], None]
    asked: bool = False
    _patient: bool = False

    def listen(self) -> None:
        """Take the signals; again after a library has put handlers of its own in place of ours."""
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        if self.asked or not self._patient:
            raise KeyboardInterrupt
        self.asked = True
        self.say("interrupted: running trials keep a checkpoint (once more to stop at once)")

    @contextmanager
    def patiently(self) -> Iterator[None]:
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def end(self) -> None:
        """Raise `KeyboardInterrupt` in the main thread at once, from another one."""
        self._patient = False
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def raise_if_asked(self) -> None:
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def ignored() -> Iterator[None]:
    """What must be done to its end, whatever signals come."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
