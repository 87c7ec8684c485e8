"""What a search adds to the queue: proposals, their confirmation, and what earlier or other processes searched."""

from __future__ import annotations

from pathlib import Path

import pytest

from platform.files.trial_settings import proposed
from platform.planning.plan import Plan
from platform.planning.search import Start
from platform.tracking.index import FinishedTrial
from tests.helpers.queues import DISTILLED, ROWS, SEARCH, Memory, end, filled, just_finished, metrics, order, plan


def test_a_search_asks_as_many_proposals_as_it_wants_and_then_confirms_the_best(tmp_path: Path) -> None:
    text = SEARCH + "confirm: {splits: [0, 1], baselines: [{name: Plain, set: {method: plain}}]}\n"
    queue = filled(plan(text), tmp_path)
    values = iter([0.5, 0.8, 0.6])
    jobs = []
    while job := queue.next():
        jobs.append(job)
        end(queue, job, value=next(values) if job.trial.place.phase == "search" else 0.9)
    searched = [job.trial for job in jobs if job.trial.place.phase == "search"]
    best = searched[1].place.searched["lr"]
    confirmed = [job.trial for job in jobs if job.trial.place.row == "best"]
    assert len(searched) == 3
    assert [trial.config.split for trial in confirmed] == [0, 1]
    assert {trial.config.lr for trial in confirmed} == {best}
    assert queue.done


def test_a_search_goes_on_with_what_an_earlier_process_proposed(tmp_path: Path) -> None:
    first = filled(plan(SEARCH), tmp_path)
    done, cut = first.next(), first.next()
    assert done is not None
    assert cut is not None
    end(first, done, value=0.7)
    again = filled(plan(SEARCH), tmp_path)
    job = again.next()
    assert job is not None
    assert (job.identity, job.trial.place.searched) == (cut.identity, cut.trial.place.searched)
    end(again, job)
    assert len(list(order(again))) == 1
    assert [told.status for told in again.studies["search"].history()] == ["finished"] * 3


def test_a_search_that_wants_more_adds_to_what_it_has(tmp_path: Path) -> None:
    assert len(list(order(filled(plan(SEARCH), tmp_path)))) == 3
    assert len(list(order(filled(plan(SEARCH.replace("trials: 3", "trials: 5")), tmp_path)))) == 2


def test_equal_proposals_are_trained_once(tmp_path: Path) -> None:
    text = SEARCH.replace("{float: [0.01, 0.1]}", "{choice: [0.01, 0.1]}").replace("trials: 3", "trials: 8")
    queue = filled(plan(text), tmp_path)
    assert len(list(order(queue))) == 2
    assert queue.results.count("finished", "cached") == 8


def test_early_stopping_ends_what_only_a_search_wants(tmp_path: Path) -> None:
    queue = filled(plan(SEARCH + "scheduler: {asha: {grace_epochs: 1, reduction_factor: 2}}\n"), tmp_path)
    stopped = []
    for value, job in zip((0.9, 0.1, 0.5), iter(queue.next, None), strict=False):
        job.trial.epoch, job.trial.metrics = 1, metrics(value)
        stopped.append(queue.stops(job))
        end(queue, job, "stopped" if stopped[-1] else "finished", value=value)
    assert stopped == [False, True, True]
    assert queue.results.count("stopped") == 2


TAUGHT = SEARCH.replace("method: plain", "method: distill, teacher: {epochs: 9}")


def test_early_stopping_does_not_end_what_is_somebodys_teacher(tmp_path: Path) -> None:
    taught = TAUGHT.replace("name: search", "name: taught").replace("epochs: 9", "lr: 0.1")
    queue = filled(plan(SEARCH + "scheduler: {asha: {grace_epochs: 1, reduction_factor: 2}}\n", taught), tmp_path)
    queue.studies["search"].begin_with(Start(guesses=[{"lr": 0.1}]))
    teacher, better, worse = queue.next(), queue.next(), queue.next()
    stopped = []
    for value, job in ((0.9, better), (0.1, teacher), (0.1, worse)):
        assert job is not None
        assert [request.place.sweep for request in job.requests] == ["search"]
        job.trial.epoch, job.trial.metrics = 1, metrics(value)
        stopped.append(queue.stops(job))
    assert stopped == [False, False, True]
    assert teacher is not None
    end(queue, teacher, value=0.1)
    assert "taught" in {job.trial.place.sweep for job in order(queue)}


def test_a_search_proposes_the_next_when_its_teacher_is_there(tmp_path: Path) -> None:
    queue = filled(plan(TAUGHT.replace("trials: 3", "trials: 8")), tmp_path)
    teacher = queue.next()
    assert teacher is not None
    assert queue.next() is None
    assert len(list(queue.studies["search"].history())) == 1
    end(queue, teacher)
    assert [job.trial.place.phase for job in order(queue)] == ["search"] * 8


def test_a_teacher_that_failed_is_not_trained_for_every_proposal(tmp_path: Path) -> None:
    queue = filled(plan(TAUGHT.replace("trials: 3", "trials: 8")), tmp_path)
    trained = []
    while job := queue.next():
        trained.append(job.trial.place.phase)
        end(queue, job, "failed" if job.trial.place.phase == "teacher" else "finished")
    assert trained == ["teacher"]
    assert queue.done
    assert queue.results.count("left out") == 1


def test_a_row_that_comes_after_its_teacher_failed_is_left_out(tmp_path: Path) -> None:
    rows = DISTILLED.replace("set: {method: distill", "best_of: 0.yaml, set: {method: distill")
    queue = filled(plan(SEARCH, DISTILLED.replace("name: rows", "name: first"), rows), tmp_path)
    trained = []
    while job := queue.next():
        trained.append(job.trial.place.phase)
        end(queue, job, "failed" if job.trial.place.phase == "teacher" else "finished")
    assert trained.count("teacher") == 1
    assert [o.status for o in queue.results.of_row("rows", "Plain")] == ["left out"]


def test_a_row_for_which_too_few_settings_were_found_is_said_to_be_left_out(tmp_path: Path) -> None:
    text = SEARCH.replace("{float: [0.01, 0.1]}", "{choice: [0.01, 0.1]}").replace("trials: 3", "trials: 8")
    of = plan(text + "confirm: {top: 3}\n")
    said: list[str] = []
    queue = filled(of, tmp_path, say=said.append)
    list(order(queue))
    assert of.sweeps[0].rows == ["best 1", "best 2"]
    assert said == ["best 3 of search is left out: only 2 distinct settings finished in the search"]


def test_a_search_that_others_share_ends_with_their_last_proposal_and_has_their_best(tmp_path: Path) -> None:
    text = SEARCH + "confirm: {}\n"
    one, other = filled(plan(text), tmp_path), filled(plan(text), tmp_path)
    theirs = one.next()
    ours = [other.next(), other.next()]
    assert theirs is not None
    other_store = other.store
    assert isinstance(other_store, Memory)
    other_store.elsewhere.add(theirs.identity)  # as MLflow says it
    for job in ours:
        assert job is not None
        end(other, job, value=0.5)
    assert other.next() is None
    assert not other.done
    end(one, theirs, value=0.9)
    other_store.elsewhere.clear()
    other_store.finished[theirs.identity] = just_finished(theirs.identity, metrics(0.9))
    other.elsewhere[theirs.identity].asked = -1e9
    best = other.next()
    assert best is not None
    assert (best.trial.place.phase, best.trial.config.lr) == ("confirm", theirs.trial.place.searched["lr"])
    assert other.results.best["search"][0] == theirs.trial.place.searched
    end(one, theirs) if theirs.identity in one.running else None
    again = one.next()
    assert again is not None
    assert again.trial.config.lr == theirs.trial.place.searched["lr"]


@pytest.mark.parametrize("ending", ["stopped", "failed"])
def test_a_proposal_that_another_process_stopped_is_not_trained_again(ending: str, tmp_path: Path) -> None:
    text = SEARCH + "scheduler: {asha: {grace_epochs: 1, reduction_factor: 2}}\n"
    one = filled(plan(text), tmp_path)
    theirs = one.next()
    assert theirs is not None
    other = filled(plan(text), tmp_path, Memory(elsewhere={theirs.identity}))
    ours = other.next()  # theirs is waited for
    assert ours is not None
    assert ours.identity != theirs.identity
    end(one, theirs, ending)
    assert isinstance(other.store, Memory)
    other.store.elsewhere.clear()  # its run has ended, and does not count
    other.elsewhere[theirs.identity].asked = -1e9
    end(other, ours)
    assert theirs.identity not in [job.identity for job in order(other)]
    assert other.done
    assert [o.status for o in other.results.earlier] == [ending]


def test_what_earlier_processes_searched_is_among_the_results(tmp_path: Path) -> None:
    first = filled(plan(SEARCH), tmp_path)
    jobs = list(order(first))
    again = filled(plan(SEARCH), tmp_path)
    assert not again.has_work()
    assert [(o.identity, o.status, o.place.searched) for o in again.results.of("search", "search")] == [
        (job.identity, "cached", job.trial.place.searched) for job in jobs
    ]
    assert again.results.best == first.results.best
    assert again.results.cached == 3


def test_a_row_takes_the_best_of_a_search_in_the_same_command(tmp_path: Path) -> None:
    rows = ROWS.replace("set: {}", "best_of: 0.yaml, set: {method: mixup}")
    queue = filled(plan(SEARCH, rows), tmp_path)
    jobs = list(order(queue))
    best = queue.studies["search"].best(1)[0].settings["lr"]
    (row,) = (job.trial for job in jobs if job.trial.place.row == "Plain")
    assert (row.config.method, row.config.lr) == ("mixup", best)
    phases = [job.trial.place.phase for job in jobs]
    assert phases.index("row") < len(jobs) - 1, "rows that need no search do not wait for it"


BY_ACCURACY = SEARCH.replace("{float: [0.01, 0.1]}", "{choice: [0.01, 0.1]}") + "objective: {metric: val/accuracy}\n"


def of_an_older_version(of: Plan) -> dict[str, FinishedTrial]:
    """All that the search may propose, finished without the metric that it is judged by."""
    configs = [config for lr in (0.01, 0.1) for config in proposed(of.sweeps[0].spec, {"lr": lr})]
    return {identity: just_finished(identity, metrics()) for identity in map(of.identity, configs)}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_finished_trial_without_what_the_search_is_judged_by_is_evaluated_once_more(
    elsewhere: bool, tmp_path: Path
) -> None:
    of = plan(BY_ACCURACY)
    older = of_an_older_version(of)  # known from the start, or trained by another process meanwhile
    queue = filled(of, tmp_path, Memory(finished=older if elsewhere else {}), {} if elsewhere else older)
    while job := queue.next():
        assert job.trial.evaluates_only
        job.trial.status, job.trial.metrics = "finished", {**metrics(), "val/accuracy": 0.7}
        queue.ended(job)
    assert queue.results.evaluated == 2
    assert [told.metrics for told in queue.studies["search"].history()] == [{"val/accuracy": 0.7}] * 3


@pytest.mark.parametrize("elsewhere", [False, True])
def test_one_whose_weights_are_gone_as_well_is_trained_again(elsewhere: bool, tmp_path: Path) -> None:
    of = plan(BY_ACCURACY)
    older = of_an_older_version(of)
    store = Memory(finished=older, reachable=False)
    job = filled(of, tmp_path, store, {} if elsewhere else older).next()
    assert job is not None
    assert not job.trial.evaluates_only


def test_a_trial_that_cannot_be_judged_has_failed_and_says_why(tmp_path: Path) -> None:
    of = plan(BY_ACCURACY)
    queue = filled(of, tmp_path, finished=of_an_older_version(of))
    job = queue.next()
    assert job is not None
    end(queue, job)
    (outcome,) = queue.results.outcomes
    assert outcome.status == "failed"
    assert outcome.error == "run earlier has no val/accuracy, evaluated anew: judge by another metric"
    assert [told.status for told in queue.studies["search"].history()] == ["failed"]
