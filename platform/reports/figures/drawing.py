"""What every figure is made of: runs to read, and a drawing to keep."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pandas as pd
from cycler import cycler
from matplotlib.figure import Figure as Canvas

from platform.reports.recorded import Recorded
from platform.reports.table import ReportTable, ReportTrial
from platform.tracking.reader import Reader

if TYPE_CHECKING:
    from trainables.scoring.inspection import Features

mpl.use("agg")
# Okabe and Ito's, which people tell apart who see colours otherwise.
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000"]
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "figure.dpi": 150,
}
ROWS_SHOWN = 8  # of a figure that has a part for each


class MissingError(RuntimeError):
    """What a figure needs and the store or this machine lacks."""


@dataclass(frozen=True)
class Drawing:
    """A figure, what it shows, and its data: one line a mark or sample."""

    name: str
    caption: str
    canvas: Canvas
    data: pd.DataFrame

    def save(self, folder: Path) -> Path:
        """The picture's path; its data are beside it."""
        path = folder / f"{self.name}.png"
        self.canvas.savefig(path, bbox_inches="tight")
        self.data.to_parquet(path.with_suffix(".parquet"), index=False)
        return path


@dataclass(frozen=True)
class Runs:
    """The trials of a table, for figures that read more of them than metrics."""

    table: ReportTable
    reader: Reader
    recorded: Recorded
    data_root: Path
    features: dict[str, Features] = field(default_factory=dict)  # by run, of those that were looked into
    _scores: dict[str, pd.DataFrame] = field(default_factory=dict)  # by run

    def firsts(self) -> Iterator[tuple[str, ReportTrial]]:
        """Of each row that has finished trials, the first of them by split and seed; of few rows only.

        Raises `MissingError` where no row has one.
        """
        found = []
        for line in self.table.cells:
            done = {t.key: t for cell in line for t in cell.trials if t.state == "finished"}
            if done:
                found.append((line[0].row, done[min(done)]))
        if not found:
            raise MissingError("no row has a finished trial")
        yield from found[:ROWS_SHOWN]

    def scores(self, trial: ReportTrial) -> pd.DataFrame:
        """The test samples of a trial, one a line, with a column `known`. Raises `MissingError`."""
        if trial.run_id not in self._scores:
            found = self.recorded.scores(trial)
            if found is None:
                raise MissingError(f"run {trial.run_id} has no scores.parquet")
            found = found[found["part"] == "test"]
            self._scores[trial.run_id] = found.assign(known=found["label"] >= 0)
        return self._scores[trial.run_id]

    @contextmanager
    def weights(self, run_id: str) -> Iterator[Path]:
        """The final weights of a run, for as long as the context lasts. Raises `MissingError`."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.reader.fetch(run_id, "weights.pt", Path(folder))
            if file is None:
                raise MissingError(f"run {run_id} has no weights.pt")
            yield file


def canvas(columns: int, rows: int = 1, width: float = 3.2, height: float = 2.8) -> Canvas:
    """An empty figure for so many parts."""
    with mpl.rc_context(STYLE):
        made = Canvas(figsize=(width * columns, height * rows), layout="constrained")
        made.subplots(rows, columns, squeeze=False)
        return made


def which(trial: ReportTrial) -> str:
    return f"split {trial.config.split}, seed {trial.config.seed}"
