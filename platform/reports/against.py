"""A table beside another one: each cell that both may have, measured twice, and the paired difference."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from platform.deciding.told import say_interval
from platform.reports.forms import decimals, in_markdown, measured, piped
from platform.reports.source import paired_cells
from platform.reports.table import ReportTable
from platform.terminal.text import in_terminal

HEADS = ("row", "column", "first", "second", "first − second, paired, in points", "n")


def side_by_side(one: ReportTable, other: ReportTable) -> Iterator[tuple[str, ...]]:
    """A line for each row and column that was to be measured in either, matched by their names."""
    digits = max(decimals(one), decimals(other))
    mine, theirs = ({(c.row, c.column): c for c in table.all_cells if c.trials} for table in (one, other))
    for place in dict.fromkeys((*mine, *theirs)):
        cells = mine.get(place), theirs.get(place)
        found = paired_cells(cells[0], cells[1], one.spec.over) if cells[0] and cells[1] else None
        each = (measured(cell, digits) if cell else "" for cell in cells)
        difference = (say_interval(found, digits), f"{found.n} {found.unit}") if found else ("", "")
        yield (*place, *each, *difference)


def in_a_terminal(one: ReportTable, other: ReportTable) -> Table:
    shown = Table()
    for number, head in enumerate(HEADS):
        shown.add_column(head, justify="left" if number < 2 else "right")
    for line in side_by_side(one, other):
        shown.add_row(*map(in_terminal, line))
    return shown


def markdown(one: ReportTable, other: ReportTable) -> str:
    lines = [piped(list(HEADS)), "|---|---|" + "---:|" * (len(HEADS) - 2)]
    lines += [piped(list(map(in_markdown, line))) for line in side_by_side(one, other)]
    return "\n".join(lines) + "\n"
