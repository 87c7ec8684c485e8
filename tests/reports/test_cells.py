"""Cells of a table: what is paired with what, and what counts once."""

from dataclasses import replace

import pytest

from platform.deciding.looks import Interval
from platform.deciding.stopping import Decision
from platform.files.spec import Claim, Decided
from platform.reports.source import _with_holm
from platform.reports.table import Comparison, ReportCell, ReportTrial
from trainables.settings.resolving import resolve

CONFIG = resolve({"protocol": "cifar10", "split_family": "agc", "method": "plain", "backbone": "wrn10-1"})
CLAIM = Claim.model_construct(row="CutMix", over="Plain", columns=["AUROC"])
UNTIL = Decided(max_seeds=5)


def cell(name: str, values: dict[tuple[int, int], float], *, trained: bool = True) -> ReportCell:
    trials = tuple(
        ReportTrial(CONFIG.at(*key), f"{name} {key if trained else key[0]}", "finished", run_id=name) for key in values
    )
    return ReportCell(name, "AUROC", None, trials, values)


def test_a_difference_is_of_each_pair_of_trials_once_however_many_seeds_share_it() -> None:
    """Networks that are not trained are one trial at every seed."""
    one = cell("A", {(0, seed): 0.5 for seed in range(3)}, trained=False)
    other = cell("B", {(0, seed): 0.4 for seed in range(3)}, trained=False)
    found = one.minus(other, "seeds")
    assert found is not None
    assert (found.n, found.mean, found.low) == (1, pytest.approx(10), None)


def test_a_trained_row_keeps_its_seeds_beside_one_that_is_not() -> None:
    one = cell("A", {(0, seed): 0.5 for seed in range(3)}, trained=False)
    other = cell("B", {(0, 0): 0.4, (0, 1): 0.41, (0, 2): 0.45})
    found = one.minus(other, "seeds")
    assert found is not None
    assert (found.n, found.mean) == (3, pytest.approx(8))


def holm_of(*decisions: Decision) -> list[float | None]:
    made = [Comparison(CLAIM, "AUROC", 1.0, None, "undecided", "", decision) for decision in decisions]
    return [one.holm for one in _with_holm(made)]


def decision(outcome: str, p: float, n: int = 3) -> Decision:
    interval = Interval(n, 1.0, 0.5, 1.5, p, 1.0, 1)
    return Decision(CLAIM, "AUROC", outcome, n, UNTIL, interval)  # type: ignore[arg-type]


def test_an_open_claim_that_was_looked_at_is_among_those_of_holm() -> None:
    closed = decision("holds", 0.01)
    unlooked = replace(decision("open", 0.5), n=2, interval=None)
    assert holm_of(closed, decision("open", 0.5), decision("open", 0.5)) == [pytest.approx(0.03), 1.0, 1.0]
    assert holm_of(closed, unlooked) == [pytest.approx(0.01), None]


def test_a_claim_that_is_surely_small_has_no_difference_to_be_found() -> None:
    assert holm_of(decision("smaller", 0.01), decision("holds", 0.04)) == [1.0, pytest.approx(0.08)]


def test_a_closed_claim_keeps_its_own_p() -> None:
    assert decision("holds", 0.01).p == 0.01
    assert decision("open", 0.5).p is None
    assert decision("open", 0.5, n=5).p == 0.5
