"""A search whose proposals are judged by the mean of several trainings: nothing is trained twice, or in vain."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from platform.planning.work import work
from platform.running.queue import Queue
from platform.terminal.tables import sweep_table, trials_table
from tests.helpers.queues import SEARCH, end, filled, just_finished, metrics, order, plan

MEANS = SEARCH + "splits: [0, 1]\nseeds: [3, 4]\n"
ASHA = "scheduler: {asha: {grace_epochs: 1, reduction_factor: 2}}\n"
PLACES = [(0, 3), (1, 3), (0, 4), (1, 4)]  # the first seed on all splits, since a split says more


def train(queue: Queue, *values: float) -> list[tuple[int, int, int]]:
    """Every training in turn, `values` at its end: of which proposal, on which split and seed."""
    trained = []
    for value in values:
        job = queue.next()
        assert job is not None
        trained.append((job.trial.place.number, job.trial.config.split, job.trial.config.seed))
        end(queue, job, value=value)
    return trained


def told(queue: Queue) -> list[tuple[str, float | None]]:
    return [(one.status, one.metrics.get("val/auroc")) for one in queue.studies["search"].history()]


def shown(queue: Queue) -> str:
    """The tables before and after, without their frames."""
    (sweep,) = queue.plan.sweeps
    console = Console(width=240)
    with console.capture() as capture:
        console.print(sweep_table(sweep, queue.plan.images, 1))
        console.print(trials_table(sweep, queue.studies["search"], queue.results))
    return " ".join(capture.get().replace("│", " ").split())


def test_a_proposal_is_trained_on_every_split_and_seed_and_judged_by_the_mean(tmp_path: Path) -> None:
    queue = filled(plan(MEANS), tmp_path)
    trained = train(queue, 0.9, 0.8, 0.7, 0.6, *[0.2] * 8)
    assert trained == [(number, *place) for number in (1, 2, 3) for place in PLACES]
    assert told(queue) == [("finished", pytest.approx(0.75)), *[("finished", pytest.approx(0.2))] * 2]
    assert queue.next() is None
    assert queue.results.best["search"] == [queue.studies["search"].best(1)[0].settings]
    of_best = dict(queue.results.of_best("search", ["val/auroc"]))
    assert of_best["search/best/val/auroc/mean"] == pytest.approx(0.75)
    assert of_best["search/best/val/auroc/n"] == 4
    said = shown(queue)
    assert "3 trials of 4 trainings each by Optuna (tpe)" in said
    assert "mean over splits [0, 1] × seeds [3, 4], from training images only" in said
    assert "by the mean ± std of 4 trainings" in said
    assert "0.750 ± 0.129" in said
    assert "and 3 more" in said


def test_a_proposal_is_stopped_as_a_whole_by_the_mean_so_far(tmp_path: Path) -> None:
    queue = filled(plan(MEANS + ASHA), tmp_path)
    train(queue, 0.9)  # of the first proposal, whose others are to come
    good = queue.next()
    assert good is not None
    good.trial.epoch, good.trial.metrics = 1, metrics(0.7)
    assert not queue.stops(good)
    other = queue.next()  # the second one begins beside it
    assert other is not None
    assert (other.trial.place.number, other.trial.config.split) == (2, 0)
    other.trial.epoch, other.trial.metrics, other.trial.run_id = 1, metrics(0.1), "run"
    assert queue.stops(other)
    end(queue, other, "stopped", value=0.1)
    assert told(queue)[1] == ("stopped", 0.1)
    end(queue, good, value=0.7)
    rest = [(job.trial.place.number, job.trial.config.split) for job in order(queue) if job.trial.place.number < 3]
    assert rest == [(1, 0), (1, 1)]  # none of the second
    assert queue.results.spared == 3


def test_early_stopping_sees_the_mean_over_the_epochs_of_all_trainings(tmp_path: Path) -> None:
    queue = filled(plan(MEANS + ASHA), tmp_path)
    train(queue, 0.9)
    job = queue.next()
    assert job is not None
    job.trial.epoch, job.trial.metrics = 2, metrics(0.5)
    queue.stops(job)
    (trial,) = queue.studies["search"]._trials()
    assert trial.intermediate_values == {3 + 2: pytest.approx(0.7)}


def test_a_training_that_fails_ends_its_proposal_and_those_that_have_not_begun(tmp_path: Path) -> None:
    queue = filled(plan(MEANS), tmp_path)
    train(queue, 0.9)
    job = queue.next()
    assert job is not None
    end(queue, job, "failed")
    assert [status for status, _ in told(queue)] == ["failed"]
    assert {job.trial.place.number for job in order(queue)} == {2, 3}
    assert queue.done


def test_finished_trainings_count_and_only_the_others_are_trained(tmp_path: Path) -> None:
    first = filled(plan(MEANS), tmp_path / "first")
    jobs = [job for job in (first.next(), first.next()) if job]
    there = {job.identity: just_finished(job.identity, metrics(0.5)) for job in jobs}
    again = filled(plan(MEANS + ASHA), tmp_path / "again", finished=there)
    assert train(again, 0.9, 0.7)[:2] == [(1, 0, 4), (1, 1, 4)]
    assert told(again)[0] == ("finished", pytest.approx((0.5 + 0.5 + 0.9 + 0.7) / 4))


@pytest.mark.parametrize("more", ["", ASHA], ids=["together", "one by one"])
def test_a_search_that_was_killed_trains_what_its_proposals_lack(more: str, tmp_path: Path) -> None:
    of = plan(MEANS + more)
    killed = filled(of, tmp_path)
    train(killed, 0.9, 0.8)
    assert killed.next() is not None  # under way as it is killed
    there = killed.finished
    (study,) = killed.studies.values()
    (sweep,) = of.sweeps
    todo = work(plan(MEANS + more), there, {sweep.name: study})
    assert (len(todo.train), len(todo.cached)) == (10, 2)
    again = filled(plan(MEANS + more), tmp_path, finished=there)
    trained = train(again, 0.6, 0.5, *[0.2] * 8)
    assert [place for number, *place in trained if number == 1] == [[0, 4], [1, 4]]
    assert told(again)[0] == ("finished", pytest.approx(0.7))
    assert len({(o.identity) for o in again.results.outcomes if o.status == "finished"}) == 10
    assert filled(plan(MEANS + more), tmp_path, finished=again.finished).results.judged == again.results.judged


def test_a_student_of_each_split_has_the_teacher_of_that_split(tmp_path: Path) -> None:
    taught = MEANS.replace("method: plain", "method: distill, teacher: {epochs: 9}").replace("trials: 3", "trials: 1")
    trained = [
        (job.trial.place.phase, job.trial.config.split, job.trial.config.seed)
        for job in order(filled(plan(taught), tmp_path))
    ]
    assert sorted(trained) == sorted([(phase, *place) for phase in ("teacher", "search") for place in PLACES])


def test_other_splits_are_another_study(tmp_path: Path) -> None:
    list(order(filled(plan(MEANS), tmp_path)))
    assert len(list(order(filled(plan(MEANS.replace("[0, 1]", "[0, 2]")), tmp_path)))) == 12
