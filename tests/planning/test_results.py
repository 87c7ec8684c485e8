"""What counts as a result of its own: seeds of what is not trained share a trial."""

from __future__ import annotations

import pytest

from platform.planning.results import Outcome, Results
from platform.reports.table import ReportCell, ReportTrial
from platform.tracking.trials import Place
from tests.helpers.clips import TINY
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve


@pytest.fixture(params=["clip", "coop"])
def seeds(request: pytest.FixtureRequest) -> list[TrialConfig]:
    return [resolve({"method": request.param, **TINY, "seed": seed}) for seed in (1, 2, 3)]


def identity(config: TrialConfig) -> str:
    return identity_of(config, {"digits": "fingerprint"})


def test_a_sweep_counts_a_zero_shot_classifier_once(seeds: list[TrialConfig]) -> None:
    results = Results()
    for number, config in enumerate(seeds):
        place = Place("toy", "row", "Row", number, seed=config.seed)
        results.add(Outcome(place, config, identity(config), "finished", {"test/auroc": 0.5}))
    n = 1 if config.train == "none" else 3
    assert results.measured("toy", "Row", "test/auroc") == [0.5] * n
    assert len(results.values("toy", "Row", "test/auroc")) == 3  # each stands beside what was trained with its seed
    assert dict(results.summary("toy", [("", "test/auroc")]))["row/Row/test/auroc/n"] == n


def test_a_report_counts_a_zero_shot_classifier_once(seeds: list[TrialConfig]) -> None:
    trials = tuple(ReportTrial(config, identity(config), "finished") for config in seeds)
    cell = ReportCell("Row", "AUROC", 50.1, trials, {trial.key: 0.5 for trial in trials})
    n = 1 if seeds[0].train == "none" else 3
    assert (cell.n, cell.wanted, len(cell.percents), cell.state) == (n, n, 3, "done")
    assert cell.marked == (n == 3)  # one number has no spread that could leave something unexplained
