"""Between the ranks of a trial, which run on freely, and the process that is asked for the next report."""

from __future__ import annotations

from collections import deque
from typing import Any


class Mailbox:
    """An actor of its own, in a module that imports next to nothing: its process starts in no time."""

    def __init__(self) -> None:
        self.results: deque[dict[str, Any]] = deque()
        self.stopping = ""

    def put(self, result: dict[str, Any]) -> str:
        """Deliver; whether to stop, and how: "", "save" or "stop"."""
        self.results.append(result)
        return self.stopping

    def take(self) -> dict[str, Any] | None:
        return self.results.popleft() if self.results else None

    def stop(self, how: str) -> None:
        self.stopping = how
