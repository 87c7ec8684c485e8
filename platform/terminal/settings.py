"""Settings in the terminal: what a trial can be told."""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any

from rich.table import Table

from platform.terminal.text import in_terminal
from trainables.settings.explained import said_of, settings_of


def settings_table(method: str) -> Table:
    """A line a setting, of all or of one method. Raises `ConfigError` for a method that there is not."""
    lines = settings_of(method)
    title = f"Settings of {method}: {said_of(method)}" if method else "Settings of every trial, of objectives and mixes"
    table = Table("setting", "default", "values", "", title=in_terminal(title), title_justify="left")
    for name, default, values, note in lines:
        table.add_row(name, in_terminal(_said(default)), in_terminal(values.replace("`", "")), in_terminal(note))
    return table


def _said(value: Any) -> str:
    if value is MISSING:
        return "must be said"
    if value is None or value in ((), {}):
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
