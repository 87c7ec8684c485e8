"""What a plan can decide: which spread it goes by, and what of a paper's claims it finds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from platform import sweep
from platform.deciding.looks import looks
from platform.deciding.power import detectable, needed
from platform.planning.claims import GUESS, Prospect, prospects
from platform.terminal.prospects import prospects_table
from platform.tracking.index import FinishedTrial
from tests.helpers.queues import BASE, just_finished, metrics, plan
from tests.helpers.sweeps import here, project

ROWS = f"""name: toy
{BASE}
splits: [0, 1, 2, 3]
columns: {{AUROC: test/auroc}}
rows:
  - {{name: Plain, set: {{method: plain}}, published: {{AUROC: 80.0}}}}
  - {{name: CutMix, set: {{method: cutmix}}, published: {{AUROC: 77.0}}}}
  - {{name: MixUp, set: {{method: mixup}}, published: {{AUROC: 80.5}}}}
claims:
  - {{row: CutMix, over: Plain, columns: [AUROC]}}
  - {{row: MixUp, over: Plain, columns: [AUROC]}}
"""
DIFFERENCES = (0.0, 0.02, 0.01, 0.05)  # of CutMix and Plain: 2.16 points from 4 splits


def foreseen(text: str, finished: Mapping[str, FinishedTrial] | None = None) -> list[Prospect]:
    of = plan(text)
    return prospects(of, of.sweeps[0], finished or {}, lambda config: 36.0)


def measured(text: str) -> dict[str, FinishedTrial]:
    """Plain and CutMix on all splits, as an earlier command finished them."""
    of, found = plan(text), {}
    for request in of.requests:
        if request.place.row != "MixUp":
            value = 0.9 - (request.place.row == "CutMix") * DIFFERENCES[request.place.split]
            trial = just_finished(request.identity, metrics(value))
            trial.params.update({n: str(v) for n, v in request.config.settings().items()})
            found[request.identity] = trial
    return found


def test_without_any_trial_the_spread_is_a_guess_and_says_so() -> None:
    cutmix, mixup = foreseen(ROWS)
    assert (cutmix.spread, cutmix.source, cutmix.over, cutmix.n) == (GUESS, "a guess", "splits", 4)
    assert cutmix.detectable == detectable(4, GUESS)
    assert (cutmix.decides, mixup.decides) == (True, False)
    assert mixup.needed == needed(0.5, GUESS) == 34


def test_what_the_published_difference_needs_costs_both_rows_on_as_many_splits() -> None:
    _, mixup = foreseen(ROWS)
    assert mixup.hours == pytest.approx(34 * 2 * 36 / 3600)
    assert mixup.devices == "core"


def test_what_it_needs_costs_the_teachers_of_both_rows_as_well() -> None:
    taught = ROWS.replace("method: plain}", "method: distill, teacher: {epochs: 9}}").replace(
        "method: mixup}", "method: distill, mix: mixup, teacher: {epochs: 9}}"
    )
    of = plan(taught)
    mixup = prospects(of, of.sweeps[0], {}, lambda config: 3600.0 if config.epochs == 9 else 36.0)[1]
    assert mixup.needed == 34
    assert mixup.hours == pytest.approx(34 * (3600 + 2 * 36) / 3600)  # one teacher for both


def test_the_spread_is_that_of_the_same_rows_else_that_of_their_kind() -> None:
    cutmix, mixup = foreseen(ROWS, measured(ROWS))
    assert (cutmix.spread, cutmix.source) == (pytest.approx(2.1602, abs=1e-4), "4 partitions of these rows")
    assert (mixup.spread, mixup.source) == (pytest.approx(2.1602, abs=1e-4), "1 pair of rows of the same kind")


def test_trials_of_another_network_are_another_kind() -> None:
    other = ROWS.replace("wrn10-1", "wrn16-1")
    assert {one.source for one in foreseen(other, measured(ROWS))} == {"a guess"}


def test_over_seeds_the_splits_are_strata_and_the_spread_is_within_them() -> None:
    text = ROWS.replace("splits: [0, 1, 2, 3]", "splits: [0, 1]\nseeds: [0, 1, 2]\nover: seeds")
    one = foreseen(text)[0]
    assert (one.over, one.n, one.strata, one.detectable) == ("seeds", 3, 2, detectable(3, GUESS, 2))


def test_until_decided_the_last_look_of_all_is_what_finds_least() -> None:
    one = foreseen(ROWS + "until: {max_seeds: 5, alpha: 0.1, power: 0.9}\n")[0]
    limit = looks(5, 4, 0.1)[-1].critical
    assert (one.sequential, one.n, one.strata) == (True, 5, 4)
    assert one.detectable == detectable(5, GUESS, 4, 0.9, 0.1, limit)
    assert one.detectable > detectable(5, GUESS, 4, 0.9, 0.1)  # type: ignore[operator]


def test_until_decided_what_the_published_difference_needs_is_by_its_last_look_too() -> None:
    mixup = foreseen(ROWS + "until: {max_seeds: 6}\n")[1]
    assert mixup.needed == needed(0.5, GUESS, 4, looked=looks(6, 4)) == 11
    assert needed(0.5, GUESS, 4) == 9


def test_what_cannot_be_decided_is_red() -> None:
    of = plan(ROWS)
    shown = prospects_table(of.sweeps[0], foreseen(ROWS))
    assert [row.style for row in shown.rows] == [None, "red"]
    assert list(shown.columns[5].cells) == [f"{needed(3.0, GUESS)} partitions", "34 partitions"]
    assert "fixed, over splits. Red: 1 that this plan cannot decide." in str(shown.caption)


def test_a_dry_run_tells_programs_what_each_claim_needs(tmp_path: Path) -> None:
    project(tmp_path, ROWS, store=False)
    assert here(sweep.main, tmp_path, "toy.yaml", "--format", "json").returncode == 2  # which is of a dry run
    done = here(sweep.main, tmp_path, "toy.yaml", "--dry-run", "--format", "json")
    assert done.returncode == 0
    (told,) = json.loads(done.stdout)["sweeps"]
    cutmix, mixup = told["claims"]
    assert (cutmix["claim"]["row"], cutmix["n"], cutmix["decides"]) == ("CutMix", 4, True)
    assert (mixup["needed"], mixup["source"], mixup["decides"]) == (34, "a guess", False)
