"""A table beside another one: each cell that both may have, measured twice, and the paired difference."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from platform.deciding.paired import Key
from platform.deciding.told import say_interval
from platform.reports.forms import decimals, in_markdown, measured, piped
from platform.reports.table import ReportCell, ReportTable
from platform.terminal.text import in_terminal

HEADS = ("row", "column", "first", "second", "first − second, paired, in points", "n")


def side_by_side(one: ReportTable, other: ReportTable) -> Iterator[tuple[str, ...]]:
    """A line for each row and column that was to be measured in either, matched by their names. Trials are paired by
    split and seed where their splits divide the same classes."""
    digits = max(decimals(one), decimals(other))
    mine, theirs = ({(c.row, c.column): c for c in table.all_cells if c.trials} for table in (one, other))
    for place in dict.fromkeys((*mine, *theirs)):
        own, of_other = mine.get(place), theirs.get(place)
        same = _same_classes(own, of_other) if own and of_other else set()
        found = own.minus(of_other, one.spec.over, same) if own and of_other else None
        each = (measured(cell, digits) if cell else "" for cell in (own, of_other))
        difference = (say_interval(found, digits), f"{found.n} {found.unit}") if found else ("", "")
        yield (*place, *each, *difference)


def _same_classes(one: ReportCell, other: ReportCell) -> set[Key]:
    mine, theirs = ({t.key: (t.config.protocol, t.partition) for t in cell.trials} for cell in (one, other))
    return {key for key in mine if mine[key] == theirs.get(key)}


def said_of(table: ReportTable) -> str:
    """The file and the profile of a table, and what stands below it."""
    changed = "".join(f" --set {change}" for change in table.changed)
    return f"{table.file}, profile {table.profile}{changed}. {' '.join(table.caption)}"


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
