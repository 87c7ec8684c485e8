"""Tracebacks as they are shown: what went wrong comes first."""

from __future__ import annotations

from collections.abc import Iterator


def last_first(traceback: str) -> Iterator[str]:
    """The lines of a traceback, what went wrong first, then the calls from the innermost outwards."""
    groups: list[list[str]] = []
    kinds: list[str] = []
    for line in traceback.rstrip().splitlines():
        if not line.strip() or line.startswith("Traceback ("):
            continue
        kind = "said" if not line.startswith(" ") else "call" if line.startswith('  File "') else "more"
        if kind == "more" or (kind == "said" and kinds and kinds[-1] == "said"):
            groups[-1].append(line) if groups else groups.append([line])
            continue
        groups.append([line])
        kinds.append(kind)
    for group in reversed(groups):
        yield from group
