"""Figures of a table's own numbers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from platform.files.rows import row_list
from platform.reports.figures.drawing import COLOURS, Drawing, MissingError, Runs, canvas

MARKERS = "osD^vP*Xh<>"


def accuracy_auroc(runs: Runs) -> list[Drawing]:
    """Closed-set accuracy against AUROC, a mark a row, published ones hollow (asymmetric paper, Fig. 1).

    Rows of a grid of networks have a colour for what they are called and a marker for the network.
    """
    names = [_column(runs, kind) for kind in ("accuracy", "auroc")]
    lines: list[dict[str, Any]] = []
    for cells in runs.table.cells:
        accuracy, auroc = ({cell.column: cell for cell in cells}[name] for name in names)
        group, _, network = cells[0].row.partition(", backbone=")
        ours = {"accuracy": accuracy.mean, "auroc": auroc.mean}
        theirs = {"published_accuracy": accuracy.published, "published_auroc": auroc.published}
        lines.append({"row": cells[0].row, "group": group, "network": network, **ours, **theirs})
    if all(line["accuracy"] is None or line["auroc"] is None for line in lines):
        raise MissingError("no row has both accuracy and AUROC")
    comparable = all(cell.comparable for cell in runs.table.all_cells)
    drawn = canvas(1, width=5.5, height=4)
    (axes,) = drawn.axes
    groups = list(dict.fromkeys(line["group"] for line in lines))
    networks = list(dict.fromkeys(line["network"] for line in lines))
    for line in lines:
        colour = COLOURS[groups.index(line["group"]) % len(COLOURS)]
        marker = MARKERS[networks.index(line["network"]) % len(MARKERS)]
        if line["accuracy"] is not None and line["auroc"] is not None:
            axes.plot(line["accuracy"], line["auroc"], marker, color=colour)
        if comparable and line["published_accuracy"] is not None and line["published_auroc"] is not None:
            axes.plot(line["published_accuracy"], line["published_auroc"], marker, mfc="none", color=colour)
    for number, group in enumerate(groups):
        axes.plot([], [], "o", color=COLOURS[number % len(COLOURS)], label=group)
    for number, network in enumerate(networks):
        if network:
            axes.plot([], [], MARKERS[number % len(MARKERS)], color="grey", label=network)
    axes.set(xlabel="closed-set accuracy, %", ylabel="AUROC, %")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    caption = "Closed-set accuracy against AUROC, the mean of each row." + (" Hollow: published." if comparable else "")
    return [Drawing("accuracy-auroc", caption, drawn, pd.DataFrame(lines))]


def _column(runs: Runs, metric: str) -> str:
    for name, column in runs.table.spec.columns.items():
        if column.metric.endswith(metric):
            return name
    raise MissingError(f"the table has no column of {metric}")


def grid(runs: Runs) -> list[Drawing]:
    """Every column over the two settings of the file's grid (BackMix, Fig. 4)."""
    spec = runs.table.spec
    (down, downs), (across, acrosses) = spec.grid.items()
    lines: list[dict[str, Any]] = []
    for row, cells in zip(row_list(spec), runs.table.cells, strict=True):
        changes = row.set or {}
        if set(changes) == {down, across}:
            place = {down: changes[down], across: changes[across]}
            lines += [{**place, "column": c.column, "mean": c.mean, "std": c.std, "n": c.n} for c in cells]
    means = {(line["column"], line[down], line[across]): line["mean"] for line in lines}
    shown = [name for name in spec.columns if any(m is not None for (c, *_), m in means.items() if c == name)]
    if not shown:
        raise MissingError("no cell of the grid has a finished trial")
    drawn = canvas(len(shown), width=1.2 + 0.55 * len(acrosses), height=0.9 + 0.4 * len(downs))
    for axes, name in zip(drawn.axes, shown, strict=True):
        values = [[means[name, d, a] for a in acrosses] for d in downs]
        there = [value for line in values for value in line if value is not None]
        middle = (min(there) + max(there)) / 2
        axes.imshow([[math.nan if v is None else v for v in line] for line in values], cmap="cividis", aspect="auto")
        for y, of_row in enumerate(values):
            for x, value in enumerate(of_row):
                if value is not None:
                    ink = "black" if value > middle else "white"
                    axes.text(x, y, f"{value:.1f}", ha="center", va="center", size=7, color=ink)
        axes.set(title=f"{name}, %", xlabel=across, ylabel=down)
        axes.set_xticks(range(len(acrosses)), [str(a) for a in acrosses])
        axes.set_yticks(range(len(downs)), [str(d) for d in downs])
    return [Drawing("grid", f"Means over {down} and {across}.", drawn, pd.DataFrame(lines))]
