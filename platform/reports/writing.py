"""Pages written into a folder, with an index over all of them, or kept with the sweep's run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from platform.reports.page import Figure, Links, index_page, page
from platform.reports.table import ReportTable
from trainables.reading.yaml_file import ConfigError, Problem

Drawn = tuple[Sequence[Figure], Mapping[str, str]]  # figures, and why others could not be made


def write_pages(
    tables: Sequence[ReportTable],
    folder: Path,
    links: Links,
    command: Callable[[ReportTable], str],
    draw: Callable[[ReportTable, Path], Drawn],
    console: Console,
    *,
    index: bool,
    keep: Callable[[str, Path, str], None] | None,
) -> None:
    """Write a page for each table, and either an `index` over all of them, or `keep` each among the files of its
    sweep's run, so that MLflow's UI shows it.

    `command` says what fills a table, `draw` makes its figures in a folder. Raises `ConfigError` where nothing can be
    written there.
    """
    written: list[tuple[ReportTable, str]] = []
    try:
        for table in tables:
            target = folder / f"{table.name}.html"
            target.parent.mkdir(parents=True, exist_ok=True)
            figures, left_out = draw(table, target.with_suffix(""))
            back = os.path.relpath(folder / "index.html", target.parent) if index else ""
            target.write_text(page(table, command(table), links, figures, left_out, back), encoding="utf-8")
            written.append((table, f"{table.name}.html"))
            if index:
                continue
            console.print(f"wrote {escape(str(target))}", soft_wrap=True)
            if keep and table.sweep_run:
                with tempfile.TemporaryDirectory() as scratch:
                    keep(table.sweep_run, _together(target, figures, Path(scratch)), "report")
                console.print(f"and kept it with the sweep's run {table.sweep_run}, under report/")
        if index:
            (folder / "index.html").write_text(index_page(written), encoding="utf-8")
            console.print(_index_table(tables))
            console.print(f"wrote {escape(str(folder / 'index.html'))} and {len(tables)} pages", soft_wrap=True)
    except OSError as error:
        raise ConfigError([Problem((), f"--out: {error}")]) from error


def _together(page: Path, figures: Sequence[Figure], folder: Path) -> Path:
    """The page and its figures, copied into one folder."""
    for file in (page, *(f.png for f in figures), *(f.png.with_suffix(".parquet") for f in figures)):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def _index_table(tables: Sequence[ReportTable]) -> Table:
    shown = Table(title="Cells of the published tables, by their state", title_justify="left")
    for number, name in enumerate(("table", "profile", "done", "partial", "missing", "needs", "published only")):
        shown.add_column(name, justify="left" if number < 2 else "right")
    for table in tables:
        counts = (str(count or "") for count in table.counts().values())
        shown.add_row(escape(table.name), table.profile, *counts)
    return shown
