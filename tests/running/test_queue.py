"""What is trained, in which order, and what is not: the queue by itself, with real plans and studies, without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from platform.running import queue as queue_module
from platform.running.queue import ATTEMPTS, Queue
from tests.helpers.queues import DISTILLED, ROWS, SEARCH, Memory, end, filled, just_finished, metrics, order, plan


def test_every_cell_gets_a_result(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "splits: [0, 1]\nseeds: [0, 1, 2]\n"), tmp_path)
    assert len(list(order(queue))) == 2 * 2 * 3
    assert queue.done
    assert queue.results.count("finished") == 12
    assert len(queue.results.values("rows", "CutMix", "test/auroc")) == 6


def test_a_trial_that_two_sweeps_want_is_trained_once(tmp_path: Path) -> None:
    queue = filled(plan(ROWS, ROWS.replace("name: rows", "name: again").replace("cutmix", "mixup")), tmp_path)
    assert [job.trial.config.method for job in order(queue)] == ["plain", "cutmix", "mixup"]
    assert queue.results.values("again", "Plain", "test/auroc") == queue.results.values("rows", "Plain", "test/auroc")


def test_rows_that_mean_the_same_training_are_one_trial(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "  - {name: By MLS, set: {score: mls}}\n"), tmp_path)
    jobs = list(order(queue))
    assert len(jobs) == 2
    assert queue.results.rows("rows") == ["Plain", "CutMix", "By MLS"]


def shares_tried(queue: Queue, *said: str) -> list[float]:
    """Of a GPU, by the first trial: at first, and in each attempt after one that failed so; until there is none."""
    job = queue.next()
    assert job is not None
    shares = [job.resources.gpus]
    for error in said:
        job.trial.status, job.trial.error, job.curable = "failed", error, True
        if not queue.tries_again(job):
            break
        queue.ready.remove(job)
        queue.running[job.identity] = job
        shares.append(job.resources.gpus)
    return shares


def test_a_trial_that_found_no_memory_shares_its_gpu_with_fewer(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "resources: {gpus_per_worker: 0.3}\n"), tmp_path)
    said = ("torch.OutOfMemoryError: CUDA out of memory.", "OSError: no answer", "out of memory")
    assert shares_tried(queue, *said) == [0.3, 0.6, 0.6, 1.0]


def test_all_attempts_are_left_to_a_trial_that_has_a_gpu_of_its_own_at_last(tmp_path: Path) -> None:
    told: list[str] = []
    queue = filled(plan(ROWS + "resources: {gpus_per_worker: 0.125}\n"), tmp_path, say=told.append)
    shares = shares_tried(queue, *["CUDA out of memory"] * 99)
    assert shares == [0.125, 0.25, 0.5, *[1.0] * ATTEMPTS]
    assert told[0].endswith("CUDA out of memory; attempt 2 of 4 follows, with 0.25 of a GPU")
    assert told[-1].endswith("CUDA out of memory; attempt 6 of 6 follows")


def test_where_a_trial_found_no_memory_the_later_ones_of_its_sweep_have_fewer_beside_them(tmp_path: Path) -> None:
    shared = ROWS + "resources: {gpus_per_worker: 0.25}\n"
    other = shared.replace("name: rows", "name: other").replace("cutmix", "mixup")
    queue = filled(plan(DISTILLED + "resources: {gpus_per_worker: 0.25}\n", other), tmp_path)
    assert shares_tried(queue, "CUDA out of memory") == [0.25, 0.5]
    asked = {(job.trial.place.sweep, job.resources.gpus) for job in order(queue)}
    assert asked == {("rows", 0.5), ("other", 0.25)}


def test_what_was_finished_before_is_cached(tmp_path: Path) -> None:
    of = plan(ROWS)
    finished = just_finished(of.requests[0].identity, metrics(0.7))
    queue = filled(of, tmp_path, finished={finished.identity: finished})
    assert [job.trial.place.row for job in order(queue)] == ["CutMix"]
    (cached,) = (o for o in queue.results.outcomes if o.status == "cached")
    assert (cached.place.row, cached.metrics["test/auroc"], cached.source) == ("Plain", 0.7, finished)


def test_a_finished_trial_that_lacks_a_set_is_only_evaluated(tmp_path: Path) -> None:
    of = plan(ROWS)
    finished = just_finished(of.requests[0].identity, {"test/accuracy": 0.9})
    store = Memory()
    queue = filled(of, tmp_path, store, {finished.identity: finished})
    job = queue.next()
    assert job is not None
    assert (job.trial.place.row, job.trial.evaluates_only, job.trial.run_id) == ("Plain", True, "earlier")
    assert store.fetched == [finished.identity]


def test_a_finished_closed_set_trial_needs_its_area_alone(tmp_path: Path) -> None:
    of = plan(ROWS.replace("base: {", "base: {evaluate: [], ") + "columns: {Acc.: test/accuracy, AUC: test/auc}\n")
    first, second = (just_finished(request.identity, {"test/accuracy": 0.9}) for request in of.requests)
    second = just_finished(second.identity, {"test/accuracy": 0.9, "test/auc": 0.8})
    queue = filled(of, tmp_path, Memory(), {finished.identity: finished for finished in (first, second)})
    job = queue.next()
    assert job is not None
    assert (job.trial.place.row, job.trial.evaluates_only) == ("Plain", True)
    assert queue.next() is None
    assert queue.results.values("rows", "CutMix", "test/auc") == {(0, 0): 0.8}


def test_an_evaluation_that_is_added_keeps_those_that_were_there(tmp_path: Path) -> None:
    of = plan(ROWS)
    finished = just_finished(of.requests[0].identity, {"test/textures/msp/auroc": 0.5, "test/textures/odin/auroc": 0.5})
    job = filled(of, tmp_path, Memory(), {finished.identity: finished}).next()
    assert job is not None
    assert set(job.trial.config.evaluation_sets) == {"digits", "textures"}
    assert job.trial.config.extra_scores == ("odin",)


def test_a_finished_trial_whose_weights_are_gone_is_trained_again(tmp_path: Path) -> None:
    of = plan(ROWS)
    finished = just_finished(of.requests[0].identity, {"test/accuracy": 0.9})
    there = {finished.identity: finished}
    queue = filled(of, tmp_path, Memory(there, reachable=False), there)
    job = queue.next()
    assert job is not None
    assert (job.identity, job.trial.evaluates_only) == (finished.identity, False)


def test_a_finished_teacher_whose_weights_are_gone_is_trained_again(tmp_path: Path) -> None:
    of = plan(DISTILLED)
    student = next(request for request in of.requests if request.config.teacher)
    assert student.config.teacher is not None
    teacher = just_finished(of.identity(student.config.teacher), metrics())
    store = Memory({teacher.identity: teacher}, reachable=False)
    queue = filled(of, tmp_path, store, store.finished)
    first = queue.next()
    assert first is not None
    assert (first.identity, first.trial.place.phase) == (teacher.identity, "teacher")
    store.reachable = True
    end(queue, first)
    assert {job.identity for job in order(queue)} == {request.identity for request in of.requests}


def test_a_trial_that_another_process_finished_meanwhile_is_cached(tmp_path: Path) -> None:
    of = plan(ROWS)
    identity = of.requests[0].identity
    queue = filled(of, tmp_path, Memory(finished={identity: just_finished(identity, metrics())}))
    assert [job.trial.place.row for job in order(queue)] == ["CutMix"]
    assert queue.results.count("cached") == 1


def test_a_trial_that_another_process_trains_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "ASK_AGAIN", 0.0)
    of = plan(ROWS)
    identity = of.requests[0].identity
    store = Memory(elsewhere={identity})
    queue = filled(of, tmp_path, store)
    assert [job.trial.place.row for job in order(queue)] == ["CutMix"]
    assert not queue.done
    store.elsewhere.clear()
    store.finished[identity] = just_finished(identity, metrics())
    assert queue.next() is None
    assert queue.done
    assert queue.results.count("cached") == 1


def test_a_trial_whose_process_died_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "ASK_AGAIN", 0.0)
    of = plan(ROWS)
    store = Memory(elsewhere={of.requests[0].identity})
    queue = filled(of, tmp_path, store)
    assert [job.trial.place.row for job in order(queue)] == ["CutMix"]
    store.elsewhere.clear()
    assert [job.trial.place.row for job in order(queue)] == ["Plain"]


def test_a_teacher_comes_first_and_what_needs_none_goes_on_meanwhile(tmp_path: Path) -> None:
    queue = filled(plan(DISTILLED), tmp_path)
    teacher = queue.next()
    other = queue.next()
    assert teacher is not None
    assert other is not None
    assert (teacher.trial.place.phase, other.trial.place.row) == ("teacher", "CutMix")
    assert queue.next() is None
    end(queue, teacher)
    student = queue.next()
    assert student is not None
    assert student.trial.place.row == "Plain"


def test_one_teacher_serves_students_of_all_sweeps(tmp_path: Path) -> None:
    queue = filled(
        plan(DISTILLED, DISTILLED.replace("name: rows", "name: more").replace("distill,", "asymmetric,")), tmp_path
    )
    assert [job.trial.place.phase for job in order(queue)].count("teacher") == 1


def test_a_row_may_be_the_teacher_of_another(tmp_path: Path) -> None:
    queue = filled(plan(ROWS.replace("method: cutmix", "method: distill")), tmp_path)
    assert [job.trial.place.row for job in order(queue)] == ["Plain", "CutMix"]


def test_students_of_a_failed_teacher_are_left_out(tmp_path: Path) -> None:
    queue = filled(plan(DISTILLED), tmp_path)
    teacher = queue.next()
    assert teacher is not None
    end(queue, teacher, "failed")
    assert [job.trial.place.row for job in order(queue)] == ["CutMix"]
    assert queue.done
    assert queue.results.count("left out") == 1


def test_a_failure_that_may_pass_gets_more_attempts_but_not_for_ever(tmp_path: Path) -> None:
    queue = filled(plan(ROWS), tmp_path)
    tried = 0
    while job := queue.next():
        job.trial.status, job.curable = "failed", job.trial.place.row == "Plain"
        tried += job.trial.place.row == "Plain"
        if not queue.tries_again(job):
            queue.ended(job)
    assert tried == ATTEMPTS
    assert queue.results.count("failed") == 2


def test_a_row_on_several_workers_waits_until_they_fit(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "resources: {workers: 2}\nseeds: [0, 1]\n"), tmp_path)
    assert [queue.next() is not None for _ in range(3)] == [True, True, False]


def test_an_interrupt_keeps_what_ran_open(tmp_path: Path) -> None:
    queue = filled(plan(SEARCH), tmp_path)
    job = queue.next()
    assert job is not None
    assert queue.interrupt() == [job.trial]
    assert job.trial.status == "interrupted"
    assert [p.settings for p in queue.studies["search"].unfinished()] == [dict(job.trial.place.searched)]


def test_an_interrupt_counts_what_had_failed_and_was_to_be_tried_again(tmp_path: Path) -> None:
    queue = filled(plan(ROWS), tmp_path)
    job = queue.next()
    assert job is not None
    job.trial.status, job.curable = "failed", True
    assert queue.tries_again(job)
    assert queue.interrupt() == [job.trial]
    assert queue.results.count("interrupted") == 1
