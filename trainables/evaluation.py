"""From a trained network to one line per sample, and from those lines to metrics.

The table is what `scores.parquet` holds: any metric of any score can be computed from it again,
without the network. Columns: part (val, test), set, index, class, label, prediction, one column a
score, known_cosine, logits. The scores of `trainables.scores.SCORES` follow from the logits too; feature_norm,
known_cosine and the scores on request are there as columns only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from trainables.config import EXTRA_SCORES, SCORE_NAMES
from trainables.data.augment import normalise
from trainables.data.trial_data import UNKNOWN, Samples
from trainables.metrics import accuracy, open_set_metrics
from trainables.scores import F64, SCORES, feature_norm, mean_cosine

BATCH = 500

F32 = npt.NDArray[np.float32]
ExtraScore = Callable[[Samples, F32], F64]  # samples (N) and their features N,C -> N


@torch.inference_mode()
def forward(model: nn.Module, samples: Samples, device: torch.device, precision: str) -> tuple[F32, F32]:
    """Logits N,K and pooled features N,C in eval mode, without augmentation; the network is put back in train mode.

    Raises `FloatingPointError` where one of them is not finite.
    """
    model.eval()
    pool = samples.on(device)
    logits, features = [], []
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for ids in torch.arange(len(pool), device=device).split(BATCH):
            output = model(normalise(pool[ids]))
            logits.append(output.logits_BK.float())
            features.append(output.features_BC.float())
    model.train()
    logits_NK, features_NC = torch.cat(logits).cpu().numpy(), torch.cat(features).cpu().numpy()
    if not (np.isfinite(logits_NK).all() and np.isfinite(features_NC).all()):
        raise FloatingPointError("the network's logits or features are not finite: try a lower lr")
    return logits_NK, features_NC


def score_samples(
    model: nn.Module,
    part: str,
    sets: dict[str, Samples],
    device: torch.device,
    precision: str,
    extra: Mapping[str, ExtraScore] | None = None,
) -> pd.DataFrame:
    """One line per sample of `sets`, with a column for each score of every trial and each of `extra`.

    `known_cosine` is the mean cosine with the features of all known samples of `sets`, the sample itself included
    where it is known; NaN where none is known. Raises `FloatingPointError` as `forward` does.
    """
    outputs = {name: forward(model, samples, device, precision) for name, samples in sets.items()}
    known_MC = np.concatenate([outputs[name][1][samples.labels != UNKNOWN] for name, samples in sets.items()])
    frames = []
    for name, samples in sets.items():
        logits_NK, features_NC = outputs[name]
        frame = pd.DataFrame(
            {
                "part": part,
                "set": name,
                "index": samples.source.index[samples.rows],
                "class": samples.source.labels[samples.rows],
                "label": samples.labels,
                "prediction": logits_NK.argmax(axis=1),
                **{score: function(logits_NK.astype(np.float64)) for score, function in SCORES.items()},
                "feature_norm": feature_norm(features_NC.astype(np.float64)),
                **{score: function(samples, features_NC) for score, function in (extra or {}).items()},
                "known_cosine": mean_cosine(features_NC.astype(np.float64), known_MC.astype(np.float64)),
                "logits": list(logits_NK),
            }
        )
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def metrics_of(table: pd.DataFrame, part: str, num_classes: int, default_score: str) -> dict[str, float]:
    """`<part>/<set>/<score>/<metric>` for every unknown set and every score in the table, in 0..1.

    `<part>/<set>/feature_cosine` is BackMix's FT-Cos, the mean cosine similarity of the features of all pairs of a
    known sample and one of the set, in -1..1. `<part>/accuracy`, `<part>/auroc` and `<part>/oscr` are the defaults:
    `default_score`, and the mean over the unknown sets where there are several.
    """
    of_part = table[table["part"] == part]
    known = of_part[of_part["label"] != UNKNOWN]
    result: dict[str, float] = {}
    if len(known):
        result[f"{part}/accuracy"] = accuracy(known["prediction"].to_numpy(), known["label"].to_numpy())
    held_out = table[(table["part"] == "val") & (table["label"] != UNKNOWN)] if part == "test" else None
    scores = [score for score in (*SCORE_NAMES, *EXTRA_SCORES) if score in table]
    unknown_sets = list(dict.fromkeys(of_part.loc[of_part["label"] == UNKNOWN, "set"]))
    if not len(known) or not unknown_sets:
        return result
    for name in unknown_sets:
        unknown = of_part[of_part["set"] == name]
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
    for metric in ("auroc", "oscr"):
        result[f"{part}/{metric}"] = _mean(result[f"{part}/{n}/{default_score}/{metric}"] for n in unknown_sets)
    return result


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
