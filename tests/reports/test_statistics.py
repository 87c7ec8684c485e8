"""The statistics of a report, against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from platform.reports.statistics import Paired, beyond_spread, paired, size, verdict

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
        (-0.1, 0.5, 0.0, "holds"),
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
