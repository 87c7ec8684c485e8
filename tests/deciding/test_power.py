"""The power of the paired t test, against an integral of its own and scipy."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from platform.deciding.looks import looks
from platform.deciding.power import MOST, detectable, needed, power


@pytest.mark.parametrize(("difference", "n", "spread", "strata"), [(1.0, 5, 1.0, 1), (0.3, 12, 0.7, 1), (0.5, 3, 1, 5)])
def test_the_power_is_the_integral_over_the_measured_spread(
    difference: float, n: int, spread: float, strata: int
) -> None:
    """With Z normal and W chi-squared of v: |Z + shift| > c sqrt(W / v), W integrated."""
    freedom, shift = strata * (n - 1), difference * np.sqrt(strata * n) / spread
    critical = stats.t.ppf(0.975, freedom)

    def given(w: float) -> float:
        limit = critical * np.sqrt(w / freedom)
        return stats.chi2.pdf(w, freedom) * (stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift))

    expected = quad(given, 0, np.inf, epsabs=1e-11)[0]
    assert power(difference, n, spread, strata) == pytest.approx(expected, abs=1e-8)


def test_the_power_without_a_difference_is_alpha() -> None:
    assert power(0.0, 7, 1.0) == pytest.approx(0.05)
    assert power(0.0, 7, 1.0, alpha=0.01) == pytest.approx(0.01)


def test_a_very_large_difference_is_found_for_sure() -> None:
    assert power(1000.0, 5, 1.0) == 1.0


def test_the_smallest_detectable_difference_is_found_with_the_wanted_power() -> None:
    found = detectable(5, 2.0)
    assert found is not None
    assert found == pytest.approx(2 * 1.6819, abs=1e-3)  # G*Power: d = 1.6819 for n = 5
    assert power(found, 5, 2.0) == pytest.approx(0.8)
    assert detectable(1, 2.0) is None


@pytest.mark.parametrize(("difference", "n"), [(1.0, 10), (0.5, 34), (0.2, 199)])
def test_the_needed_n_is_that_of_cohens_tables(difference: float, n: int) -> None:
    assert needed(difference, 1.0) == n
    assert power(difference, n, 1.0) >= 0.8 > power(difference, n - 1, 1.0)


def test_no_number_within_reason_finds_next_to_nothing() -> None:
    assert needed(1e-4, 1.0) is None
    assert needed(0.0, 1.0) is None
    assert MOST == 10_000


@pytest.mark.parametrize(("n", "strata"), [(8, 1), (4, 5)])
def test_the_power_of_a_look_is_what_a_noncentral_t_has_beyond_its_critical_value(n: int, strata: int) -> None:
    limit = looks(n, strata)[-1].critical
    shift = 0.8 * np.sqrt(strata * n)
    expected = stats.nct.sf(limit, strata * (n - 1), shift) + stats.nct.cdf(-limit, strata * (n - 1), shift)
    assert power(0.8, n, 1.0, strata, limit=limit) == pytest.approx(expected, abs=1e-8)
    found = detectable(n, 1.0, strata, limit=limit)
    assert found is not None
    assert needed(found + 1e-6, 1.0, strata, looked=looks(n, strata)) == n


def test_an_early_look_finds_a_difference_by_its_own_limit_and_not_by_that_of_the_last() -> None:
    looked = looks(8)  # as of a difference of 2 points that spreads by 0.8
    n = needed(2.0, 0.8, looked=looked)
    assert n == 6
    by_its_own = [power(2.0, look.n, 0.8, limit=look.critical) >= 0.8 for look in looked]
    assert by_its_own == [False, False, False, True, True, True]
    assert power(2.0, 3, 0.8, limit=looked[-1].critical) > 0.8  # which would call three seeds enough
