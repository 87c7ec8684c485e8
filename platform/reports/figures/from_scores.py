"""Figures of what every trial recorded of each test sample, in `scores.parquet`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure as Canvas
from scipy.special import entr, softmax

from platform.reports.figures.drawing import COLOURS, Drawing, Runs, canvas, which

BINS = 30
KNOWN, UNKNOWN = "known", "unknown"


def norms(runs: Runs) -> list[Drawing]:
    """Norms of features and of logits, known beside unknown (asymmetric paper, Fig. 2 b)."""
    data = _samples(runs, lambda s: {"features": s["feature_norm"], "logits": np.linalg.norm(_logits(s), axis=1)})
    names = list(data["row"].unique())
    drawn = canvas(2, width=1.5 + 0.45 * len(names), height=3)
    for axes, norm in zip(drawn.axes, ("features", "logits"), strict=True):
        for shift, (kind, colour) in enumerate(((KNOWN, COLOURS[0]), (UNKNOWN, COLOURS[1]))):
            values = [data.loc[(data["row"] == n) & (data["kind"] == kind), norm] for n in names]
            places = [number + 0.4 * shift - 0.2 for number in range(len(names))]
            boxes = axes.boxplot(values, positions=places, widths=0.35, showfliers=False, patch_artist=True)
            for box in boxes["boxes"]:
                box.set(facecolor=colour, alpha=0.7)
            axes.plot([], [], "s", color=colour, label=kind)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set(title=f"norm of {norm}")
    drawn.axes[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # over no box
    said = "Euclidean norms of pooled features and of logits; boxes are quartiles, whiskers 1.5 times their range"
    return [Drawing("norms", f"{said}. {_trials(runs)}", drawn, data)]


def uncertainty(runs: Runs) -> list[Drawing]:
    """1 - max p of known and unknown samples (asymmetric paper, Fig. 5)."""
    data = _samples(runs, lambda s: {"uncertainty": 1 - s["msp"]})
    drawn = _histograms(data, ["uncertainty"], {"uncertainty": "1 − max p"})
    return [Drawing("uncertainty", f"Uncertainty, 1 − max p, of test samples. {_trials(runs)}", drawn, data)]


def confidence(runs: Runs) -> list[Drawing]:
    """The largest probability and the entropy of all, known and unknown (BackMix, supplement, Fig. 1)."""
    data = _samples(runs, lambda s: {"confidence": s["msp"], "entropy": entr(softmax(_logits(s), axis=1)).sum(axis=1)})
    drawn = _histograms(data, ["confidence", "entropy"], {"confidence": "max p", "entropy": "entropy, nats"})
    return [Drawing("confidence", f"Largest probability and entropy of test samples. {_trials(runs)}", drawn, data)]


def _samples(runs: Runs, values: Callable[[pd.DataFrame], dict[str, Any]]) -> pd.DataFrame:
    """One line a test sample of each row's first trial: row, kind, and what `values` makes of its scores."""
    parts = []
    for row, trial in runs.firsts():
        scores = runs.scores(trial)
        kind = np.where(scores["known"], KNOWN, UNKNOWN)
        parts.append(pd.DataFrame({"row": row, "kind": kind, **values(scores)}))
    return pd.concat(parts, ignore_index=True)


def _logits(scores: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.stack(scores["logits"].to_list()).astype(np.float64)


def _histograms(data: pd.DataFrame, names: list[str], labels: dict[str, str]) -> Canvas:
    """A row of parts for each of `names`, a part for each row of the table."""
    rows = list(data["row"].unique())
    drawn = canvas(len(rows), len(names), width=2.4, height=2.1)
    for number, axes in enumerate(drawn.axes):
        name, row = names[number // len(rows)], rows[number % len(rows)]
        bins = np.linspace(data[name].min(), data[name].max(), BINS + 1).tolist()
        for kind, colour in ((KNOWN, COLOURS[0]), (UNKNOWN, COLOURS[1])):
            of_kind = data.loc[(data["row"] == row) & (data["kind"] == kind), name]
            axes.hist(of_kind, bins, density=True, alpha=0.6, color=colour, label=kind)
        axes.set(xlabel=labels[name], yticks=[])
        if number < len(rows):
            axes.set_title(row, fontsize=8)
    drawn.axes[0].legend(frameon=False)
    return drawn


def _trials(runs: Runs) -> str:
    chosen = dict.fromkeys(which(trial) for _, trial in runs.firsts())
    return f"One trial a row: {' and '.join(chosen)}."
