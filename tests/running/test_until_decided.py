"""`until: decided`: which trials a queue hands out, with made-up results, and what it decides when it is killed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from platform.planning.blocks import add_all_seeds, decided
from platform.planning.plan import Plan
from platform.running.job import Job
from platform.running.queue import Queue
from platform.tracking.index import FinishedTrial
from tests.helpers.queues import BASE, end, filled, plan

ROWS = f"""name: rows
{BASE}
splits: [0, 1]
until: {{max_seeds: 6, smallest: 2}}
columns: {{AUROC: test/auroc}}
rows:
  - {{name: Plain, set: {{}}}}
  - {{name: CutMix, set: {{method: cutmix}}}}
  - {{name: MixUp, set: {{method: distill, mix: mixup, teacher: {{epochs: 9}}}}}}
  - {{name: Alone, set: {{method: cutout}}}}
claims:
  - {{row: CutMix, over: Plain, columns: [AUROC], sign: "-"}}
  - {{row: MixUp, over: Plain, columns: [AUROC], sign: "+"}}
"""
MEANS = {"Plain": 0.9, "CutMix": 0.7, "MixUp": 0.915, "Alone": 0.5}


def auroc(job: Job) -> float:
    """The same for the same trial: a mean of its row, and noise of its identity."""
    return MEANS.get(job.trial.place.row, 0.0) + 0.01 * random.Random(job.identity).gauss(0, 1)


def jobs(queue: Queue) -> Iterator[Job]:
    while job := queue.next():
        yield job
        end(queue, job, value=auroc(job))


def trained(of: list[Job]) -> dict[str, list[int]]:
    """The seeds that each row was trained with on split 0."""
    found: dict[str, list[int]] = {}
    for job in of:
        if job.trial.config.split == 0:
            found.setdefault(job.trial.place.row, []).append(job.trial.config.seed)
    return found


def told(of: Plan, finished: dict[str, FinishedTrial]) -> dict[str, tuple[str, int, float]]:
    found = decided(of, of.sweeps[0], finished)
    return {one.claim.row: (one.outcome, one.n, one.interval.mean if one.interval else 0.0) for one in found}


def test_a_row_gets_seeds_until_its_claims_are_closed(tmp_path: Path) -> None:
    of = plan(ROWS)
    queue = filled(of, tmp_path)
    seeds = trained(list(jobs(queue)))
    closed = told(of, queue.finished)
    assert queue.done
    assert closed["CutMix"][:2] == ("holds", 3)
    assert closed["MixUp"][0] in ("holds", "smaller")
    assert seeds["CutMix"] == [0, 1, 2]
    assert seeds["Plain"] == seeds["MixUp"] == seeds["teacher wrn10-1"] == list(range(closed["MixUp"][1]))
    assert seeds["Alone"] == [0]  # of no claim
    assert 3 < closed["MixUp"][1] < 6


def test_a_claim_that_is_never_clear_ends_with_the_last_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEANS, "MixUp", 0.9)
    of = plan(ROWS.replace(", smallest: 2", ""))
    queue = filled(of, tmp_path)
    seeds = trained(list(jobs(queue)))
    assert told(of, queue.finished)["MixUp"][:2] == ("open", 6)
    assert seeds["MixUp"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", range(4))
def test_killed_at_any_moment_and_started_again_it_decides_the_same(order: int, tmp_path: Path) -> None:
    undisturbed = plan(ROWS)
    queue = filled(undisturbed, tmp_path)
    count = len(list(jobs(queue)))
    expected = told(undisturbed, queue.finished)

    moments = random.Random(order)
    finished: dict[str, FinishedTrial] = {}
    total = 0
    while True:
        of = plan(ROWS)
        add_all_seeds(of, finished)
        queue = filled(of, tmp_path, finished=dict(finished))
        lasts = moments.randrange(1, 9)
        for number, _ in enumerate(jobs(queue)):
            if number == lasts:  # killed: the job that was just handed out is lost
                break
            total += 1
        finished = dict(queue.finished)
        if queue.done:
            break
    assert told(of, finished) == expected
    assert total == count


def test_trials_that_end_in_another_order_decide_the_same(tmp_path: Path) -> None:
    """Four at once, the latest first: what is decided depends on the seeds' order alone."""
    of = plan(ROWS)
    queue = filled(of, tmp_path)
    running: list[Job] = []
    while not queue.done:
        while len(running) < 4 and (job := queue.next()):
            running.append(job)
        if running:
            last = running.pop()
            end(queue, last, value=auroc(last))
    one_by_one = plan(ROWS)
    alone = filled(one_by_one, tmp_path)
    list(jobs(alone))
    assert told(of, queue.finished) == told(one_by_one, alone.finished)


def test_a_trial_that_fails_leaves_its_claim_open_and_adds_no_seeds_to_it(tmp_path: Path) -> None:
    of = plan(ROWS)
    queue = filled(of, tmp_path)
    while job := queue.next():
        failed = (job.trial.place.row, job.trial.config.seed) == ("MixUp", 2)
        end(queue, job, "failed" if failed else "finished", value=auroc(job))
    assert queue.done
    assert told(of, queue.finished)["MixUp"][:2] == ("open", 2)
    assert told(of, queue.finished)["CutMix"][:2] == ("holds", 3)
