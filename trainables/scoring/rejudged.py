"""What recorded validation samples give by a score with other parameters, without the network: in milliseconds.

Shapes: N known and M unknown samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.scoring.measured import KNOWN
from trainables.scoring.metric_names import PSEUDO_UNKNOWN
from trainables.scoring.metrics import Ranking, auroc, oscr
from trainables.scoring.scores import F64, kth_neighbour, msp
from trainables.settings.config import TrialConfig


@dataclass(frozen=True)
class Validated:
    """The validation samples of a finished trial; those of a test set would be left out."""

    known: pd.DataFrame
    unknown: pd.DataFrame
    logits: tuple[F64, F64]  # N,K and M,K
    neighbours: tuple[F64, F64] | None  # distances, as `knn` has them, N,k and M,k; None where it was not asked for
    correct_N: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Validated:
        """`table` is a `scores.parquet`. Raises `ValueError` where it has no validation samples of either kind."""
        validated = table[table["part"] == "val"]
        known, unknown = (validated[validated["set"] == name] for name in (KNOWN, PSEUDO_UNKNOWN))
        if known.empty or unknown.empty:
            raise ValueError("it has no validation samples")
        nearest = _both(known, unknown, "neighbours") if "neighbours" in table else None
        correct_N = (known["prediction"] == known["label"]).to_numpy()
        return cls(known, unknown, _both(known, unknown, "logits"), nearest, correct_N)

    def metrics(self, config: TrialConfig) -> dict[str, float]:
        """`val/auroc` and `val/oscr` by the score of `config` with its settings: ODIN without a perturbation, which is
        `msp` at its temperature, and the distance to any neighbour.

        Raises `KeyError` for a score that was not recorded.
        """
        if config.score == "odin":
            sides = [msp(logits / config.odin_temperature) for logits in self.logits]
        elif config.score == "knn":
            if self.neighbours is None:  # its column is of one k
                raise KeyError("neighbours")
            sides = [kth_neighbour(distances, config.knn_k) for distances in self.neighbours]
        else:
            sides = [side[config.score].to_numpy(np.float64) for side in (self.known, self.unknown)]
        ranking = Ranking(*sides)
        return {"val/auroc": auroc(ranking), "val/oscr": oscr(ranking, self.correct_N)}


def _both(known: pd.DataFrame, unknown: pd.DataFrame, column: str) -> tuple[F64, F64]:
    known_N, unknown_M = (np.array(side[column].tolist(), dtype=np.float64) for side in (known, unknown))
    return known_N, unknown_M
