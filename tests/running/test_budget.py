"""A budget of hours: what is not started any more, with a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from platform import sweep
from platform.planning.plan import Plan
from platform.planning.results import Results
from platform.planning.search import Study
from platform.running.budget import HoursLeft
from platform.running.pace import Pace
from platform.running.queue import Queue
from tests.helpers.queues import DISTILLED, ROWS, SEARCH, Memory, end, just_finished, plan
from tests.helpers.sweeps import here, project
from trainables.settings.config import TrialConfig

HOUR = 3600.0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def worked_off(
    of: Plan,
    folder: Path,
    hours: float,
    *,
    took: float = 1.0,
    at_once: int = 1,
    guess: float | None = 1.0,
    of_devices: bool = False,
    longer: float = 1.0,
) -> tuple[Queue, list[str], float]:
    """A queue until its end: each trial is guessed to last `guess` hours and takes `took`, one of CutMix `longer` times
    as much. What was started, and how many hours it took."""
    clock = Clock()

    def times(config: TrialConfig) -> float:
        return longer if config.mix == "cutmix" else 1.0

    def seconds(config: TrialConfig) -> float | None:
        return None if guess is None else guess * HOUR * times(config)

    budget = HoursLeft(hours, Pace(seconds, clock), of_devices)
    studies = {s.name: Study(s.spec, of.identity(s.search), folder) for s in of.sweeps if s.search}
    queue = Queue(of, Memory(), Results(), studies, lambda needs: at_once, lambda text: None, budget)
    queue.fill()
    started: list[str] = []
    while not queue.done:
        while len(queue.running) < at_once and (job := queue.next()):
            started.append(job.trial.place.row)
            budget.pace.placed(job.trial)
        running = list(queue.running.values())
        clock.now += took * HOUR * max((times(job.trial.config) for job in running), default=0.0)
        for job in running:
            job.trial.status = "finished"
            budget.pace.ended(job.trial)
            end(queue, job)
    return queue, started, clock.now / HOUR


def test_no_trial_is_started_that_would_not_end_in_time(tmp_path: Path) -> None:
    queue, started, lasted = worked_off(plan(ROWS + "splits: [0, 1, 2]\n"), tmp_path, 4.5)
    assert started == ["Plain", "CutMix"] * 2
    assert lasted == 4.0
    assert queue.results.trials("not started") == 2
    assert set(queue.results.values("rows", "CutMix", "test/auroc")) == {(0, 0), (1, 0)}


def test_trials_that_run_at_once_share_the_hours(tmp_path: Path) -> None:
    _, started, lasted = worked_off(plan(ROWS + "splits: [0, 1, 2]\n"), tmp_path, 2.5, at_once=2)
    assert (len(started), lasted) == (4, 2.0)


def test_on_a_cluster_the_hours_are_of_all_its_devices(tmp_path: Path) -> None:
    text = ROWS + "splits: [0, 1, 2]\nresources: {gpus_per_worker: 1}\n"
    _, started, lasted = worked_off(plan(text), tmp_path, 2.5, at_once=2, of_devices=True)
    assert (len(started), lasted) == (2, 1.0)


def test_once_a_trial_does_not_fit_no_shorter_one_of_a_later_block_goes_ahead(tmp_path: Path) -> None:
    _, started, lasted = worked_off(plan(ROWS + "splits: [0, 1, 2]\n"), tmp_path, 6.5, longer=3.0)
    assert started == ["Plain", "CutMix", "Plain"]  # a second Plain alone would fit too
    assert lasted == 5.0


def test_what_depends_on_a_trial_that_runs_is_decided_when_that_has_ended(tmp_path: Path) -> None:
    of, clock = plan(ROWS + "splits: [0, 1]\n"), Clock()
    budget = HoursLeft(1.5, Pace(lambda config: HOUR, clock))
    queue = Queue(of, Memory(), Results(), {}, lambda needs: 1, lambda text: None, budget)
    queue.fill()
    first = queue.next()
    assert first is not None
    budget.pace.placed(first.trial)
    assert queue.next() is None  # an hour for this one and one for the next are too much, if they take that
    assert not queue.results.trials("not started")
    clock.now, first.trial.resumed, first.trial.status = 0.1 * HOUR, 2, "finished"  # it went on from a checkpoint
    budget.pace.ended(first.trial)
    end(queue, first)
    assert queue.next() is not None


def test_a_finished_trial_without_weights_that_there_is_no_time_for_is_left(tmp_path: Path) -> None:
    """It lacks an evaluation, and would have to be trained again."""
    of = plan(ROWS)
    there = {request.identity: just_finished(request.identity, {"test/accuracy": 0.9}) for request in of.requests}
    budget = HoursLeft(0.5, Pace(lambda config: HOUR, Clock()))
    store = Memory(there, reachable=False)
    queue = Queue(of, store, Results(), {}, lambda needs: 1, lambda text: None, budget)
    queue.finished |= there
    queue.fill()
    assert queue.next() is None
    assert queue.results.trials("not started") == len(of.requests)


def test_hours_of_a_cluster_count_the_share_of_a_gpu_that_trials_turned_out_to_need(tmp_path: Path) -> None:
    of = plan(ROWS + "resources: {gpus_per_worker: 0.125}\n")
    budget = HoursLeft(0.5, Pace(lambda config: HOUR, Clock()), of_devices=True)
    queue = Queue(of, Memory(), Results(), {}, lambda needs: 1, lambda text: None, budget)
    queue.fill()
    assert budget.fits(queue.ready[0], queue)  # an eighth of an hour
    job = queue.next()
    assert job is not None
    for _ in range(3):
        job.trial.status, job.trial.error, job.curable = "failed", "CUDA out of memory", True
        assert queue.tries_again(job)
        queue.ready.remove(job)
        queue.running[job.identity] = job
    assert queue.needs("rows").gpus == 1
    budget.pace.spent["rows"] = 0.6 * HOUR
    assert not budget.fits(queue.ready[0], queue)


def test_how_far_a_running_trial_is_counts(tmp_path: Path) -> None:
    of = plan(ROWS + "splits: [0, 1]\n")
    budget = HoursLeft(1.5, Pace(lambda config: HOUR, Clock()))
    queue = Queue(of, Memory(), Results(), {}, lambda needs: 1, lambda text: None, budget)
    queue.fill()
    first, second = queue.next(), queue.ready[0]
    assert first is not None
    budget.pace.placed(first.trial)
    assert budget.fits(second, queue) is None
    first.trial.epoch = 2  # of 3
    assert budget.fits(second, queue)


def test_what_trials_really_take_corrects_the_estimate(tmp_path: Path) -> None:
    _, started, lasted = worked_off(plan(ROWS + "splits: [0, 1, 2]\n"), tmp_path, 4.5, took=2.0)
    assert (len(started), lasted) == (2, 4.0)


def test_without_an_estimate_the_first_trial_tells(tmp_path: Path) -> None:
    _, started, lasted = worked_off(plan(ROWS + "splits: [0, 1, 2]\n"), tmp_path, 3.5, guess=None)
    assert (len(started), lasted) == (3, 3.0)


def test_a_teacher_is_not_started_without_time_for_a_student(tmp_path: Path) -> None:
    queue, started, _ = worked_off(plan(DISTILLED), tmp_path, 1.5)
    assert started == ["CutMix"]
    statuses = {o.place.row: o.status for o in queue.results.outcomes}
    assert statuses == {"CutMix": "finished", "Plain": "not started", "teacher wrn10-1": "not started"}


def test_a_search_ends_early_enough_to_confirm_its_best(tmp_path: Path) -> None:
    queue, started, lasted = worked_off(
        plan(SEARCH.replace("trials: 3", "trials: 9") + "confirm: {splits: [0, 1]}\n"), tmp_path, 5.5
    )
    assert started == ["search", "search", "search", "best", "best"]
    assert lasted == 5.0
    assert queue.studies["search"].left == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hours", "0"], "write a number above 0"),
        (["--hours", "nan"], "write a number above 0"),
        (["two.yaml"], "only some of the files"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(options: list[str], said: str, tmp_path: Path) -> None:
    project(tmp_path, ROWS + "budget: {hours: 1}\n", store=False)
    (tmp_path / "two.yaml").write_text(ROWS.replace("name: rows", "name: two"))
    done = here(sweep.main, tmp_path, "toy.yaml", *options)
    assert done.returncode == 2
    assert said in done.stderr
