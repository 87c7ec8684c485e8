"""In which order a table is trained: the queue by itself, block by block."""

from __future__ import annotations

from pathlib import Path

from platform.running.job import Job
from tests.helpers.queues import BASE, DISTILLED, ROWS, SEARCH, filled, just_finished, metrics, order, plan


def block(job: Job) -> tuple[int, int]:
    return job.trial.config.seed, job.trial.config.split


def test_a_block_is_every_row_of_a_split_and_seed_and_its_teacher_first(tmp_path: Path) -> None:
    queue = filled(plan(DISTILLED + "splits: [0, 1, 2]\nseeds: [0, 1]\n"), tmp_path)
    jobs = list(order(queue))
    rows = ["teacher wrn10-1", "CutMix", "Plain"]  # CutMix needs no teacher, and is ready before who waits for one
    assert [job.trial.place.row for job in jobs] == rows * 6
    assert [block(job) for job in jobs[::3]] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_asking_whether_there_is_work_leaves_the_rows_in_their_order(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "splits: [0]\n"), tmp_path)
    assert queue.has_work()
    assert [job.trial.place.row for job in order(queue)] == ["Plain", "CutMix"]


def test_a_table_cut_off_after_a_third_has_all_rows_on_fewer_splits(tmp_path: Path) -> None:
    queue = filled(plan(ROWS + "splits: [0, 1, 2]\n"), tmp_path)
    jobs = order(queue)
    for _ in range(2):
        next(jobs)
    next(jobs)  # asked for once more: the second has ended
    assert {row: set(queue.results.values("rows", row, "test/auroc")) for row in ("Plain", "CutMix")} == {
        "Plain": {(0, 0)},
        "CutMix": {(0, 0)},
    }


def test_a_block_that_was_begun_is_ended_first_by_the_next_process(tmp_path: Path) -> None:
    of = plan(ROWS + "splits: [0, 1]\n")
    done = next(request for request in of.requests if (request.place.row, request.place.split) == ("Plain", 0))
    queue = filled(of, tmp_path, finished={done.identity: just_finished(done.identity, metrics())})
    assert [(job.trial.place.row, block(job)) for job in order(queue)] == [
        ("CutMix", (0, 0)),
        ("Plain", (0, 1)),
        ("CutMix", (0, 1)),
    ]


def test_what_waits_for_a_search_holds_nothing_up_and_then_ends_its_blocks_in_order(tmp_path: Path) -> None:
    rows = f"name: rows\n{BASE}rows:\n  - {{name: Best, set: {{}}, best_of: 0.yaml}}\n  - {{name: Plain, set: {{}}}}\n"
    queue = filled(plan(SEARCH, rows + "splits: [0, 1]\n"), tmp_path)
    told = [(job.trial.place.row, block(job)) for job in order(queue)]
    assert told[:2] == [("Plain", (0, 0)), ("Plain", (0, 1))]
    assert told[-2:] == [("Best", (0, 0)), ("Best", (0, 1))]
