"""Metrics of finished trials: as their runs have them, or made again from `scores.parquet`, never by training."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from platform.reports.table import ReportTrial
from platform.tracking.reader import Reader
from trainables.scoring.measured import metrics_of
from trainables.scoring.metric_names import MetricName
from trainables.settings.resolving import SCORES

FILE = "scores.parquet"


@dataclass
class Recorded:
    """A metric of a trial by its name; `always` reads every file, also for what the run has recorded."""

    reader: Reader
    always: bool = False
    unreadable: set[str] = field(default_factory=set)  # runs without such a file
    unscored: set[tuple[str, str]] = field(default_factory=set)  # runs, each with a score that its file lacks
    _again: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)  # by run and score

    def __call__(self, trial: ReportTrial, name: str) -> float | None:
        """None where neither the run nor its file has it, as for a score on request that was not asked for."""
        if name in trial.metrics and not self.always:
            return trial.metrics[name]
        key = (trial.run_id, trial.config.score)
        if key not in self._again:
            self._again[key] = self._read(trial)
        return self._again[key].get(name)

    def _read(self, trial: ReportTrial) -> dict[str, float]:
        scores = self.scores(trial)
        if scores is None:
            return {}
        if (score := trial.config.score) not in scores:  # what is of known samples alone needs none
            self.unscored.add((trial.run_id, score))
            again = metrics_of(scores, "test", len(trial.config.known_classes), next(s for s in SCORES if s in scores))
            return {name: value for name, value in again.items() if MetricName.parse(name).of_known}
        return metrics_of(scores, "test", len(trial.config.known_classes), score)

    def scores(self, trial: ReportTrial) -> pd.DataFrame | None:
        """One line per sample of a trial; None, and in `unreadable`, where its run has no such file."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.reader.fetch(trial.run_id, FILE, Path(folder))
            if file is None:
                self.unreadable.add(trial.run_id)
                return None
            return pd.read_parquet(file)
