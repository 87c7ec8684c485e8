"""From a trained network to one line per sample: the table that `scores.parquet` holds.

Columns: part (val, test), set, index, class, label, prediction, one column a score, known_cosine, logits. The scores of
`SCORES` follow from the logits too; feature_norm, known_cosine and the scores on request are there as columns only.
`trainables.scoring.measured` makes metrics of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from trainables.data.trial_data import Samples
from trainables.scoring.measured import known_beside
from trainables.scoring.scores import F64, SCORES, feature_norm, mean_cosine

BATCH = 500
PIXELS = BATCH * 64**2  # of a batch: large images in smaller ones

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
        batches = torch.arange(len(pool), device=device).split(max(1, min(BATCH, PIXELS // pool.image_size**2)))
        pool.ahead(batches)
        for ids in batches:
            output = model(pool.seen(ids))
            logits.append(output.logits_BK.float())
            features.append(output.features_BC.float())
    model.train()
    logits_NK, features_NC = torch.cat(logits).cpu().numpy(), torch.cat(features).cpu().numpy()
    if not (np.isfinite(logits_NK).all() and np.isfinite(features_NC).all()):
        raise FloatingPointError("the network's logits or features are not finite")
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

    `known_cosine` is the mean cosine with the features of the known samples that the set is judged beside, the sample
    itself included where it is known; NaN where there are none. Raises `FloatingPointError` as `forward` does.
    """
    outputs = {name: forward(model, samples, device, precision) for name, samples in sets.items()}
    frames = []
    for name, samples in sets.items():
        logits_NK, features_NC = outputs[name]
        beside = known_beside(name, outputs)
        known_MC = outputs[beside][1] if beside in outputs else features_NC[:0]
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
