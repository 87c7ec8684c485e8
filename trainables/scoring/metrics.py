"""Open-set metrics, exact and vectorised. Inputs are scores (higher = more known), outputs are in 0..1.

Known samples are the positives everywhere, except where a name says otherwise (AUOUT). Names with `.arpl`
are the definitions of ARPL's `core/evaluation.py` and `compute_oscr`, which most published tables of the
field use; they differ from the exact ones in ties and in artificial end points, as each docstring says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """Known and unknown scores with their common ordering, sorted once and shared by all metrics.

    Raises `ValueError` where a side is empty or a score is not a number.
    """

    known: F64
    unknown: F64

    def __post_init__(self) -> None:
        for side in ("known", "unknown"):
            values = np.asarray(getattr(self, side), dtype=np.float64)
            if values.ndim != 1 or len(values) == 0:
                raise ValueError(f"{side} scores must be a non-empty vector, not of shape {values.shape}")
            if np.isnan(values).any():
                raise ValueError(f"{np.isnan(values).sum()} {side} scores are NaN")
            object.__setattr__(self, side, values)

    @cached_property
    def known_sorted(self) -> F64:
        return np.sort(self.known)

    @cached_property
    def unknown_sorted(self) -> F64:
        return np.sort(self.unknown)

    @cached_property
    def beaten(self) -> F64:
        """Share of the unknown that each known sample outranks, ties counted half; in the order of `known`."""
        below = np.searchsorted(self.unknown_sorted, self.known, side="left")
        not_above = np.searchsorted(self.unknown_sorted, self.known, side="right")
        return (below + not_above) / (2 * len(self.unknown))

    @cached_property
    def accepted(self) -> tuple[I64, I64]:
        """(known, unknown) samples with score >= t for every distinct score t, ascending, then none."""
        thresholds = np.unique(np.concatenate([self.known_sorted, self.unknown_sorted]))
        known = len(self.known) - np.searchsorted(self.known_sorted, thresholds, side="left")
        unknown = len(self.unknown) - np.searchsorted(self.unknown_sorted, thresholds, side="left")
        return np.append(known, 0), np.append(unknown, 0)

    @cached_property
    def path(self) -> tuple[I64, I64]:
        """ARPL's walk: (known, unknown) still accepted as samples are dropped one by one from the lowest.

        Of equal scores the known one goes first: ties count against the detector.
        """
        scores = np.concatenate([self.known_sorted, self.unknown_sorted])
        is_unknown = np.arange(len(scores)) >= len(self.known)
        dropped = is_unknown[np.argsort(scores, kind="stable")]
        unknown = len(self.unknown) - np.append(0, np.cumsum(dropped))
        known = len(self.known) - np.append(0, np.cumsum(~dropped))
        return known, unknown


def accuracy(prediction: I64, label: I64) -> float:
    """Closed-set accuracy: share of the known samples that get their class, nothing rejected.

    Raises `ValueError` where there are none, or not a prediction for each.
    """
    if len(label) == 0 or np.shape(prediction) != np.shape(label):
        raise ValueError(f"{len(prediction)} predictions for {len(label)} labels: one for each, and at least one")
    return float(np.mean(prediction == label))


def closed_set_auc(logits_NK: F64, label_N: I64) -> float:
    """Mean over the K known classes of the area under the ROC curve of p_k, class k against all others: MedMNIST's AUC
    (Yang et al., 2023), of known samples alone. It says nothing of unknown ones, which `auroc` is about.

    Samples are ranked by log p_k / (1 - p_k), the same order without the ties of a rounded softmax. Classes without a
    sample are left out. Raises `ValueError` where all samples are of one class.
    """
    areas = []
    for k in range(logits_NK.shape[1]):
        own = label_N == k
        if own.any() and not own.all():
            odds_N = logits_NK[:, k] - logsumexp(np.delete(logits_NK, k, axis=1), axis=1)
            areas.append(auroc(Ranking(odds_N[own], odds_N[~own])))
    if not areas:
        raise ValueError("an area of each class against the others needs samples of two classes")
    return float(np.mean(areas))


def auroc(r: Ranking) -> float:
    """P(known > unknown) + P(equal)/2: area under the ROC curve, as scikit-learn's."""
    return float(r.beaten.mean())


def auroc_arpl(r: Ranking) -> float:
    """P(known > unknown): a tie counts nothing. Equal to `auroc` without ties between the two sides."""
    return float(np.searchsorted(r.unknown_sorted, r.known, side="left").mean() / len(r.unknown))


def tnr95(r: Ranking) -> float:
    """Share of the unknown rejected by the highest threshold that accepts at least 95 % of the known."""
    return float(np.mean(r.unknown < threshold95(r.known)))


def fpr95(r: Ranking) -> float:
    """Share of the unknown accepted by the highest threshold that accepts at least 95 % of the known: 1 - `tnr95`, as
    BackMix's supplement (VI) has it. OpenOOD's metric of that name is another: there the unknown are the positives."""
    return 1 - tnr95(r)


def tnr95_arpl(r: Ranking) -> float:
    """The same at the point of ARPL's walk whose TPR is *nearest* to 0.95, from either side."""
    known, unknown = r.path
    return float(1 - unknown[np.abs(known / len(r.known) - 0.95).argmin()] / len(r.unknown))


def threshold95(known: F64) -> float:
    """The highest threshold t such that score >= t holds for at least 95 % of `known`.

    Raises `ValueError` where there are no scores, or one is NaN: all would lie below it.
    """
    if len(known) == 0 or np.isnan(known).any():
        raise ValueError(f"a threshold needs scores: of {len(known)}, {np.isnan(known).sum()} are NaN")
    # In whole numbers: 0.95 * n may come out above the integer it is.
    needed = -(-95 * len(known) // 100)
    return float(np.sort(known)[len(known) - needed])


def dtacc(r: Ranking) -> float:
    """max over thresholds of (TPR + TNR) / 2: detection accuracy with both sides weighted alike.

    ARPL's formula; on its walk the maximum is the same, ties or not. BackMix's text calls it the maximum
    classification accuracy, which would weigh the sides by their sizes.
    """
    known, unknown = r.accepted
    return float((known / len(r.known) + 1 - unknown / len(r.unknown)).max() / 2)


def auin(r: Ranking) -> float:
    """Area under precision-recall with the known positive: average precision, as scikit-learn's."""
    return _average_precision(*r.accepted)


def auout(r: Ranking) -> float:
    """Area under precision-recall with the *unknown* positive (low scores): average precision."""
    known, unknown = r.accepted
    # Rejected below each threshold, most of them first, as `_average_precision` wants it.
    return _average_precision(len(r.unknown) - unknown[::-1], len(r.known) - known[::-1])


def _average_precision(hits: I64, false_alarms: I64) -> float:
    """Sum of precision times the step in recall, over thresholds from all accepted to none."""
    total = hits + false_alarms
    precision = hits / np.maximum(total, 1)
    return float(-(np.diff(hits) * precision[:-1]).sum() / hits[0])


def auin_arpl(r: Ranking) -> float:
    """ARPL's AUIN: trapezoids over its walk, with a first point of precision 0.5 and a last of 0."""
    known, unknown = r.path
    total = known + unknown
    keep = total > 0
    precision = np.concatenate([[0.5], (known / np.maximum(total, 1))[keep], [0.0]])
    recall = np.concatenate([[1.0], (known / len(r.known))[keep], [0.0]])
    return float(-np.trapezoid(precision, recall))


def auout_arpl(r: Ranking) -> float:
    """ARPL's AUOUT: trapezoids over its walk, with a first point of precision 0 and a last of 0.5."""
    known, unknown = r.path
    rejected_known, rejected_unknown = len(r.known) - known, len(r.unknown) - unknown
    total = rejected_known + rejected_unknown
    keep = total > 0
    precision = np.concatenate([[0.0], (rejected_unknown / np.maximum(total, 1))[keep], [0.5]])
    recall = np.concatenate([[0.0], (rejected_unknown / len(r.unknown))[keep], [1.0]])
    return float(np.trapezoid(precision, recall))


def oscr(r: Ranking, correct: npt.NDArray[np.bool_]) -> float:
    """Area under correct-classification rate over false-positive rate (Dhamija et al., 2018), exact.

    Integrating CCR over FPR gives each correct known sample the share of unknowns it outranks, ties half;
    so OSCR <= min(accuracy, AUROC). `correct` is in the order of `r.known`.
    """
    _check_correct(r, correct)
    return float((r.beaten * correct).mean())


def oscr_arpl(r: Ranking, correct: npt.NDArray[np.bool_]) -> float:
    """ARPL's `compute_oscr`: at each cut the lowest sample counts as unknown accepted but not as known classified, and
    the two highest cuts are replaced by (0, 0).

    Equal scores are cut in the order that NumPy's default sort leaves them in, as in ARPL's code. It is neither that of
    appearance nor the same on every processor: with many ties, compare `oscr`, which counts each as half.
    """
    _check_correct(r, correct)
    n_known, n_unknown = len(r.known), len(r.unknown)
    order = np.concatenate([r.known, r.unknown]).argsort()
    hit = np.concatenate([correct, np.zeros(n_unknown, dtype=bool)])[order]
    is_unknown = (order >= n_known).astype(np.int64)
    ccr = (hit.sum() - np.cumsum(hit))[:-1] / n_known
    fpr = (n_unknown - np.cumsum(is_unknown) + is_unknown)[:-1] / n_unknown
    return float(-np.trapezoid(np.append(ccr, 0.0), np.append(fpr, 0.0)))


def _check_correct(r: Ranking, correct: npt.NDArray[np.bool_]) -> None:
    if np.shape(correct) != r.known.shape or np.asarray(correct).dtype != bool:
        raise ValueError(f"`correct` must be true or false for each of the {len(r.known)} known scores")


def macro_f1(
    prediction_known: I64, label_known: I64, prediction_unknown: I64, r: Ranking, threshold: float, num_classes: int
) -> float:
    """Macro-averaged F1 over K known classes and `unknown`: a sample with score < threshold is unknown.

    A class that neither occurs nor is predicted counts 0, as in scikit-learn with all K+1 labels given.
    Raises `ValueError` where there is not one class of 0..K-1 for each score.
    """
    if np.isnan(threshold):
        raise ValueError("the threshold is NaN: every sample would be unknown")
    _check_samples(r, prediction_known, label_known, prediction_unknown, num_classes)
    predicted = np.concatenate(
        [
            np.where(r.known >= threshold, prediction_known, num_classes),
            np.where(r.unknown >= threshold, prediction_unknown, num_classes),
        ]
    )
    truth = np.concatenate([label_known, np.full(len(r.unknown), num_classes)])
    size = num_classes + 1
    confusion = np.bincount(truth * size + predicted, minlength=size * size).reshape(size, size)
    doubled = 2 * np.diag(confusion)
    return float((doubled / np.maximum(confusion.sum(0) + confusion.sum(1), 1)).mean())


def _check_samples(
    r: Ranking, prediction_known: I64, label_known: I64, prediction_unknown: I64, num_classes: int
) -> None:
    """Whether there is one class of 0..K-1 for each score."""
    sides = {
        "predictions of known samples": (prediction_known, r.known),
        "labels of known samples": (label_known, r.known),
        "predictions of unknown samples": (prediction_unknown, r.unknown),
    }
    for what, (classes, scores) in sides.items():
        if np.shape(classes) != scores.shape or not np.issubdtype(np.asarray(classes).dtype, np.integer):
            raise ValueError(f"{what}: a whole number for each of {len(scores)} scores, not {np.shape(classes)} values")
        if np.min(classes) < 0 or np.max(classes) >= num_classes:
            raise ValueError(f"{what} are in {np.min(classes)}..{np.max(classes)}, not all in 0..{num_classes - 1}")


RANKING_METRICS: dict[str, Callable[[Ranking], float]] = {
    "auroc": auroc,
    "auroc.arpl": auroc_arpl,
    "tnr95": tnr95,
    "tnr95.arpl": tnr95_arpl,
    "fpr95": fpr95,
    "dtacc": dtacc,
    "auin": auin,
    "auin.arpl": auin_arpl,
    "auout": auout,
    "auout.arpl": auout_arpl,
}
OPEN_SET_METRICS: dict[str, Callable[[Ranking, npt.NDArray[np.bool_]], float]] = {
    "oscr": oscr,
    "oscr.arpl": oscr_arpl,
}


BALANCED = ("auin.balanced", "auout.balanced", "f1.test95.balanced")  # of those that depend on the sides' sizes


def balanced(known: int, unknown: int) -> tuple[I64, I64]:
    """Which samples of either side count where both shall have the same number: of the larger one, as many as the
    smaller has, drawn with replacement, always the same (osr_closed_set's `get_equal_len_datasets`)."""
    rng = np.random.default_rng(0)
    fewer = min(known, unknown)
    return (
        np.arange(known) if known == fewer else rng.choice(known, fewer),
        np.arange(unknown) if unknown == fewer else rng.choice(unknown, fewer),
    )


def open_set_metrics(
    known: F64,
    unknown: F64,
    prediction_known: I64,
    label_known: I64,
    prediction_unknown: I64,
    num_classes: int,
    held_out: F64 | None = None,
) -> dict[str, float]:
    """Every metric of one score on one pair of known and unknown samples.

    `f1.test95` takes its threshold from the known *test* samples, as the papers do; `f1.val95` from `held_out`,
    scores of known training images that did not train, and is there only where some were kept. Those that depend on
    how many samples each side has are there as `.balanced` too.

    Raises `ValueError` where lengths differ, a label or a prediction is not in 0..K-1, or a score is NaN.
    """
    r = Ranking(known, unknown)
    _check_samples(r, prediction_known, label_known, prediction_unknown, num_classes)
    result = {name: metric(r) for name, metric in RANKING_METRICS.items()}
    correct = prediction_known == label_known
    result |= {name: metric(r, correct) for name, metric in OPEN_SET_METRICS.items()}
    thresholds = {"f1.test95": threshold95(r.known)}
    if held_out is not None and len(held_out):
        thresholds["f1.val95"] = threshold95(held_out)
    for name, threshold in thresholds.items():
        result[name] = macro_f1(prediction_known, label_known, prediction_unknown, r, threshold, num_classes)
    of_known, of_unknown = balanced(len(known), len(unknown))
    even = Ranking(known[of_known], unknown[of_unknown])
    predicted = (prediction_known[of_known], label_known[of_known], prediction_unknown[of_unknown])
    f1 = macro_f1(*predicted, even, threshold95(even.known), num_classes)
    return result | dict(zip(BALANCED, (auin(even), auout(even), f1), strict=True))
