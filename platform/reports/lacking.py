"""What a report says of trials that are not there: what has run instead, and what to type for the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from platform.command import command
from platform.files.search_file import PAPER
from platform.reports.of_file import each_change
from platform.reports.table import ReportTable
from platform.terminal.text import in_terminal
from platform.tracking.reader import Reader
from trainables.reading.yaml_file import ConfigError, Problem
from trainables.settings.score_names import EXTRA_SCORES

SHOWN_SWEEPS = 5  # of those that ran with other options


def filling(table: ReportTable, store: Sequence[str], *more: str) -> str:
    """The command that trains or evaluates a table in the store that these options name, with `more` changes."""
    profile = [] if table.profile == PAPER else ["--profile", table.profile]
    changes = [part for change in (*table.changed, *more) for part in ("--set", change)]
    if table.profile == PAPER and not table.changed:
        profile = ["--profile", PAPER]
    return command("python", "-m", "platform.sweep", str(table.file), *profile, *changes, *store)


def say_what_ran(name: str, profile: str, changed: Sequence[str], reader: Reader | None, errors: Console) -> None:
    """Where no sweep has run so, but others have: with which options."""
    ran = dict.fromkeys((s.profile, s.changed) for s in reader.sweeps if s.experiment == name) if reader else {}
    if not ran or (profile, " ".join(changed)) in ran:
        return
    there = [f"--profile {p}" + "".join(f" --set {one}" for one in each_change(c)) for p, c in ran][:SHOWN_SWEEPS]
    asked = f"--profile {profile}" + "".join(f" --set {change}" for change in changed)
    said = f"no sweep of {name} has run with {asked}; there are: {'; '.join(there)}"
    errors.print(in_terminal(said), style="yellow")


def check_exported(file: Path, tables: Sequence[ReportTable], reader: Reader) -> None:
    """Raises `ConfigError` where an exported file has trials, and none of them is of the tables."""
    shown = any(trial.run_id for table in tables for cell in table.all_cells for trial in cell.trials)
    if not reader.finished or shown or any(table.spec.search for table in tables):
        return
    has = ", ".join(dict.fromkeys(_said(s.experiment, s.profile, s.changed) for s in reader.sweeps))
    asked = ", ".join(_said(table.name, table.profile, " ".join(table.changed)) for table in tables)
    message = f"--from {file} has trials of {has}, and none of {asked}"
    raise ConfigError([Problem((), f"{message}: name the same file, profile and --set as it was made with")])


def _said(name: str, profile: str, changed: str) -> str:
    return f"{name} ({profile}{f', --set {changed}' if changed else ''})"


def say_unscored(
    tables: Sequence[ReportTable], unscored: Collection[tuple[str, str]], store: Sequence[str], errors: Console
) -> None:
    """How the finished trials of a table get scores that they were not evaluated by; only those on request are not
    always there."""
    lacks = [{(t.run_id, t.config.score) for c in table.all_cells for t in c.trials} & {*unscored} for table in tables]
    for score in sorted({score for of in lacks for _, score in of}):
        runs = {run for of in lacks for run, lacked in of if lacked == score}
        said = f"{len(runs)} finished trials were not evaluated by {score}"
        if score not in EXTRA_SCORES:
            errors.print(f"{said}: it is not defined for their method", style="yellow")
            continue
        errors.print(f"{said}. This does it, nothing is trained again:", style="yellow")
        for table, of in zip(tables, lacks, strict=True):
            if score in {lacked for _, lacked in of}:
                errors.print(f"  {escape(filling(table, store, f'extra_scores=[{score}]'))}")
