"""From scored samples, as `scores.parquet` has them, to metrics: any of any score, without the network or torch."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from trainables.protocols.protocols import UNKNOWN
from trainables.scoring.metric_names import MEANT_BY_ASKER, MetricName, mean_of
from trainables.scoring.metrics import accuracy, closed_set_auc, open_set_metrics

NO_SCORES = ("part", "set", "index", "class", "label", "prediction", "known_cosine", "logits", "neighbours")  # columns
KNOWN = "known"  # the set of known samples; one shown otherwise, for an unknown set alone, is `known-<set>`


def metrics_of(table: pd.DataFrame, part: str, num_classes: int, default_score: str) -> dict[str, float]:
    """Compute `<part>/<set>/<score>/<metric>` for every unknown set and every score in the table, in 0..1.

    `<part>/<set>/feature_cosine` is BackMix's FT-Cos, the mean cosine similarity of the features of all pairs of a
    known sample and one of the set, in -1..1. `<part>/auc` is of known samples alone, each class against the others;
    it is there where they are of several classes. `<part>/accuracy`, `<part>/auroc` and `<part>/oscr` are the defaults:
    `default_score`, and the mean over the unknown sets where there are several. A set that comes with known images of
    its own, as `known-<set>`, is judged beside those, and has a `<part>/<set>/accuracy`.
    """
    of_part = table[table["part"] == part]
    known = of_part[of_part["set"] == KNOWN]
    result: dict[str, float] = {}
    if len(known):
        labels = known["label"].to_numpy()
        result[f"{part}/accuracy"] = accuracy(known["prediction"].to_numpy(), labels)
        if len(np.unique(labels)) > 1:
            result[f"{part}/auc"] = closed_set_auc(np.array(known["logits"].tolist(), dtype=np.float64), labels)
    held_out = table[(table["part"] == "val") & (table["set"] == KNOWN)] if part == "test" else None
    scores = [column for column in table if column not in NO_SCORES]
    unknown_sets = list(dict.fromkeys(of_part.loc[of_part["label"] == UNKNOWN, "set"]))
    if not len(known) or not unknown_sets:
        return result
    for name in unknown_sets:
        unknown = of_part[of_part["set"] == name]
        beside = known_beside(name, of_part["set"].unique())
        known = of_part[of_part["set"] == beside]
        if beside != KNOWN:
            result[f"{part}/{name}/accuracy"] = accuracy(known["prediction"].to_numpy(), known["label"].to_numpy())
        result[f"{part}/{name}/feature_cosine"] = float(unknown["known_cosine"].mean())
        for score in scores:
            values = open_set_metrics(
                known[score].to_numpy(),
                unknown[score].to_numpy(),
                known["prediction"].to_numpy(),
                known["label"].to_numpy(),
                unknown["prediction"].to_numpy(),
                num_classes,
                held_out=None if held_out is None else held_out[score].to_numpy(),
            )
            result |= {f"{part}/{name}/{score}/{metric}": value for metric, value in values.items()}
    for metric in MEANT_BY_ASKER:
        short = MetricName(part, metric)
        mean = mean_of(short.meant(unknown_sets, default_score), result.__getitem__)
        assert mean is not None  # there are unknown sets
        result[str(short)] = mean
    return result


def known_beside(name: str, sets: Collection[str]) -> str:
    """The set of known samples that the samples of set `name` are judged beside, among the `sets` that there are."""
    own = f"{KNOWN}-{name}"
    return own if own in sets else KNOWN
