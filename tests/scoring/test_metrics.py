"""Metrics against scikit-learn, and against a sample-by-sample reading of ARPL's definitions."""

import itertools

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from trainables.scoring import metrics as m


def draw(seed: int, *, known: int = 200, unknown: int = 130, levels: int | None = None) -> m.Ranking:
    """Overlapping scores; `levels` rounds them to that many values, so that ties abound."""
    rng = np.random.default_rng(seed)
    k, u = rng.beta(4, 2, known), rng.beta(2, 3, unknown)
    return m.Ranking(np.round(k * levels) / levels, np.round(u * levels) / levels) if levels else m.Ranking(k, u)


CASES = [draw(s, levels=levels) for s in range(4) for levels in (None, 5, 40)]
CASES += [draw(9, known=1, unknown=1), draw(9, known=1, unknown=50), draw(9, known=50, unknown=1)]
CASES += [
    m.Ranking(np.ones(5), np.ones(4)),
    m.Ranking(np.arange(5.0), np.arange(-9.0, -2)),
    m.Ranking(-np.ones(3), np.ones(3)),
]


def labelled(r: m.Ranking) -> tuple[np.ndarray, np.ndarray]:
    return np.r_[np.ones(len(r.known)), np.zeros(len(r.unknown))], np.r_[r.known, r.unknown]


class Reference:
    """ARPL's evaluation, read off its definition one sample at a time: nothing here is vectorised or shared."""

    def __init__(self, known: np.ndarray, unknown: np.ndarray) -> None:
        known, unknown = sorted(known), sorted(unknown)
        self.points = [(len(known), len(unknown))]  # accepted (known, unknown)
        i = j = 0
        while i < len(known) or j < len(unknown):
            unknown_next = i == len(known) or (j < len(unknown) and unknown[j] < known[i])
            i, j = (i, j + 1) if unknown_next else (i + 1, j)
            self.points.append((len(known) - i, len(unknown) - j))
        self.n_known, self.n_unknown = len(known), len(unknown)

    def tpr(self) -> list[float]:
        return [k / self.n_known for k, _ in self.points]

    def fpr(self) -> list[float]:
        return [u / self.n_unknown for _, u in self.points]

    def auroc(self) -> float:
        t, f = [1.0, *self.tpr(), 0.0], [1.0, *self.fpr(), 0.0]
        return sum((t[i] - t[i + 1]) * (2 - f[i] - f[i + 1]) / 2 for i in range(len(t) - 1))

    def tnr95(self) -> float:
        distance = [abs(t - 0.95) for t in self.tpr()]
        return 1 - self.fpr()[distance.index(min(distance))]

    def dtacc(self) -> float:
        return max((t + 1 - f) / 2 for t, f in zip(self.tpr(), self.fpr(), strict=True))

    def auin(self) -> float:
        curve = [(1.0, 0.5)]
        curve += [(k / self.n_known, k / (k + u)) for k, u in self.points if k + u > 0] + [(0.0, 0.0)]
        return sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(curve))

    def auout(self) -> float:
        curve = [(0.0, 0.0)]
        for k, u in self.points:
            rejected_known, rejected_unknown = self.n_known - k, self.n_unknown - u
            if rejected_known + rejected_unknown > 0:
                precision = rejected_unknown / (rejected_known + rejected_unknown)
                curve.append((rejected_unknown / self.n_unknown, precision))
        curve.append((1.0, 0.5))
        return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(curve))


def arpl_oscr(known: np.ndarray, unknown: np.ndarray, correct: np.ndarray) -> float:
    """`compute_oscr`, written from its definition: cut by cut, in the order of NumPy's default sort."""
    scores = np.array([*known, *unknown])
    samples = [(bool(c), False) for c in correct] + [(False, True) for _ in unknown]
    samples = [samples[i] for i in scores.argsort()]
    n = len(samples)
    curve = [(0.0, 0.0), (0.0, 0.0), (1.0, 1.0)]
    for k in range(n - 1):
        ccr = sum(c for c, _ in samples[k + 1 :]) / len(known)
        fpr = sum(u for _, u in samples[k:]) / len(unknown)
        curve.append((fpr, ccr))
    curve.sort(reverse=True)
    return sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(curve))


@pytest.mark.parametrize("r", CASES)
def test_exact_metrics_equal_scikit_learn(r: m.Ranking) -> None:
    truth, scores = labelled(r)
    assert m.auroc(r) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert m.auin(r) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert m.auout(r) == pytest.approx(average_precision_score(1 - truth, -scores), abs=1e-12)


@pytest.mark.parametrize("r", CASES)
def test_arpl_metrics_equal_the_reference(r: m.Ranking) -> None:
    reference = Reference(r.known, r.unknown)
    assert m.auroc_arpl(r) == pytest.approx(reference.auroc(), abs=1e-9)
    assert m.tnr95_arpl(r) == pytest.approx(reference.tnr95(), abs=1e-9)
    assert m.auin_arpl(r) == pytest.approx(reference.auin(), abs=1e-9)
    assert m.auout_arpl(r) == pytest.approx(reference.auout(), abs=1e-9)
    assert m.dtacc(r) == pytest.approx(reference.dtacc(), abs=1e-9)


@pytest.mark.parametrize("r", CASES)
def test_both_oscr_equal_their_references(r: m.Ranking) -> None:
    correct = np.random.default_rng(0).random(len(r.known)) < 0.8
    pairs = [(k > u) + (k == u) / 2 for k, c in zip(r.known, correct, strict=True) if c for u in r.unknown]
    assert m.oscr(r, correct) == pytest.approx(sum(pairs) / (len(r.known) * len(r.unknown)), abs=1e-12)
    assert m.oscr_arpl(r, correct) == pytest.approx(arpl_oscr(r.known, r.unknown, correct), abs=1e-9)


def test_arpls_oscr_cuts_ties_in_the_order_of_numpys_sort_and_not_known_first() -> None:
    r = draw(2, known=400, unknown=300, levels=3)
    correct = np.random.default_rng(0).random(400) < 0.8
    found = m.oscr_arpl(r, correct)
    assert found == pytest.approx(arpl_oscr(r.known, r.unknown, correct), abs=1e-9)
    # A hair lower for the known: where scores tie, they then go first.
    known_first = m.oscr_arpl(m.Ranking(r.known - 1e-9, r.unknown), correct)
    assert found > known_first + 0.01


def test_without_ties_both_auroc_agree_and_with_ties_arpl_is_lower() -> None:
    assert m.auroc(draw(1)) == pytest.approx(m.auroc_arpl(draw(1)), abs=1e-12)
    assert m.auroc_arpl(draw(1, levels=5)) < m.auroc(draw(1, levels=5)) - 0.01


def test_oscr_is_at_most_accuracy_and_auroc() -> None:
    r = draw(3)
    correct = np.random.default_rng(0).random(len(r.known)) < 0.7
    assert m.oscr(r, correct) <= min(correct.mean(), m.auroc(r))
    assert m.oscr(r, np.ones_like(correct)) == pytest.approx(m.auroc(r))


@pytest.mark.parametrize("r", CASES)
def test_threshold95_is_the_highest_that_accepts_95_percent(r: m.Ranking) -> None:
    t = m.threshold95(r.known)
    assert np.mean(r.known >= t) >= 0.95
    above = r.known[r.known > t]
    assert len(above) == 0 or np.mean(r.known >= above.min()) < 0.95
    assert m.tnr95(r) == np.mean(r.unknown < t)
    assert m.fpr95(r) == pytest.approx(np.mean(r.unknown >= t))


def test_threshold95_counts_in_whole_numbers() -> None:
    assert m.threshold95(np.arange(20.0)) == 1  # 19 of 20 are exactly 95 %
    assert m.threshold95(np.arange(100.0)) == 5


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.55, 2.0])
def test_macro_f1_equals_scikit_learn_with_unknown_as_a_class(threshold: float) -> None:
    rng = np.random.default_rng(0)
    r, classes = draw(5), 6
    label, guess = rng.integers(0, classes, len(r.known)), rng.integers(0, classes, len(r.known))
    guess = np.where(rng.random(len(label)) < 0.8, label, guess)
    guess_unknown = rng.integers(0, classes, len(r.unknown))
    predicted = np.r_[np.where(r.known >= threshold, guess, 6), np.where(r.unknown >= threshold, guess_unknown, 6)]
    truth = np.r_[label, np.full(len(r.unknown), 6)]
    expected = f1_score(truth, predicted, labels=range(7), average="macro", zero_division=0)
    assert m.macro_f1(guess, label, guess_unknown, r, threshold, classes) == pytest.approx(expected, abs=1e-12)


def test_f1_val95_is_there_only_where_training_samples_were_held_out() -> None:
    r = draw(5)
    labels = np.zeros(len(r.known), dtype=np.int64)
    unknown = np.zeros(len(r.unknown), dtype=np.int64)
    without = m.open_set_metrics(r.known, r.unknown, labels, labels, unknown, 2)
    assert "f1.val95" not in without
    assert "f1.val95" in m.open_set_metrics(r.known, r.unknown, labels, labels, unknown, 2, held_out=r.known[:50])
    assert all(0 <= value <= 1 for value in without.values())


def test_inputs_are_left_as_they_were() -> None:
    known, unknown = np.array([0.3, 0.1, 0.9]), np.array([0.5, 0.2])
    zeros = np.zeros(3, dtype=np.int64)
    m.open_set_metrics(known, unknown, zeros, zeros, zeros[:2], 2)
    assert known.tolist() == [0.3, 0.1, 0.9]
    assert unknown.tolist() == [0.5, 0.2]


@pytest.mark.parametrize(("known", "unknown"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([[1.0]], [1.0])])
def test_what_cannot_be_ranked_is_refused(known: list, unknown: list) -> None:
    with pytest.raises(ValueError, match="known"):
        m.Ranking(np.array(known), np.array(unknown))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"prediction_known": np.zeros(2, dtype=int)},
            "predictions of known samples: a whole number for each of 3 scores",
        ),
        ({"prediction_unknown": np.zeros(3, dtype=int)}, r"predictions of unknown samples: .* not \(3,\) values"),
        ({"label_known": np.array([0, 1, 2])}, "labels of known samples are in 0..2, not all in 0..1"),
        ({"label_known": np.array([0, -1, 1])}, "labels of known samples are in -1..1"),
        ({"prediction_unknown": np.array([0, 9])}, "predictions of unknown samples are in 0..9"),
        ({"label_known": np.array([0.0, 0.5, 1.0])}, "labels of known samples: a whole number"),
        ({"held_out": np.array([0.5, np.nan])}, "of 2, 1 are NaN"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_refused(changes: dict[str, np.ndarray], said: str) -> None:
    arguments = {
        "known": np.array([0.9, 0.8, 0.4]),
        "unknown": np.array([0.5, 0.1]),
        "prediction_known": np.array([0, 1, 1]),
        "label_known": np.array([0, 1, 0]),
        "prediction_unknown": np.array([1, 0]),
    }
    assert m.open_set_metrics(**arguments, num_classes=2)["auroc"] == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match=said):
        m.open_set_metrics(**{**arguments, **changes}, num_classes=2)


def test_accuracy_and_oscr_need_an_answer_for_each_sample() -> None:
    with pytest.raises(ValueError, match="0 predictions for 0 labels"):
        m.accuracy(np.array([], dtype=int), np.array([], dtype=int))
    with pytest.raises(ValueError, match="for each of the 200 known scores"):
        m.oscr(draw(1), np.ones(130, dtype=bool))


@pytest.mark.parametrize("sizes", [(300, 40), (40, 300), (50, 50)])
def test_balanced_metrics_are_of_as_many_samples_of_either_side(sizes: tuple[int, int]) -> None:
    r = draw(3, known=sizes[0], unknown=sizes[1])
    rng = np.random.default_rng(1)
    predicted, label, other = rng.integers(0, 4, sizes[0]), rng.integers(0, 4, sizes[0]), rng.integers(0, 4, sizes[1])
    result = m.open_set_metrics(r.known, r.unknown, predicted, label, other, 4)
    known, unknown = m.balanced(*sizes)
    assert len(known) == len(unknown) == min(sizes)
    assert set(known) <= set(range(sizes[0]))
    truth, scores = np.r_[np.ones(len(known)), np.zeros(len(unknown))], np.r_[r.known[known], r.unknown[unknown]]
    assert result["auin.balanced"] == pytest.approx(average_precision_score(truth, scores))
    assert result["auout.balanced"] == pytest.approx(average_precision_score(1 - truth, -scores))
    accepted = scores >= np.sort(r.known[known])[len(known) - int(np.ceil(0.95 * len(known)))]
    guessed = np.where(accepted, np.r_[predicted[known], other[unknown]], 4)
    f1 = f1_score(
        np.r_[label[known], np.full(len(unknown), 4)], guessed, average="macro", labels=range(5), zero_division=0
    )
    assert result["f1.test95.balanced"] == pytest.approx(f1)
    assert (result["auin.balanced"] == pytest.approx(result["auin"])) == (sizes[0] == sizes[1])


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_closed_set_auc_is_each_class_against_the_others(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, 300)
    logits = rng.normal(size=(300, classes)) + 0.7 * np.eye(classes)[labels]
    p = softmax(logits, axis=1)
    expected = np.mean([roc_auc_score(labels == k, p[:, k]) for k in range(classes)])
    assert m.closed_set_auc(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_the_closed_set_auc_of_two_classes_is_theirs_however_sure_the_network_is() -> None:
    logits = np.array([[0.0, 40.0], [0.0, 50.0], [0.0, 60.0]])  # in float64 the last two have p = 1
    assert m.closed_set_auc(logits, np.array([0, 1, 1])) == 1
    assert m.closed_set_auc(logits, np.array([1, 0, 1])) == 0.5


def test_the_closed_set_auc_leaves_out_a_class_without_samples_and_needs_two() -> None:
    logits = np.array([[3.0, 1.0, 9.0], [1.0, 2.0, 9.0], [2.0, 0.0, 9.0]])
    labels = np.array([0, 1, 0])
    assert m.closed_set_auc(logits, labels) == 1
    with pytest.raises(ValueError, match="samples of two classes"):
        m.closed_set_auc(logits[[0, 2]], labels[[0, 2]])
