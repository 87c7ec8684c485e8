"""What a sweep found: the best settings by validation, and the confirmed rows with their spread."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from platform.spec import Objective
from platform.trials import TrialState

CONFIRMED = ("test/accuracy", "test/auroc", "test/oscr")


@dataclass
class Results:
    """A `Listener` that keeps every trial that ended."""

    objective: Objective
    trials: list[TrialState] = field(default_factory=list)

    def started(self, trial: TrialState) -> None:
        """Nothing to keep yet."""

    def reported(self, trial: TrialState) -> None:
        """The state itself holds the latest metrics."""

    def ended(self, trial: TrialState) -> None:
        self.trials.append(trial)

    @property
    def failed(self) -> list[TrialState]:
        return [t for t in self.trials if t.status == "failed"]

    def of(self, phase: str) -> list[TrialState]:
        return sorted((t for t in self.trials if t.phase == phase), key=lambda t: t.number)

    def best(self, top: int) -> list[TrialState]:
        """The `top` search trials that ran to their end, by the objective after their last epoch."""
        finished = [t for t in self.of("search") if t.status == "finished" and self.objective.metric in t.metrics]
        sign = -1 if self.objective.mode == "max" else 1
        return sorted(finished, key=lambda t: sign * t.metrics[self.objective.metric])[:top]

    def rows(self) -> list[str]:
        return list(dict.fromkeys(t.row for t in self.of("confirm")))

    def values(self, row: str, metric: str) -> dict[tuple[int, int], float]:
        """A row's results by (split, seed), of the trials that finished."""
        return {
            (t.config.split, t.config.seed): t.metrics[metric]
            for t in self.of("confirm")
            if t.row == row and t.status == "finished"
        }

    def differences(self, first: str, second: str, metric: str) -> list[float]:
        """`first` minus `second` for every (split, seed) that both have."""
        one, other = self.values(first, metric), self.values(second, metric)
        return [one[pair] - other[pair] for pair in one if pair in other]

    def confirmed(self) -> dict[str, float]:
        """`confirm/<row>/<metric>/<mean|std|n>` of every row and metric."""
        found: dict[str, float] = {}
        for row in self.rows():
            for metric in CONFIRMED:
                values = list(self.values(row, metric).values())
                if values:
                    name = f"confirm/{row}/{metric}"
                    found |= {f"{name}/mean": float(np.mean(values)), f"{name}/n": len(values)}
                    if len(values) > 1:
                        found[f"{name}/std"] = float(np.std(values, ddof=1))
        return found
