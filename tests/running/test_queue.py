"""What is trained, in which order, and what is not: the queue by itself, with real plans and studies, without Ray."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from platform.files.spec import Spec
from platform.planning.plan import ImageSets, Plan, Sweep, make_plan
from platform.planning.results import Results
from platform.planning.search import Study
from platform.running import queue as queue_module
from platform.running.queue import ATTEMPTS, Job, Queue
from platform.tracking.claims import ClaimOutcome, Elsewhere, Finished, Ours
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import TrialState

BASE = "base: {method: plain, protocol: digits, backbone: wrn10-1, epochs: 3, images_per_class: 20}\n"
ROWS = f"name: rows\n{BASE}rows:\n  - {{name: Plain, set: {{}}}}\n  - {{name: CutMix, set: {{method: cutmix}}}}\n"
SEARCH = f"name: search\n{BASE}search: {{lr: {{float: [0.01, 0.1]}}}}\ntrials: 3\n"


@dataclass
class Memory:
    """A store that remembers what it was asked: claims are answered from `elsewhere` and `finished`."""

    finished: dict[str, FinishedTrial] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    reachable: bool = True

    def claim(self, trial: TrialState) -> ClaimOutcome:
        if trial.identity in self.finished:
            return Finished(self.finished[trial.identity])
        return Elsewhere("another process") if trial.identity in self.elsewhere else Ours("run")

    def fetch_weights(self, finished: FinishedTrial) -> bool:
        self.fetched.append(finished.identity)
        return self.reachable


def plan(*texts: str) -> Plan:
    sweeps = [
        Sweep(Path(f"{i}.yaml"), Spec.model_validate(yaml.safe_load(t)), "paper", ()) for i, t in enumerate(texts)
    ]
    return make_plan(sweeps, ImageSets(Path()), lambda path, profile: {})


def filled(
    of: Plan, folder: Path, store: Memory | None = None, finished: Mapping[str, FinishedTrial] | None = None
) -> Queue:
    studies = {s.name: Study(s.spec, of.identity(s.search), folder) for s in of.sweeps if s.search}
    queue = Queue(of, store or Memory(), Results(), studies, lambda needs: 2, lambda text: None)
    queue.finished |= finished or {}
    queue.fill()
    return queue


def metrics(value: float = 0.9, sets: tuple[str, ...] = ("digits",)) -> dict[str, float]:
    scores = [
        f"test/{name}/{score}/{metric}" for name in sets for score in ("msp", "mls") for metric in ("auroc", "oscr")
    ]
    scores += [f"val/pseudo-unknown/{score}/auroc" for score in ("msp", "mls")]
    return {"test/accuracy": value, **dict.fromkeys(scores, value)}


def just_finished(identity: str, of: Mapping[str, float]) -> FinishedTrial:
    details = json.dumps({"params": {}, "metrics": dict(of)})
    return FinishedTrial(identity, "earlier", "other", "row", "row", "sha", "false", time.time(), 1.0, "cpu", details)


def end(queue: Queue, job: Job, status: str = "finished", **values: Any) -> None:
    job.trial.status = status  # type: ignore[assignment]
    job.trial.metrics = metrics(**values)
    queue.ended(job)


def order(queue: Queue) -> Iterator[Job]:
    """Every job, each ended before the next is asked for."""
    while job := queue.next():
        yield job
        if job.identity in queue.running:
            end(queue, job)


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


def test_a_trial_that_found_no_memory_shares_its_gpu_with_fewer(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "resources: {gpus_per_worker: 0.3}\n"), tmp_path)
    job = queue.next()
    shares = []
    for said in ("torch.OutOfMemoryError: CUDA out of memory.", "OSError: no answer", "out of memory"):
        assert job is not None
        job.trial.status, job.trial.error, job.curable = "failed", said, True
        queue.tries_again(job)
        shares.append(job.resources.gpus)
        queue.running[job.identity] = job
    assert shares == [0.6, 0.6, 0.6]  # the last of three attempts has no other after it


def test_what_was_finished_before_is_cached(tmp_path: Path) -> None:
    of = plan(ROWS)
    finished = just_finished(of.cells[0].identity, metrics(0.7))
    queue = filled(of, tmp_path, finished={finished.identity: finished})
    assert [job.trial.row for job in order(queue)] == ["CutMix"]
    (cached,) = (o for o in queue.results.outcomes if o.status == "cached")
    assert (cached.place.row, cached.metrics["test/auroc"], cached.source) == ("Plain", 0.7, finished)


def test_a_finished_trial_that_lacks_a_set_is_only_evaluated(tmp_path: Path) -> None:
    of = plan(ROWS)
    finished = just_finished(of.cells[0].identity, {"test/accuracy": 0.9})
    store = Memory()
    queue = filled(of, tmp_path, store, {finished.identity: finished})
    job = queue.next()
    assert job is not None
    assert (job.trial.row, job.trial.evaluates_only, job.trial.run_id) == ("Plain", True, "earlier")
    assert store.fetched == [finished.identity]


def test_a_finished_closed_set_trial_needs_its_area_alone(tmp_path: Path) -> None:
    of = plan(ROWS.replace("base: {", "base: {evaluate: [], ") + "columns: {Acc.: test/accuracy, AUC: test/auc}\n")
    first, second = (just_finished(cell.identity, {"test/accuracy": 0.9}) for cell in of.cells)
    second = just_finished(second.identity, {"test/accuracy": 0.9, "test/auc": 0.8})
    queue = filled(of, tmp_path, Memory(), {finished.identity: finished for finished in (first, second)})
    job = queue.next()
    assert job is not None
    assert (job.trial.row, job.trial.evaluates_only) == ("Plain", True)
    assert queue.next() is None
    assert queue.results.values("rows", "CutMix", "test/auc") == {(0, 0): 0.8}


def test_an_evaluation_that_is_added_keeps_those_that_were_there(tmp_path: Path) -> None:
    of = plan(ROWS)
    finished = just_finished(of.cells[0].identity, {"test/textures/msp/auroc": 0.5, "test/textures/odin/auroc": 0.5})
    job = filled(of, tmp_path, Memory(), {finished.identity: finished}).next()
    assert job is not None
    assert set(job.trial.config.evaluation_sets) == {"digits", "textures"}
    assert job.trial.config.extra_scores == ("odin",)


def test_a_finished_trial_whose_weights_are_gone_is_trained_again(tmp_path: Path) -> None:
    of = plan(ROWS)
    finished = just_finished(of.cells[0].identity, {"test/accuracy": 0.9})
    queue = filled(of, tmp_path, Memory(reachable=False), {finished.identity: finished})
    job = queue.next()
    assert job is not None
    assert not job.trial.evaluates_only


def test_a_trial_that_another_process_finished_meanwhile_is_cached(tmp_path: Path) -> None:
    of = plan(ROWS)
    identity = of.cells[0].identity
    queue = filled(of, tmp_path, Memory(finished={identity: just_finished(identity, metrics())}))
    assert [job.trial.row for job in order(queue)] == ["CutMix"]
    assert queue.results.count("cached") == 1


def test_a_trial_that_another_process_trains_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "ASK_AGAIN", 0.0)
    of = plan(ROWS)
    identity = of.cells[0].identity
    store = Memory(elsewhere={identity})
    queue = filled(of, tmp_path, store)
    assert [job.trial.row for job in order(queue)] == ["CutMix"]
    assert not queue.done
    store.elsewhere.clear()
    store.finished[identity] = just_finished(identity, metrics())
    assert queue.next() is None
    assert queue.done
    assert queue.results.count("cached") == 1


def test_a_trial_whose_process_died_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "ASK_AGAIN", 0.0)
    of = plan(ROWS)
    store = Memory(elsewhere={of.cells[0].identity})
    queue = filled(of, tmp_path, store)
    assert [job.trial.row for job in order(queue)] == ["CutMix"]
    store.elsewhere.clear()
    assert [job.trial.row for job in order(queue)] == ["Plain"]


DISTILLED = ROWS.replace("set: {}", "set: {method: distill, teacher: {epochs: 9}}")


def test_a_teacher_comes_first_and_what_needs_none_goes_on_meanwhile(tmp_path: Path) -> None:
    queue = filled(plan(DISTILLED), tmp_path)
    teacher = queue.next()
    other = queue.next()
    assert teacher is not None
    assert other is not None
    assert (teacher.trial.phase, other.trial.row) == ("teacher", "CutMix")
    assert queue.next() is None
    end(queue, teacher)
    student = queue.next()
    assert student is not None
    assert student.trial.row == "Plain"


def test_one_teacher_serves_students_of_all_sweeps(tmp_path: Path) -> None:
    queue = filled(
        plan(DISTILLED, DISTILLED.replace("name: rows", "name: more").replace("distill,", "asymmetric,")), tmp_path
    )
    assert [job.trial.phase for job in order(queue)].count("teacher") == 1


def test_a_row_may_be_the_teacher_of_another(tmp_path: Path) -> None:
    queue = filled(plan(ROWS.replace("method: cutmix", "method: distill")), tmp_path)
    assert [job.trial.row for job in order(queue)] == ["Plain", "CutMix"]


def test_students_of_a_failed_teacher_are_left_out(tmp_path: Path) -> None:
    queue = filled(plan(DISTILLED), tmp_path)
    teacher = queue.next()
    assert teacher is not None
    end(queue, teacher, "failed")
    assert [job.trial.row for job in order(queue)] == ["CutMix"]
    assert queue.done
    assert queue.results.count("left out") == 1


def test_a_failure_that_may_pass_gets_more_attempts_but_not_for_ever(tmp_path: Path) -> None:
    queue = filled(plan(ROWS), tmp_path)
    tried = 0
    while job := queue.next():
        job.trial.status, job.curable = "failed", job.trial.row == "Plain"
        tried += job.trial.row == "Plain"
        if not queue.tries_again(job):
            queue.ended(job)
    assert tried == ATTEMPTS
    assert queue.results.count("failed") == 2


def test_a_search_asks_as_many_proposals_as_it_wants_and_then_confirms_the_best(tmp_path: Path) -> None:
    text = SEARCH + "confirm: {splits: [0, 1], baselines: [{name: Plain, set: {method: plain}}]}\n"
    queue = filled(plan(text), tmp_path)
    values = iter([0.5, 0.8, 0.6])
    jobs = []
    while job := queue.next():
        jobs.append(job)
        end(queue, job, value=next(values) if job.trial.phase == "search" else 0.9)
    searched = [job.trial for job in jobs if job.trial.phase == "search"]
    best = searched[1].searched["lr"]
    confirmed = [job.trial for job in jobs if job.trial.row == "best"]
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
    assert (job.identity, job.trial.searched) == (cut.identity, cut.trial.searched)
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


def test_a_search_proposes_the_next_when_its_teacher_is_there(tmp_path: Path) -> None:
    queue = filled(plan(TAUGHT.replace("trials: 3", "trials: 8")), tmp_path)
    teacher = queue.next()
    assert teacher is not None
    assert queue.next() is None
    assert len(list(queue.studies["search"].history())) == 1
    end(queue, teacher)
    assert [job.trial.phase for job in order(queue)] == ["search"] * 8


def test_a_teacher_that_failed_is_not_trained_for_every_proposal(tmp_path: Path) -> None:
    queue = filled(plan(TAUGHT.replace("trials: 3", "trials: 8")), tmp_path)
    trained = []
    while job := queue.next():
        trained.append(job.trial.phase)
        end(queue, job, "failed" if job.trial.phase == "teacher" else "finished")
    assert trained == ["teacher"]
    assert queue.done
    assert queue.results.count("left out") == 1


def test_a_row_that_comes_after_its_teacher_failed_is_left_out(tmp_path: Path) -> None:
    rows = DISTILLED.replace("set: {method: distill", "best_of: 0.yaml, set: {method: distill")
    queue = filled(plan(SEARCH, DISTILLED.replace("name: rows", "name: first"), rows), tmp_path)
    trained = []
    while job := queue.next():
        trained.append(job.trial.phase)
        end(queue, job, "failed" if job.trial.phase == "teacher" else "finished")
    assert trained.count("teacher") == 1
    assert [o.status for o in queue.results.of_row("rows", "Plain")] == ["left out"]


def test_a_row_for_which_too_few_settings_were_found_is_said_to_be_left_out(tmp_path: Path) -> None:
    text = SEARCH.replace("{float: [0.01, 0.1]}", "{choice: [0.01, 0.1]}").replace("trials: 3", "trials: 8")
    of = plan(text + "confirm: {top: 3}\n")
    said: list[str] = []
    queue = filled(of, tmp_path)
    queue.say = said.append
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
    assert (best.trial.phase, best.trial.config.lr) == ("confirm", theirs.trial.searched["lr"])
    assert other.results.best["search"][0] == theirs.trial.searched
    end(one, theirs) if theirs.identity in one.running else None
    again = one.next()
    assert again is not None
    assert again.trial.config.lr == theirs.trial.searched["lr"]


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
        (job.identity, "cached", job.trial.searched) for job in jobs
    ]
    assert again.results.best == first.results.best
    assert again.results.cached == 3


def test_a_row_takes_the_best_of_a_search_in_the_same_command(tmp_path: Path) -> None:
    rows = ROWS.replace("set: {}", "best_of: 0.yaml, set: {method: mixup}")
    queue = filled(plan(SEARCH, rows), tmp_path)
    jobs = list(order(queue))
    best = queue.studies["search"].best(1)[0].settings["lr"]
    (row,) = (job.trial for job in jobs if job.trial.row == "Plain")
    assert (row.config.method, row.config.lr) == ("mixup", best)
    assert [job.trial.phase for job in jobs].index("row") < len(jobs) - 1, "rows that need no search do not wait for it"


def test_a_row_on_several_workers_waits_until_they_fit(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "resources: {workers: 2}\nseeds: [0, 1]\n"), tmp_path)
    assert [queue.next() is not None for _ in range(3)] == [True, True, False]


def test_an_interrupt_keeps_what_ran_open(tmp_path: Path) -> None:
    queue = filled(plan(SEARCH), tmp_path)
    job = queue.next()
    assert job is not None
    assert queue.interrupt() == [job.trial]
    assert job.trial.status == "interrupted"
    assert [p.settings for p in queue.studies["search"].unfinished()] == [dict(job.trial.searched)]
