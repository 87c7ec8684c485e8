"""What a finished network does, looked at closer than its scores: for figures. Nothing here is used for training.

Shapes: N samples, C channels, K classes, h w cells of the network's last map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from trainables.cam import foreground, foreground_mask
from trainables.config import TrialConfig
from trainables.data.augment import centre
from trainables.data.trial_data import TrialData
from trainables.evaluation import forward
from trainables.measured import known_beside
from trainables.methods import BackMixSettings
from trainables.mixing import backmix, box_side, cutmix, draw_box, draw_corners, draw_partners
from trainables.teacher import read_weights

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
    """Of the known test images and of the first unknown set. Raises `WeightsError` as `read_weights` does."""
    model = read_weights(config.backbone, data, weights, device)
    unknown = config.evaluation_sets[0]
    beside = known_beside(unknown, data.test)
    found, classes, known = [], [], []
    for name in (beside, unknown):
        samples = data.test[name]
        found.append(forward(model, samples, device, config.precision)[1])
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
    model = read_weights(config.backbone, data, weights, device).eval()
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
            probability, predicted = model(mixed.images_BCHW).logits_BK.float().softmax(dim=1).max(dim=1)
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
    cam_Nhw: F32  # of the backgrounds: how much each cell speaks for their class, 0..1
    mask_Nhw: npt.NDArray[np.bool_]  # the share k of cells that count as foreground
    mixed_NHWC: U8
    class_N: npt.NDArray[np.int64]  # of the backgrounds, in the image set's ids


def masks(config: TrialConfig, data: TrialData, weights: Path, device: torch.device, count: int) -> Masks:
    """Foregrounds that a finished BackMix network estimates (BackMix, Figs. 5 and 6), for `count` random images.

    From one pass with the final weights, in eval mode: the bank of the training, a moving average, is not kept.
    """
    settings = config.learner
    assert isinstance(settings, BackMixSettings)
    model = read_weights(config.backbone, data, weights, device).eval()
    pool, generator = data.train.on(device), torch.Generator(device).manual_seed(0)
    both = torch.randperm(len(pool), generator=generator, device=device)[: 2 * count]
    targets, backgrounds = both[:count], both[count:]
    labels = pool.labels[backgrounds]
    size = data.image_size
    seen, others = centre(pool[targets], size), centre(pool[backgrounds], size)
    cam = foreground(model(pool.seen(backgrounds)), labels).detach()
    mask = foreground_mask(cam, settings.mask_ratio, generator)
    side = box_side(settings.cut_size, size)
    corner = draw_corners(count, side, size, generator)
    mixed = backmix(seen, others, mask, side, corner)
    rows = data.train.rows[backgrounds.cpu().numpy()]
    return Masks(
        seen.cpu().numpy(),
        others.cpu().numpy(),
        cam.float().cpu().numpy(),
        mask.cpu().numpy(),
        mixed.cpu().numpy(),
        data.train.source.labels[rows],
    )
