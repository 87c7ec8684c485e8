"""From a trained network to one line per sample: the table that `scores.parquet` holds.

Columns: part (val, test), set, index, class, label, prediction, one column a score, known_cosine, logits. The scores of
`SCORES` follow from the logits too; feature_norm, known_cosine and the scores on request are there as columns only. Of
validation samples that are scored by `knn` there are `neighbours`, the distances that it follows from.
`trainables.scoring.measured` makes metrics of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from trainables.data.trial_data import Samples
from trainables.models.head import Head
from trainables.models.output import ConvolutionalNetwork, Output
from trainables.scoring.measured import known_beside
from trainables.scoring.scores import F64, SCORES, feature_norm, mean_cosine

BATCH = 500
PIXELS = BATCH * 64**2  # of a batch: large images in smaller ones

F32 = npt.NDArray[np.float32]
Columns = dict[str, F64 | list[F32]]  # N values each
ExtraScore = Callable[[Samples, F32, str], Columns]  # of samples (N), their features N,C, and the part that they are of


class Seen(NamedTuple):
    """What a network says of N samples."""

    logits_NK: F32
    features_NC: F32
    own_scores: dict[str, F32]  # N each: those that its head alone defines


@torch.inference_mode()
def forward(
    model: nn.Module, samples: Samples, device: torch.device, precision: str, own_scores: tuple[str, ...] = ()
) -> Seen:
    """Logits, pooled features and the head's `own_scores`, in eval mode, without augmentation; the network is put back
    in train mode. Raises `FloatingPointError` where one of them is not finite."""
    model.eval()
    said: list[tuple[torch.Tensor, ...]] = []
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for images_BCHW in _batches(samples, device):
            output: Output = model(images_BCHW)
            columns = (output.logits_BK, output.features_BC, *(output.more[name] for name in own_scores))
            said.append(tuple(column.float() for column in columns))
    model.train()
    logits_NK, features_NC, *own = (torch.cat(column).cpu().numpy() for column in zip(*said, strict=True))
    if not all(np.isfinite(values).all() for values in (logits_NK, features_NC, *own)):
        raise FloatingPointError("the network's logits or features are not finite")
    return Seen(logits_NK, features_NC, dict(zip(own_scores, own, strict=True)))


@torch.no_grad()
def fit_head(model: nn.Module, train: Samples, device: torch.device, precision: str) -> None:
    """Let the network's head take what its own scores need of the training images, as they are seen in a test."""
    if not isinstance(model, ConvolutionalNetwork) or not isinstance(model.head, Head):
        return

    def maps() -> Iterator[torch.Tensor]:
        for images_BCHW in _batches(train, device):
            yield model.maps(images_BCHW)

    model.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        model.head.fit(maps)
    model.train()


def _batches(samples: Samples, device: torch.device) -> Iterator[torch.Tensor]:
    """All images as a network sees them in a test, B,C,H,W."""
    pool = samples.on(device)
    batches = torch.arange(len(pool), device=device).split(max(1, min(BATCH, PIXELS // pool.image_size**2)))
    pool.ahead(batches)
    return (pool.seen(ids) for ids in batches)


def score_samples(
    model: nn.Module,
    part: str,
    sets: dict[str, Samples],
    device: torch.device,
    precision: str,
    extra: Mapping[str, ExtraScore] | None = None,
    own_scores: tuple[str, ...] = (),
) -> pd.DataFrame:
    """One line per sample of `sets`, with a column for each score of every trial, the head's own and each of `extra`.

    `known_cosine` is the mean cosine with the features of the known samples that the set is judged beside, the sample
    itself included where it is known; NaN where there are none. Raises `FloatingPointError` as `forward` does.
    """
    outputs = {name: forward(model, samples, device, precision, own_scores) for name, samples in sets.items()}
    frames = []
    for name, samples in sets.items():
        logits_NK, features_NC, own = outputs[name]
        beside = known_beside(name, outputs)
        asked = [score(samples, features_NC, part) for score in (extra or {}).values()]
        known_MC = outputs[beside].features_NC if beside in outputs else features_NC[:0]
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
                **own,
                **{column: values for columns in asked for column, values in columns.items()},
                "known_cosine": mean_cosine(features_NC.astype(np.float64), known_MC.astype(np.float64)),
                "logits": list(logits_NK),
            }
        )
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
