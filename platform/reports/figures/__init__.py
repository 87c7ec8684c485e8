"""The papers' figures from tracked runs, each beside the data that it was drawn from."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from platform.reports.figures.drawing import Drawing, MissingError, Runs
from platform.reports.page import Figure
from platform.reports.recorded import Recorded
from platform.reports.table import ReportTable
from platform.tracking.reader import Reader

_MAKERS = {  # the module, which is imported when it is asked for (some need torch), and the function
    "accuracy-auroc": ("from_table", "accuracy_auroc"),
    "grid": ("from_table", "grid"),
    "power": ("from_claims", "power_curves"),
    "shares": ("from_components", "component_shares"),
    "norms": ("from_scores", "norms"),
    "uncertainty": ("from_scores", "uncertainty"),
    "confidence": ("from_scores", "confidence"),
    "class-distances": ("from_weights", "class_distances"),
    "feature-space": ("from_weights", "feature_space"),
    "teacher": ("from_weights", "teacher"),
    "masks": ("from_weights", "masks"),
    "search": ("from_search", "search"),
}


def draw(
    table: ReportTable, reader: Reader, recorded: Recorded, data_root: Path, folder: Path
) -> tuple[list[Figure], dict[str, str]]:
    """The figures that the file names, as `<name>.png` and `<name>.parquet` in `folder`, and why others are not there.

    A figure whose runs, weights or images are missing is left out; the others are drawn.
    """
    runs = Runs(table, reader, recorded, data_root)
    figures: list[Figure] = []
    left_out: dict[str, str] = {}
    for name in table.figures:
        module, function = _MAKERS[name]
        make: Callable[[Runs], list[Drawing]] = getattr(import_module(f"{__package__}.{module}"), function)
        try:
            drawings = make(runs)
        except MissingError as error:
            left_out[name] = str(error)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for drawing in drawings:
            figures.append(Figure(drawing.name, drawing.caption, drawing.save(folder)))
    return figures, left_out
