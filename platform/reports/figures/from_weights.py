"""Figures that look into networks again: they need the trials' weights and, on this machine, their images."""

from __future__ import annotations

import numpy as np
import pandas as pd

from platform.reports.figures.drawing import Drawing, MissingError, Runs, canvas, which
from platform.reports.table import ReportTrial
from trainables.data.trial_data import TrialData, build
from trainables.device import pick_device
from trainables.images.listing import DataError
from trainables.scoring import inspection
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of

SHARES = [round(0.1 * step, 1) for step in range(1, 10)]  # mixing coefficients that a teacher is shown
MIXED = 10_000  # images at each of them, as in the paper
MIXED_ON_CPU = 1_000
POINTS = 1000  # of a t-SNE
IMAGES = 8  # of the masks


def class_distances(runs: Runs) -> list[Drawing]:
    """Distances between class means of features, known then unknown classes (asymmetric paper, Fig. 2 a)."""
    found = _features(runs)
    drawn = canvas(len(found), width=2.9, height=2.7)
    largest, parts = 0.0, []
    for row, trial, seen in found:
        classes = [*trial.config.known_classes, *sorted(set(seen.class_N[~seen.known_N].tolist()))]
        kinds = [True] * len(trial.config.known_classes) + [False] * (len(classes) - len(trial.config.known_classes))
        means = np.stack(
            [
                seen.features_NC[(seen.class_N == c) & (seen.known_N == k)].mean(axis=0)
                for c, k in zip(classes, kinds, strict=True)
            ]
        )
        distances = np.linalg.norm(means[:, None] - means[None], axis=2)
        largest = max(largest, float(distances.max()))
        names = [f"{'k' if k else 'uk'}_{c}" for c, k in zip(classes, kinds, strict=True)]
        parts.append((row, names, distances))
    lines = []
    for axes, (row, names, distances) in zip(drawn.axes, parts, strict=True):
        image = axes.imshow(distances, vmin=0, vmax=largest, cmap="magma")
        axes.set_title(row, fontsize=8)
        if len(names) <= 30:
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
            axes.set_yticks(range(len(names)), names, fontsize=6)
        lines += [
            {"row": row, "one": a, "other": b, "distance": distances[i, j]}
            for i, a in enumerate(names)
            for j, b in enumerate(names)
        ]
    drawn.colorbar(image, ax=drawn.axes, shrink=0.8, label="distance of class means")
    said = "Euclidean distances between the mean features of classes on the test set, k known, uk unknown"
    return [Drawing("class-distances", f"{said}. {_trials(found)}", drawn, pd.DataFrame(lines))]


def feature_space(runs: Runs) -> list[Drawing]:
    """Test features in two dimensions by t-SNE, unknown ones purple (asymmetric paper, Fig. 4)."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    found = _features(runs)
    drawn = canvas(len(found), width=2.9, height=2.9)
    parts = []
    for axes, (row, trial, seen) in zip(drawn.axes, found, strict=True):
        chosen = np.random.default_rng(0).permutation(len(seen.class_N))[:POINTS]
        with threadpool_limits(1):  # its steps are short: threads that wait for each other cost more than they save
            points = TSNE(random_state=0, init="pca").fit_transform(seen.features_NC[chosen])
        known, classes = seen.known_N[chosen], seen.class_N[chosen]
        axes.scatter(points[~known, 0], points[~known, 1], s=4, color="#7b3fa0", label="unknown", alpha=0.6)
        for c in trial.config.known_classes:
            of_class = points[known & (classes == c)]
            axes.scatter(of_class[:, 0], of_class[:, 1], s=4, alpha=0.8)
        axes.set(xticks=[], yticks=[])
        axes.set_title(row, fontsize=8)
        parts.append(pd.DataFrame({"row": row, "x": points[:, 0], "y": points[:, 1], "class": classes, "known": known}))
    said = f"t-SNE of up to {POINTS:,} pooled test features, purple: unknown, other colours: known classes"
    data = pd.concat(parts, ignore_index=True)
    return [Drawing("feature-space", f"{said}. {_trials(found)}", drawn, data)]


def teacher(runs: Runs) -> list[Drawing]:
    """What a teacher makes of mixed images, by how they are mixed (asymmetric paper, Fig. 2 c)."""
    for row, trial in runs.firsts():
        config = trial.config.teacher
        if config is None:
            continue
        data = _images(runs, trial.config)
        finished = runs.reader.finished.get(identity_of(config, data.fingerprints))
        if finished is None:
            raise MissingError(f"the teacher of {row} has no finished run")
        device = pick_device()
        count = MIXED_ON_CPU if device.type == "cpu" else MIXED
        with runs.weights(finished.run_id) as weights:
            found = inspection.mistakes(config, data, weights, device, SHARES, count)
        drawn = canvas(1, width=4.2, height=2.8)
        (axes,) = drawn.axes
        axes.plot(found["share"], 100 * found["error"], "o-", label="error: neither of the two classes")
        axes.plot(found["share"], 100 * found["overconfident"], "s-", label="over-confident: max p > 0.95")
        axes.set(xlabel="mixing coefficient λ", ylabel="share of mixed images, %")
        axes.legend(frameon=False)
        said = f"The teacher ({config.backbone}) on {count:,} CutMix images of training images at each λ"
        return [Drawing("teacher", f"{said}. {which(trial)}.", drawn, found)]
    raise MissingError("no row with a teacher has a finished trial")


def masks(runs: Runs) -> list[Drawing]:
    """Estimated foregrounds and mixed images (BackMix, Figs. 5 and 6)."""
    for row, trial in runs.firsts():
        if trial.config.method != "backmix":
            continue
        data = _images(runs, trial.config)
        with runs.weights(trial.run_id) as weights:
            found = inspection.masks(trial.config, data, weights, pick_device(), IMAGES)
        titles = ("background image", "class activation", "masked", "target", "mixed")
        parts = (
            found.backgrounds_NHWC,
            found.backgrounds_NHWC,
            found.masked_NHWC,
            found.targets_NHWC,
            found.mixed_NHWC,
        )
        drawn = canvas(IMAGES, len(titles), width=1.1, height=1.15)
        for number, axes in enumerate(drawn.axes):
            part, i = divmod(number, IMAGES)
            axes.imshow(parts[part][i])
            if part == 1:
                axes.imshow(found.cam_NHW[i], alpha=0.6, vmin=0, vmax=1, cmap="inferno")
            axes.set(xticks=[], yticks=[])
            if i == 0:
                axes.set_ylabel(titles[part], fontsize=6)
        lines = pd.DataFrame(
            {"image": range(IMAGES), "class": found.class_N, "cam": [c.ravel() for c in found.cam_NHW]}
        )
        said = "Foregrounds estimated by the final weights on training images, and what BackMix makes of them"
        return [Drawing("masks", f"{said}. {row}, {which(trial)}.", drawn, lines)]
    raise MissingError("no row of BackMix has a finished trial")


def _features(runs: Runs) -> list[tuple[str, ReportTrial, inspection.Features]]:
    """Of each row's first trial: read once, for all figures of a table."""
    found = []
    for row, trial in runs.firsts():
        if trial.run_id not in runs.features:
            data = _images(runs, trial.config)
            with runs.weights(trial.run_id) as weights:
                runs.features[trial.run_id] = inspection.features(trial.config, data, weights, pick_device())
        found.append((row, trial, runs.features[trial.run_id]))
    return found


def _images(runs: Runs, config: TrialConfig) -> TrialData:
    try:
        return build(config, runs.data_root)
    except DataError as error:
        raise MissingError(str(error)) from error


def _trials(found: list[tuple[str, ReportTrial, inspection.Features]]) -> str:
    return f"One trial a row: {' and '.join(dict.fromkeys(which(trial) for _, trial, _ in found))}."
