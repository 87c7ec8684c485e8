"""What each component has of a whole effect, by hand and by the definition over all orders."""

from itertools import permutations

import numpy as np
import pytest

from platform.deciding.shares import shares, subsets


def test_of_two_components_each_has_the_mean_of_what_it_adds_first_and_last() -> None:
    """By hand: A adds 10 to nothing and 30 to B; B adds 20 to nothing and 40 to A."""
    values = {frozenset(): 0.0, frozenset("A"): 10.0, frozenset("B"): 20.0, frozenset("AB"): 50.0}
    assert shares(values, "AB") == {"A": 20.0, "B": 30.0}


def test_of_all_subsets_a_share_is_the_mean_over_all_orders_and_they_sum_to_the_whole() -> None:
    names = "ABCD"
    rng = np.random.default_rng(0)
    values = {of: float(value) for of, value in zip(subsets(names), rng.normal(size=16), strict=True)}
    found = shares(values, names)
    added: dict[str, list[float]] = {name: [] for name in names}
    for order in permutations(names):
        for place, name in enumerate(order):
            added[name].append(values[frozenset(order[: place + 1])] - values[frozenset(order[:place])])
    assert found == pytest.approx({name: np.mean(of) for name, of in added.items()})
    assert sum(found.values()) == pytest.approx(values[frozenset(names)] - values[frozenset()])


def test_of_rows_that_are_missing_a_share_is_the_mean_of_what_is_there() -> None:
    """By hand: A adds 1 to nothing and 6 to B, C and D, nothing else of it is known."""
    ends = {frozenset(): 0.0, frozenset("A"): 1.0, frozenset("BCD"): 4.0, frozenset("ABCD"): 10.0}
    others = {frozenset(name): 2.0 for name in "BCD"} | {frozenset("ABCD") - {name}: 8.0 for name in "BCD"}
    assert shares(ends | others, "ABCD")["A"] == 3.5
