"""Paired differences, what a spread explains, and verdicts, against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from platform.deciding.paired import Paired, holm, paired, size, verdict
from platform.reports.statistics import beyond_spread

SPLITS = {split: frozenset({split}) for split in range(10)}


def test_a_difference_is_marked_where_two_such_means_seldom_differ_by_it() -> None:
    values = [90.0, 91.0, 92.0, 93.0, 94.0]
    limit = stats.t.ppf(0.975, 4) * np.std(values, ddof=1) * np.sqrt(2 / 5)
    assert beyond_spread(values, 92 + limit - 0.01) is False
    assert beyond_spread(values, 92 + limit + 0.01) is True
    assert beyond_spread([90.0], 50.0) is None


def test_the_mark_is_wrong_in_five_of_a_hundred_cases() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 2, 5))
    marked = np.mean([beyond_spread(list(ours), float(theirs.mean())) for ours, theirs in draws])
    assert marked == pytest.approx(0.05, abs=0.012)


def test_the_interval_of_paired_differences_is_scipys() -> None:
    rng = np.random.default_rng(1)
    one, other = ({(split, 0): float(v) for split, v in enumerate(rng.normal(size=5))} for _ in range(2))
    found = paired(one, other, SPLITS)
    assert found is not None
    expected = stats.ttest_rel(list(one.values()), list(other.values())).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.n, found.unit, found.wilcoxon) == (5, "partitions", None)


def test_seeds_are_averaged_within_a_split() -> None:
    one = {(split, seed): float(10 * split + seed) for split in range(3) for seed in range(2)}
    other = {key: 0.0 for key in one}
    found = paired(one, other, SPLITS)
    assert found is not None
    assert found.differences == (0.5, 10.5, 20.5)


def test_splits_that_are_one_partition_count_once() -> None:
    partitions = {0: "a", 1: "a", 2: "b"}
    found = paired({(0, 0): 1.0, (1, 0): 3.0, (2, 0): 5.0}, {(0, 0): 0.0, (1, 0): 0.0, (2, 0): 0.0}, partitions)
    assert found is not None
    assert found.differences == (2.0, 5.0)


def test_splits_of_one_partition_count_alike_however_many_seeds_each_has() -> None:
    one = {(0, 0): 1.0, (0, 1): 1.0, (0, 2): 1.0, (1, 0): 5.0, (2, 0): 2.0}
    found = paired(one, dict.fromkeys(one, 0.0), {0: "a", 1: "a", 2: "b"})
    assert found is not None
    assert found.differences == (3.0, 2.0)


def test_splits_that_are_all_one_partition_are_taken_over_seeds() -> None:
    one = {(split, seed): float(seed) for split in (0, 1) for seed in range(3)}
    found = paired(one, dict.fromkeys(one, 0.0), {0: "a", 1: "a"})
    assert found is not None
    assert (found.unit, found.differences) == ("seeds", (0.0, 1.0, 2.0))


def test_differences_that_are_all_the_same_have_no_interval() -> None:
    """Accuracies are counts of images: two that are equal by chance say nothing of a third."""
    one = {(0, seed): 0.1 + 0.1 * seed for seed in range(3)}
    found = paired({key: value + 0.3 for key, value in one.items()}, one, SPLITS)
    assert found is not None
    assert (found.low, found.p, found.spread) == (None, None, 0.0)
    assert verdict(found, 1.0) == "no interval"


def test_wilcoxons_test_needs_each_seed_on_every_split() -> None:
    one = {(split, seed): float(seed + split + 1) for split in (0, 1) for seed in range(6)}
    whole = paired(one, dict.fromkeys(one, 0.0), SPLITS, "seeds")
    assert whole is not None
    assert whole.wilcoxon is not None
    del one[1, 5]
    fewer = paired(one, dict.fromkeys(one, 0.0), SPLITS, "seeds")
    assert fewer is not None
    assert (fewer.wilcoxon, fewer.n) == (None, 6)


def test_where_all_is_one_partition_its_seeds_are_the_units() -> None:
    found = paired({(0, s): float(s) for s in range(3)}, {(0, s): 0.0 for s in range(3)}, SPLITS)
    assert found is not None
    assert (found.unit, found.differences) == ("seeds", (0.0, 1.0, 2.0))


def test_only_what_both_rows_have_is_compared() -> None:
    found = paired({(0, 0): 1.0, (1, 0): 2.0}, {(1, 0): 1.0, (2, 0): 9.0}, SPLITS)
    assert found is not None
    assert (found.differences, found.low) == ((1.0,), None)
    assert paired({(0, 0): 1.0}, {(1, 0): 1.0}, SPLITS) is None


def test_wilcoxons_test_is_made_from_six_pairs_on() -> None:
    one = {(split, 0): float(split + 1) for split in range(6)}
    found = paired(one, {key: 0.0 for key in one}, SPLITS)
    assert found is not None
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(list(one.values())).pvalue)
    five = {key: value for key, value in one.items() if key[0] < 5}
    assert paired(five, {key: 0.0 for key in five}, SPLITS).wilcoxon is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("low", "high", "sign", "said"),
    [
        (0.1, 0.5, 1.0, "holds"),
        (0.1, 0.5, -1.0, "reversed"),
        (-0.5, -0.1, -1.0, "holds"),
        (-0.1, 0.5, 1.0, "undecided"),
        (-0.1, 0.5, 0.0, "undecided"),
        (0.1, 0.5, 0.0, "reversed"),
        (None, None, 1.0, "no interval"),
    ],
)
def test_a_claim_is_judged_by_its_interval(low: float | None, high: float | None, sign: float, said: str) -> None:
    mean = 0.0 if low is None or high is None else (low + high) / 2
    assert verdict(Paired((mean,), "partitions", mean, low, high), sign) == said


def test_a_claim_without_trials_is_missing() -> None:
    assert verdict(None, 1.0) == "missing"


@pytest.mark.parametrize(("published", "said"), [(2.0, "as published"), (5.0, "smaller"), (0.5, "larger"), (None, "")])
def test_the_published_size_lies_in_the_interval_or_beyond(published: float | None, said: str) -> None:
    assert size(Paired((), "partitions", 2.0, 1.0, 3.0), published) == said


def test_over_seeds_the_splits_are_fixed_and_the_spread_of_their_seeds_is_pooled() -> None:
    """By hand: splits of means 2 and 10, squares (1 + 1) + (4 + 4) = 10 of 4 - 2 degrees of freedom, so s^2 = 5."""
    one = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 8.0, (1, 1): 12.0}
    found = paired(one, dict.fromkeys(one, 0.0), SPLITS, "seeds")
    assert found is not None
    half = stats.t.ppf(0.975, 2) * np.sqrt(5 / 4)
    assert (found.unit, found.mean, found.spread, found.strata) == ("seeds", 6.0, pytest.approx(np.sqrt(5)), 2)
    assert (found.low, found.high) == pytest.approx((6 - half, 6 + half))
    over_splits = paired(one, dict.fromkeys(one, 0.0), SPLITS, "splits")
    assert over_splits is not None
    assert over_splits.differences == (2.0, 10.0)


def test_over_seeds_the_interval_is_that_of_a_regression_on_the_splits() -> None:
    """The same by least squares: one mean a split, the contrast that averages them; also where splits have fewer."""
    rng = np.random.default_rng(3)
    keys = [(split, seed) for split, seeds in enumerate((4, 2, 3)) for seed in range(seeds)]
    one = {key: float(value) for key, value in zip(keys, rng.normal(size=len(keys)), strict=True)}
    found = paired(one, dict.fromkeys(one, 0.0), SPLITS, "seeds")
    assert found is not None
    design = np.array([[split == column for column in range(3)] for split, _ in keys], dtype=float)
    beta, squares, *_ = np.linalg.lstsq(design, np.array(list(one.values())), rcond=None)
    contrast = np.full(3, 1 / 3)
    error = np.sqrt(squares[0] / 6 * (contrast @ np.linalg.inv(design.T @ design) @ contrast))
    assert found.mean == pytest.approx(contrast @ beta)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.mean) / error, 6))


def test_the_p_of_paired_differences_is_scipys() -> None:
    one = {(split, 0): float(v) for split, v in enumerate(np.random.default_rng(4).normal(size=5))}
    found = paired(one, dict.fromkeys(one, 0.0), SPLITS)
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_1samp(list(one.values()), 0).pvalue)


def test_holm_multiplies_the_smallest_by_all_and_never_falls_again() -> None:
    """By hand: sorted .01 .02 .03 .04 times 4 3 2 1, each at least the one before."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_under_no_difference_holm_rejects_any_of_ten_claims_as_seldom_as_one() -> None:
    p = np.random.default_rng(5).uniform(size=(4000, 10))
    assert np.mean([min(holm(list(of))) < 0.05 for of in p]) == pytest.approx(0.05, abs=0.012)
