"""How long what is left takes: by the estimate, and by what trials took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from platform.running.pace import Pace
from platform.running.queue import Queue
from tests.helpers.queues import DISTILLED, ROWS, SEARCH, end, filled, plan
from trainables.settings.config import TrialConfig


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def minute(config: TrialConfig) -> float:
    """CutMix takes three."""
    return 180.0 if config.mix == "cutmix" else 60.0


def begin(pace: Pace, queue: Queue) -> None:
    """Two trials."""
    while len(queue.running) < 2 and (job := queue.next()):
        pace.placed(job.trial)


def finish(pace: Pace, queue: Queue) -> None:
    for job in list(queue.running.values()):
        job.trial.status = "finished"
        pace.ended(job.trial)
        end(queue, job)


def test_what_is_left_is_shared_by_the_workers_each_trial_with_its_own_time(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "splits: [0, 1]\n"), tmp_path)  # two at once
    assert Pace(minute).left_of(queue) == (60 + 180 + 60 + 180) / 2


def test_nothing_ends_before_its_longest_trial(tmp_path: Path) -> None:
    queue = filled(plan(ROWS), tmp_path)
    assert Pace(minute).left_of(queue) == 180  # not (60 + 180) / 2


def test_how_far_running_trials_are_counts(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "splits: [0, 1]\n"), tmp_path)
    pace = Pace(minute)
    begin(pace, queue)
    for job in queue.running.values():
        job.trial.epoch = 1.5  # of 3
    left = (60 + 180 + 60 + 180) - sum(minute(job.trial.config) / 2 for job in queue.running.values())
    assert pace.left_of(queue) == left / 2


@pytest.mark.parametrize(("resumed", "factor"), [(0, 2.0), (2, 1.0)])
def test_trials_that_took_longer_correct_the_estimate_unless_they_went_on_from_a_checkpoint(
    resumed: int, factor: float, tmp_path: Path
) -> None:
    queue, clock = filled(plan(ROWS + "splits: [0, 1]\n"), tmp_path), Clock()
    pace = Pace(lambda config: 60.0, clock)
    begin(pace, queue)
    clock.now = 120
    for job in queue.running.values():
        job.trial.resumed = resumed
    finish(pace, queue)
    assert pace.left_of(queue) == factor * 60 * 2 / 2


def test_without_an_estimate_nothing_is_said_until_a_trial_has_ended(tmp_path: Path) -> None:
    queue, clock = filled(plan(ROWS + "splits: [0, 1]\n"), tmp_path), Clock()
    pace = Pace(lambda config: None, clock)
    assert pace.left_of(queue) is None
    begin(pace, queue)
    clock.now = 100
    finish(pace, queue)
    assert pace.left_of(queue) == 100


def test_a_teacher_and_what_a_search_has_not_proposed_count(tmp_path: Path) -> None:
    two = filled(plan(DISTILLED + "splits: [0, 1]\n"), tmp_path)  # of each a teacher, its student, and CutMix
    assert Pace(minute).left_of(two) == 2 * (60 + 60 + 180) / 2
    assert Pace(minute).left_of(filled(plan(SEARCH), tmp_path)) == 3 * 60 / 2


def test_however_many_run_at_once_a_student_comes_after_its_teacher(tmp_path: Path) -> None:
    queue = filled(plan(DISTILLED), tmp_path)
    queue.at_once = lambda needs: 99
    assert Pace(lambda config: 60.0).left_of(queue) == 120


def test_what_another_process_trains_takes_no_worker_of_ours(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "splits: [0, 1]\n"), tmp_path)
    job = next(job for job in queue.open.values() if job.trial.config.mix == "cutmix")
    queue.elsewhere[job.identity] = job
    assert Pace(lambda config: 60.0).left_of(queue) == 3 * 60 / 2


def test_a_cluster_is_asked_once_for_all_trials_of_a_sweep(tmp_path: Path) -> None:
    queue, asked = filled(plan(ROWS + "splits: [0, 1]\n"), tmp_path), []
    queue.at_once = lambda needs: asked.append(needs) or 2  # type: ignore[func-returns-value]
    Pace(minute).left_of(queue)
    assert len(asked) == 1


def test_what_is_evaluated_again_takes_what_others_took_that_were(tmp_path: Path) -> None:
    queue, clock = filled(plan(ROWS + "splits: [0, 1]\n"), tmp_path), Clock()
    for job in queue.open.values():
        job.trial.evaluates_only = True
    pace = Pace(minute, clock)
    assert pace.left_of(queue) is None  # an estimate is of trainings
    begin(pace, queue)
    clock.now = 300
    finish(pace, queue)
    assert pace.left_of(queue) == 300
