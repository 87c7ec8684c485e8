"""Metrics that are made again of a run's file, which rows with other scores may share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from platform.reports.recorded import Recorded
from platform.reports.table import ReportTrial
from platform.tracking.reader import Reader
from trainables.settings.resolving import resolve


class OneFile:
    """A store whose runs all have the same scores, of 20 known and 10 unknown samples."""

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        generator, labels = np.random.default_rng(0), np.r_[np.arange(20) % 6, np.full(10, -1)]
        logits = list(generator.normal(size=(30, 6)))
        table: dict[str, Any] = {"part": "test", "set": ["known"] * 20 + ["digits"] * 10, "label": labels}
        table |= {
            "prediction": labels.clip(0),
            "known_cosine": 0.0,
            "msp": generator.uniform(size=30),
            "logits": logits,
        }
        pd.DataFrame(table).to_parquet(folder / name)
        return folder / name


def test_a_run_that_lacks_the_score_of_one_row_still_has_those_of_others() -> None:
    recorded = Recorded(cast(Reader, OneFile()))

    def auroc(score: str) -> float | None:
        config = resolve({"method": "plain", "protocol": "digits", "score": score})
        return recorded(ReportTrial(config, "identity", "finished", "run"), f"test/digits/{score}/auroc")

    assert auroc("odin") is None
    assert auroc("msp") is not None
    assert recorded.unscored == {("run", "odin")}


def test_a_run_that_lacks_a_score_keeps_what_is_of_known_samples_alone() -> None:
    recorded = Recorded(cast(Reader, OneFile()), always=True)
    config = resolve({"method": "plain", "protocol": "digits", "score": "odin"})
    trial = ReportTrial(config, "identity", "finished", "run")
    assert (recorded(trial, "test/accuracy"), recorded(trial, "test/auroc")) == (1.0, None)
