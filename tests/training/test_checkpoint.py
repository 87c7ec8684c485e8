"""A trial that is interrupted between any two steps ends as one that was not, to the last digit."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.helpers.interrupted import (
    CASES,
    CPU,
    assert_same_end,
    images,
    run_until,
    start,
    timeless,
    trial,
    weights_of,
)
from tests.helpers.squares import squares
from trainables.evaluating import evaluate_again
from trainables.objectives import network_of
from trainables.one_trial import run_trial
from trainables.settings.methods import METHODS
from trainables.settings.objectives import OBJECTIVES
from trainables.storage.weights import WeightsError
from trainables.training.teacher import untrained_weights


@pytest.mark.parametrize("case", CASES)
def test_a_trial_interrupted_within_an_epoch_ends_as_one_that_was_not(case: str, tmp_path: Path) -> None:
    config = trial(**CASES[case])
    whole = list(start(config, tmp_path, checkpoints=None).reports(tmp_path / "whole"))
    first = run_until(start(config, tmp_path), 4, tmp_path / "parts")
    torch.manual_seed(99)  # what another trial does in between
    second = start(config, tmp_path)
    assert second.resumed_epoch == pytest.approx(4 / 3)
    rest = list(second.reports(tmp_path / "parts"))
    assert not second.warnings
    assert timeless([*first, *rest]) == timeless(whole)
    assert second.history == [(r.epoch, r.metrics) for r in [*first, *rest] if r.metrics]
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("method", "steps"), [("backmix", 1), ("backmix", 3), ("backmix", 5), ("backmix", 8), ("arpl-cs", 5)]
)
def test_it_may_be_interrupted_after_any_step(method: str, steps: int, tmp_path: Path) -> None:
    config = trial(method=method, gan_width=4)  # 5 of 3 steps an epoch is within the second pass of one with two
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    run_until(start(config, tmp_path), steps, tmp_path / "parts")
    list(start(config, tmp_path).reports(tmp_path / "parts"))
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("train", ["all", "head"])
def test_a_network_that_others_trained_is_fine_tuned_to_the_same_end(train: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.save(network_of(trial(method="plain"), 3, 32).state_dict(), tmp_path / "given.pt")
    config = trial(method="plain", weights=str(tmp_path / "given.pt"), train=train)
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    run_until(start(config, tmp_path), 4, tmp_path / "parts")
    list(start(config, tmp_path).reports(tmp_path / "parts"))
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    given, ended = torch.load(tmp_path / "given.pt", weights_only=True), weights_of(tmp_path / "parts")
    assert not torch.equal(given["head.weight"], ended["head.weight"])
    assert torch.equal(given["stem.weight"], ended["stem.weight"]) == (train == "head")


def test_interruptions_may_follow_each_other(tmp_path: Path) -> None:
    config = trial(method="backmix", recipe="official")
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    for steps in range(1, 9):
        run_until(start(config, tmp_path), steps, tmp_path / "parts")
    list(start(config, tmp_path).reports(tmp_path / "parts"))
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_crash_in_the_evaluation_costs_no_training(tmp_path: Path) -> None:
    config = trial(method="plain")
    list(start(config, tmp_path, checkpoints=None).reports(tmp_path / "whole"))
    (tmp_path / "out").write_text("where a folder should be")
    with pytest.raises(FileExistsError):
        list(start(config, tmp_path).reports(tmp_path / "out"))
    again = start(config, tmp_path)
    assert again.resumed_epoch == 3
    assert [epoch for epoch, _ in again.history] == [1, 2]
    (report,) = again.reports(tmp_path / "again")
    assert report.last
    assert report.metrics["train/images_per_second"] > 0
    assert_same_end(tmp_path / "whole", tmp_path / "again")


def test_epochs_that_a_driver_may_have_missed_are_in_the_history(tmp_path: Path) -> None:
    config = trial(method="plain")
    seen = run_until(start(config, tmp_path), 7, tmp_path / "out")
    resumed = start(config, tmp_path)
    assert resumed.history == [(r.epoch, r.metrics) for r in seen if r.metrics]
    assert [r.epoch for r in resumed.reports(tmp_path / "out")] == [3]


def test_ticks_lie_between_steps_and_show_no_metrics(tmp_path: Path) -> None:
    reports = list(start(trial(method="plain"), tmp_path).reports(tmp_path / "out", tick=0))
    assert [round(3 * r.progress) for r in reports] == list(range(1, 10))
    assert [r.epoch for r in reports] == [0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert [bool(r.metrics) for r in reports] == [False, False, True] * 3
    assert [r.last for r in reports] == [False] * 8 + [True]


def test_the_speed_of_an_epoch_is_that_of_its_steps_before_and_after_the_interruption(tmp_path: Path) -> None:
    config = trial(method="plain", epochs=1)
    run_until(start(config, tmp_path), 2, tmp_path / "out")
    resumed = start(config, tmp_path)
    before = resumed.trainer.begin_epoch().seconds
    assert before > 0
    (report,) = resumed.reports(tmp_path / "out")
    assert report.metrics["train/images_per_second"] < 36 / before


def test_the_seconds_of_a_trial_go_on_after_an_interruption(tmp_path: Path) -> None:
    config = trial(method="plain")
    run_until(start(config, tmp_path), 7, tmp_path / "out")  # in the third epoch
    resumed = start(config, tmp_path)
    before, began = resumed.trainer.begin_epoch().seconds, time.perf_counter()
    (last,) = resumed.reports(tmp_path / "out")
    here = time.perf_counter() - began
    first, second, all_three = (m["train/seconds"] for _, m in resumed.history)
    assert 0 < first < second < all_three == last.metrics["train/seconds"]
    assert all_three <= second + before + here


def test_another_score_is_the_same_training(tmp_path: Path) -> None:
    run_until(start(trial(method="plain"), tmp_path), 4, tmp_path / "out")
    assert start(trial(method="plain", score="energy"), tmp_path).resumed_epoch > 1


def test_finished_weights_are_evaluated_on_other_sets_without_training(tmp_path: Path) -> None:
    config = trial(method="plain")
    data = images()
    *_, last = run_trial(config, data, CPU, tmp_path / "first")
    again = evaluate_again(config, data, CPU, tmp_path / "again", tmp_path / "first" / "weights.pt")
    assert again == {k: v for k, v in last.metrics.items() if not k.startswith("train/")}
    assert_same_end(tmp_path / "first", tmp_path / "again")
    more = replace(data, test={**data.test, "other": squares(20)[0].train})
    more.test["other"].labels[:] = -1
    metrics = evaluate_again(config, more, CPU, tmp_path / "more", tmp_path / "first" / "weights.pt")
    assert "test/other/msp/auroc" in metrics


@pytest.mark.parametrize("method", [m for m, parts in METHODS.items() if OBJECTIVES[parts["objective"]].own_head])
def test_weights_with_a_head_of_their_own_are_evaluated_again_to_the_same_scores(method: str, tmp_path: Path) -> None:
    config, data = trial(method=method, epochs=1, gan_width=4), images()
    *_, last = run_trial(config, data, CPU, tmp_path / "first", untrained_weights(config, data, tmp_path))
    again = evaluate_again(config, data, CPU, tmp_path / "again", tmp_path / "first" / "weights.pt")
    assert again == {k: v for k, v in last.metrics.items() if not k.startswith("train/")}
    assert again["test/auroc"] == again[f"test/unknown/{config.score}/auroc"]
    assert_same_end(tmp_path / "first", tmp_path / "again")
    scores = pd.read_parquet(tmp_path / "first" / "scores.parquet")
    assert scores[[config.score, *config.objective_settings.own_scores]].nunique().min() > 6  # of twelve images


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="does not hold the weights of wrn10-1"):
        evaluate_again(trial(method="plain"), images(), CPU, tmp_path, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="the weights are not at"):
        evaluate_again(trial(method="plain"), images(), CPU, tmp_path, tmp_path / "absent.pt")
