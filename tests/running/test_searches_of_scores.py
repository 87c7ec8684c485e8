"""A search over nothing but settings of the score: one training, and every proposal judged by what that recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from platform.files import search_file
from platform.planning.work import work
from platform.running.job import Job
from platform.running.queue import Queue
from tests.helpers.queues import Memory, filled, metrics, plan
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig

SCORES = """\
name: search
base: {method: plain, protocol: digits, backbone: wrn10-1, epochs: 3, images_per_class: 20, odin_epsilon: 0,
  extra_scores: [knn]}
search:
  score: {choice: [msp, mls, odin, knn]}
  odin_temperature: {float: [0.1, 100], log: true, when: {score: odin}}
  knn_k: {int: [1, 12], when: {score: knn}}
seeds: [0, 1]
trials: 40
confirm: {splits: [0], baselines: [{name: MSP, set: {score: msp}}]}
"""
RUNS = ("first", "second")


def recorded(seed: int) -> pd.DataFrame:
    """As a trial records it, samples of a test set among them."""
    generator = np.random.default_rng(seed)
    frames = []
    for part, of, loc in (("val", "known", 2.0), ("val", "pseudo-unknown", 0.0), ("test", "known", -9.0)):
        logits = generator.normal(size=(60, 4))
        labels = generator.integers(4, size=60)
        logits[np.arange(60), labels] += loc
        logits += generator.normal(size=(60, 1)) * 3  # which the softmax does not see, and mls does
        columns = {"msp": softmax(logits, axis=1).max(axis=1), "mls": logits.max(axis=1), "logits": list(logits)}
        columns["neighbours"] = list(np.sort(generator.uniform(size=(60, 9)), axis=1) * (2.2 - loc / 20))
        told = {"part": part, "set": of, "label": labels, "prediction": logits.argmax(axis=1)}
        frames.append(pd.DataFrame({**told, **columns}))
    return pd.concat(frames, ignore_index=True)


TABLES = {run: recorded(number) for number, run in enumerate(RUNS)}


def by_equation(table: pd.DataFrame, score: str, temperature: float = 1.0, k: int = 50) -> float:
    of = table[table["part"] == "val"]
    if score == "odin":
        values = softmax(np.stack(list(of["logits"])) / temperature, axis=1).max(axis=1)
    else:
        values = [-sample[min(k, 9) - 1] for sample in of["neighbours"]] if score == "knn" else of[score]
    return float(roc_auc_score(of["set"] == "known", values))


def searched(folder: Path, text: str = SCORES, before: Queue | None = None) -> tuple[Queue, list[str]]:
    """The queue of a command that has ended, and what its trainings and evaluations were for."""
    queue = filled(plan(text), folder, Memory(scores=TABLES), before.finished if before else None)
    phases = []
    while job := queue.next():
        phases.append(job.trial.place.phase)
        end(queue, job)
    return queue, phases


def end(queue: Queue, job: Job) -> None:
    """As a trial ends that measures each score that it is asked for."""
    job.trial.run_id, job.trial.status = RUNS[job.trial.config.seed], "finished"
    for score in ("msp", *job.trial.config.scores_on_request(last=True)):
        job.trial.metrics |= {name.replace("/msp/", f"/{score}/"): value for name, value in metrics().items()}
    queue.ended(job)


def test_every_proposal_is_judged_by_what_one_training_of_each_seed_recorded(tmp_path: Path) -> None:
    queue, phases = searched(tmp_path)
    assert phases.count("search") == 2
    told = list(queue.studies["search"].history())
    assert [one.status for one in told] == ["finished"] * 40
    assert len({str(one.proposal.settings) for one in told}) > 10
    for one in told:
        settings = one.proposal.settings
        own = (settings["score"], settings.get("odin_temperature", 1.0), settings.get("knn_k", 50))
        expected = np.mean([by_equation(table, *own) for table in TABLES.values()])
        assert one.metrics["val/auroc"] == pytest.approx(expected, rel=1e-12)


def test_the_best_score_is_that_of_the_best_mean_and_is_confirmed(tmp_path: Path) -> None:
    queue, _ = searched(tmp_path)
    told = queue.studies["search"].history()
    best = max(told, key=lambda one: one.metrics["val/auroc"]).proposal.settings
    assert queue.results.best["search"][0] == best
    (confirmed,) = queue.results.of_row("search", "best")
    assert (confirmed.config.score, confirmed.config.odin_temperature) == ("odin", best["odin_temperature"])
    assert (confirmed.config.test, confirmed.config.holdout) == (True, 0)
    assert dict(queue.results.of_best("search", ["val/auroc"]))["search/best/val/auroc/n"] == 2


def test_what_confirms_a_neighbour_is_not_evaluated_by_another_one_for_its_baselines(tmp_path: Path) -> None:
    before, rest = SCORES.replace("[knn]}", "[knn], score: knn}").split("  score:")
    text = before + "  knn_k: {int: [9, 12]}\n" + rest[rest.index("seeds:") :]
    queue, _ = searched(tmp_path, text)
    (confirmed,) = queue.results.of_row("search", "best")
    assert confirmed.config.score == "knn"
    assert confirmed.config.knn_k != TrialConfig.knn_k
    todo = work(plan(text), queue.finished, queue.studies)
    assert not todo.train
    assert not todo.evaluate


def test_an_interrupt_is_heard_between_two_proposals(tmp_path: Path) -> None:
    queue = filled(plan(SCORES), tmp_path, Memory(scores=TABLES))
    queue.interrupted = lambda: len(queue.results.judged.get("search", ())) >= 10
    while job := queue.next():
        end(queue, job)
    assert len(list(queue.studies["search"].history())) == 10
    assert not queue.done


def test_a_search_of_scores_goes_on_without_a_training(tmp_path: Path) -> None:
    first, _ = searched(tmp_path)
    more = SCORES.replace("trials: 40", "trials: 60")
    study = {"search": first.studies["search"]}
    todo = work(plan(more), first.finished, study)
    assert not [config for config, _ in todo.train if config.pseudo_unknown]
    again, phases = searched(tmp_path, more, first)
    assert "search" not in phases
    assert len(list(again.studies["search"].history())) == 60
    assert len([o for o in again.results.of("search", "search") if o.done]) == 120


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("search:", "search:\n  lr: {float: [0.01, 0.1]}"), "search.score: is a setting of the score"),
        (
            ("  score:", "  odin_epsilon: {float: [0, 0.01]}\n  score:"),
            "search.odin_epsilon: cannot be searched: it changes",
        ),
        ((", odin_epsilon: 0", ""), "base.odin_epsilon: is not 0: a score is searched by the logits"),
        (("trials", "scheduler: {asha: {grace_epochs: 1}}\ntrials"), "scheduler: has nothing to stop"),
        (("trials", "figures: [search]\ntrials"), "figures: search shows trials"),
        (
            ("trials", "objective: {metric: val/accuracy}\ntrials"),
            "objective.metric: a score is searched by val/auroc or",
        ),
        (("trials", "objective: {metric: test/auroc}\ntrials"), "would choose settings on the test set"),
        (("[msp,", "[mahalanobis, msp,"), "mahalanobis is recorded only with `extra_scores: [mahalanobis]`"),
        (("odin, knn]", "knn]"), "search.odin_temperature: changes nothing: no score that is tried is odin"),
        (("odin, knn]", "odin]"), "search.knn_k: changes nothing: no score that is tried is knn"),
        ((",\n  extra_scores: [knn]", ""), "knn is recorded only with `extra_scores: [knn]`"),
    ],
)
def test_what_a_search_of_scores_cannot_be_is_refused(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(SCORES.replace(*change, 1))
    with pytest.raises(ConfigError) as error:
        search_file.load(tmp_path / "toy.yaml")
    assert said in str(error.value)
