"""Text of files and of other programs, as a terminal may show it."""

from __future__ import annotations

from rich.markup import escape

from platform.files.names import printable


def in_terminal(text: object) -> str:
    """Text that Rich prints as it is, and that no terminal obeys."""
    return escape(printable(str(text)))
