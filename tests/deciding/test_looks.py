"""Sequential looks: what they spend, exactly, and what their intervals and p are."""

import numpy as np
import pytest
from scipy import stats

from platform.deciding.looks import FIRST, RHO, interval, looks


def t_paths(differences: np.ndarray) -> np.ndarray:
    """|t| after each seed from the second on, of (runs, seeds, splits), the splits' spread pooled."""
    seeds, splits = differences.shape[1:]
    n = np.arange(1, seeds + 1)
    sums, squares = np.cumsum(differences, 1), np.cumsum(differences**2, 1)
    within = (squares - sums**2 / n[:, None]).sum(2)[:, 1:]
    mean = (sums.mean(2) / n)[:, 1:]
    return np.abs(mean) * np.sqrt(splits * n[1:]) / np.sqrt(within / (splits * (n[1:] - 1)))


@pytest.mark.parametrize("splits", [1, 4])
def test_each_look_spends_its_part_of_alpha(splits: int) -> None:
    most, runs = 8, 200_000
    t = t_paths(np.random.default_rng(0).normal(size=(runs, most, splits)))
    alive, before = np.ones(runs, dtype=bool), 0.0
    for look in looks(most, splits):
        assert look.before == pytest.approx(before)
        stops = alive & (t[:, look.n - 2] > look.critical)
        part = 0.05 * (look.n / most) ** RHO - before
        assert np.mean(stops) == pytest.approx(part, abs=4 * np.sqrt(part / runs))
        alive, before = alive & ~stops, before + part
    assert before == pytest.approx(0.05)


def test_the_first_look_is_the_t_test_of_its_part() -> None:
    first = looks(10, 3)[0]
    assert first.n == FIRST == 3
    assert first.critical == pytest.approx(stats.t.ppf(1 - 0.05 * (3 / 10) ** RHO / 2, 6))


def test_with_one_look_it_is_the_fixed_test() -> None:
    (only,) = looks(3)
    assert only.critical == pytest.approx(stats.t.ppf(0.975, 2))


def test_two_looks_by_hand() -> None:
    """With a split and looks at 3 and 4, the second's tail is an integral over the first three: here by a fine sum."""
    first, second = looks(4)
    u = np.linspace(-np.sqrt(3), np.sqrt(3), 20_001)[1:-1]
    density = (1 - u**2 / 3) ** 0.0  # of u with 3 values: uniform (Archimedes)
    density /= density.sum()
    inside = np.abs(u / np.sqrt(3) * np.sqrt(2) / np.sqrt(1 - u**2 / 3)) < first.critical
    angle = np.linspace(-np.pi / 2, np.pi / 2, 4001)
    weight = np.cos(angle) ** 2
    weight /= weight.sum()
    tail = 0.0
    for of, probability in zip(u[inside][::40], density[inside][::40] * 40, strict=True):
        then = (np.cos(angle) * of + np.sin(angle)) / 2
        t = np.abs(then) * np.sqrt(3) / np.sqrt(np.maximum(1 - then**2, 1e-12))
        tail += probability * weight[t > second.critical].sum()
    assert tail == pytest.approx(0.05 - 0.05 * (3 / 4) ** RHO, abs=3e-4)


def test_all_intervals_together_contain_the_truth() -> None:
    """Of a mean of 0.7, which is no null: the intervals of all looks, as often as alpha allows."""
    runs, most = 1000, 5
    drawn = np.random.default_rng(1).normal(0.7, 2.0, size=(runs, 2, most)) + np.array([[3.0], [-3.0]])
    missed = 0
    for of in drawn:
        found = [interval(of.tolist(), look) for look in looks(most, 2)]
        missed += any(not one.low < 0.7 < one.high for one in found)
    assert missed / runs == pytest.approx(0.05, abs=0.021)


def test_an_interval_is_the_pooled_standard_error_times_the_critical_value() -> None:
    look = looks(5, 2)[0]
    found = interval([[1.0, 2.0, 3.0, 99.0], [4.0, 4.0, 7.0, 99.0]], look)
    error = np.sqrt((2 + 6) / 4) / np.sqrt(6)  # squares of 1 2 3 and 4 4 7, of four degrees of freedom; six values
    assert (found.n, found.mean) == (3, 3.5)
    assert (found.low, found.high) == pytest.approx((3.5 - look.critical * error, 3.5 + look.critical * error))
    assert found.p == pytest.approx(2 * stats.t.sf(3.5 / error, 4))  # the first look: nothing was spent before


def test_p_of_a_stop_is_below_alpha_and_uniform_over_all_ends() -> None:
    runs, most = 1500, 5
    drawn = np.random.default_rng(3).normal(size=(runs, 1, most))
    ends = []
    for of in drawn:
        found = [interval(of.tolist(), look) for look in looks(most)]
        stopped = next((one for one in found if not one.low <= 0 <= one.high), found[-1])
        assert (stopped.p <= 0.05 + 1e-6) == (not stopped.low <= 0 <= stopped.high)
        ends.append(stopped.p)
    assert stats.kstest(ends, "uniform").pvalue > 0.001
