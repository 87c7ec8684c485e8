"""How far images have been read, as bars in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID


class ReadingBars(Progress):
    """A bar for each set of images that is decoded for the first time. It is called with its progress."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, transient=True)
        self._sets: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of the `total` images of `what` have been read."""
        if what not in self._sets:
            self._sets[what] = self.add_task(f"reading {escape(what)}", total=total)
        self.update(self._sets[what], completed=done)
