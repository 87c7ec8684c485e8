"""What a finished network does, looked at closer than its scores: for figures. Nothing here is used for training.

Shapes: N samples, C channels, K classes, h w positions of the network's last map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F

from trainables.data.augment import crop_and_flip, inner_view
from trainables.data.trial_data import TrialData
from trainables.mixes.backmix import BackMix, draw_partners, hide
from trainables.mixes.boxes import draw_box
from trainables.mixes.cutmix import cutmix
from trainables.scoring.evaluation import forward
from trainables.scoring.measured import KNOWN, known_beside
from trainables.settings.config import TrialConfig
from trainables.training.loop import Trainer
from trainables.training.teacher import read_weights

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
BATCH = 250


@dataclass(frozen=True)
class Features:
    """Pooled features of the test images, with each image's class id in its own set and whether it is known."""

    features_NC: F32
    class_N: npt.NDArray[np.int64]
    known_N: npt.NDArray[np.bool_]


def features(config: TrialConfig, data: TrialData, weights: Path, device: torch.device) -> Features:
    """Of the known test images and of the first unknown set, if any. Raises `WeightsError` as `read_weights` does."""
    model = read_weights(config, data, weights, device)
    unknown = config.evaluation_sets[:1]
    beside = known_beside(unknown[0], data.test) if unknown else KNOWN
    found, classes, known = [], [], []
    for name in (beside, *unknown):
        samples = data.test[name]
        found.append(forward(model, samples, device, config.precision).features_NC)
        classes.append(samples.source.labels[samples.rows])
        known.append(np.full(len(samples), name == beside))
    return Features(np.concatenate(found), np.concatenate(classes), np.concatenate(known))


@torch.inference_mode()
def mistakes(
    config: TrialConfig, data: TrialData, weights: Path, device: torch.device, shares: list[float], count: int
) -> pd.DataFrame:
    """How a network takes `count` CutMix images of training images, at each mixing coefficient of `shares` (0..1).

    Columns: share; error, how often its class is neither of the two that were mixed; overconfident, how often its
    largest probability exceeds 0.95 (asymmetric paper, section 2.3). Partners are of another class.
    """
    model = read_weights(config, data, weights, device).eval()
    pool, generator = data.train.on(device), torch.Generator(device).manual_seed(0)
    lines = []
    for share in shares:
        wrong, sure = 0, 0
        for size in [BATCH] * (count // BATCH):
            ids = torch.randint(len(pool), (size,), generator=generator, device=device)
            labels = pool.labels[ids]
            partners = draw_partners(labels, labels, True, generator)
            box = draw_box(torch.full((size,), 1 - share, device=device), data.image_size, data.image_size, generator)
            mixed = cutmix(pool.seen(ids), partners, box)
            probability, predicted = model(mixed).logits_BK.float().softmax(dim=1).max(dim=1)
            wrong += int(((predicted != labels) & (predicted != labels[partners])).sum())
            sure += int((probability > 0.95).sum())
        seen = BATCH * (count // BATCH)
        lines.append({"share": share, "error": wrong / seen, "overconfident": sure / seen})
    return pd.DataFrame(lines)


@dataclass(frozen=True)
class Masks:
    """Training images as BackMix sees them: `backgrounds` are cut into `targets`, whose label stays."""

    targets_NHWC: U8
    backgrounds_NHWC: U8
    cam_NHW: F32  # of the backgrounds: how much each pixel speaks for their class, 0..1
    mask_Nhw: npt.NDArray[np.bool_]  # the share k of the stored images' positions that count as foreground
    masked_NHWC: U8  # backgrounds, their foreground grey
    mixed_NHWC: U8
    class_N: npt.NDArray[np.int64]  # of the backgrounds, in the image set's ids


def masks(config: TrialConfig, data: TrialData, weights: Path, device: torch.device, count: int) -> Masks:
    """Foregrounds that a finished BackMix network estimates (BackMix, Figs. 5 and 6), for `count` random images.

    They are mixed by the mix itself, and shown as the network sees them, but for a crop's padding and the mirror.
    From one pass with the final weights, in eval mode: the bank of the training, a moving average, is not kept.
    """
    trainer = Trainer(config, data, device)
    mix, generator, size = trainer.mix, trainer.generator, data.image_size
    assert isinstance(mix, BackMix)
    model = read_weights(config, data, weights, device).eval()
    both = torch.randperm(len(trainer.pool), generator=generator, device=device)[: 2 * count]
    targets, backgrounds = trainer.pool[both[:count]], trainer.pool[both[count:]]
    labels = trainer.pool.labels[both[count:]]
    seen = trainer.objective.foreground(model(mix.middle(backgrounds)), labels).detach()
    cam, _ = mix.stored(seen, None)
    mixed, view, mask = mix.paste(targets, backgrounds, cam)
    window = inner_view(view, mix.images.spare)

    def shown(images_NHWC: torch.Tensor) -> Any:
        return crop_and_flip(images_NHWC, window, config.crop_fill, size).cpu().numpy()

    stored = F.interpolate(cam[:, None].float(), size=targets.shape[1:3], mode="bilinear", align_corners=False)
    rows = data.train.rows[both[count:].cpu().numpy()]
    return Masks(
        shown(targets),
        shown(backgrounds),
        shown(stored.permute(0, 2, 3, 1))[..., 0],
        mask.cpu().numpy(),
        shown(hide(backgrounds, mask)),
        shown(mixed),
        data.train.source.labels[rows],
    )
