"""From a trained network to one line per sample, and from those lines to metrics.

The table is what `scores.parquet` holds: any metric of any score can be computed from it again,
without the network. Columns: part (val, test), set, index, class, label, prediction, one column a
score, feature_norm, logits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import nn

from trainables.data.augment import normalise
from trainables.data.trial_data import UNKNOWN, Samples
from trainables.metrics import accuracy, open_set_metrics
from trainables.scores import SCORES

BATCH = 500


@torch.inference_mode()
def score_samples(
    model: nn.Module, part: str, sets: dict[str, Samples], device: torch.device, precision: str
) -> pd.DataFrame:
    """One line per sample of `sets`, in eval mode, without augmentation; the network is put back in train mode.

    Raises `FloatingPointError` where a logit is not finite.
    """
    model.eval()
    frames = []
    for name, samples in sets.items():
        pool = samples.on(device)
        logits, norms = [], []
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for ids in torch.arange(len(pool), device=device).split(BATCH):
                output = model(normalise(pool[ids]))
                logits.append(output.logits_BK.float())
                norms.append(output.features_BC.float().norm(dim=1))
        logits_NK = torch.cat(logits).cpu().numpy()
        if not np.isfinite(logits_NK).all():
            raise FloatingPointError("the network's logits are not finite: try a lower lr")
        frame = pd.DataFrame(
            {
                "part": part,
                "set": name,
                "index": samples.source.index[samples.rows],
                "class": samples.source.labels[samples.rows],
                "label": samples.labels,
                "prediction": logits_NK.argmax(axis=1),
                **{score: function(logits_NK.astype(np.float64)) for score, function in SCORES.items()},
                "feature_norm": torch.cat(norms).cpu().numpy(),
                "logits": list(logits_NK),
            }
        )
        frames.append(frame)
    model.train()
    return pd.concat(frames, ignore_index=True)


def metrics_of(table: pd.DataFrame, part: str, num_classes: int, default_score: str) -> dict[str, float]:
    """`<part>/<set>/<score>/<metric>` for every unknown set and score of a part, in 0..1.

    `<part>/accuracy`, `<part>/auroc` and `<part>/oscr` are the defaults: `default_score`, and the mean over the
    unknown sets where there are several.
    """
    of_part = table[table["part"] == part]
    known = of_part[of_part["label"] != UNKNOWN]
    result: dict[str, float] = {}
    if len(known):
        result[f"{part}/accuracy"] = accuracy(known["prediction"].to_numpy(), known["label"].to_numpy())
    held_out = table[(table["part"] == "val") & (table["label"] != UNKNOWN)] if part == "test" else None
    unknown_sets = list(dict.fromkeys(of_part.loc[of_part["label"] == UNKNOWN, "set"]))
    if not len(known) or not unknown_sets:
        return result
    for name in unknown_sets:
        unknown = of_part[of_part["set"] == name]
        for score in SCORES:
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
    for metric in ("auroc", "oscr"):
        result[f"{part}/{metric}"] = _mean(result[f"{part}/{n}/{default_score}/{metric}"] for n in unknown_sets)
    return result


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
