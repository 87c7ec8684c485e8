"""Text of files and of other programs, as a terminal may show it."""

from __future__ import annotations

from rich.markup import escape

from trainables.reading.yaml_file import printable


def in_terminal(text: object) -> str:
    """Text that Rich prints as it is, and that no terminal obeys."""
    return escape(printable(str(text)))


def took(seconds: float) -> str:
    """A time as people say it."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
