"""A result belongs to the test images that it was made on: what was tested is recorded, said and compared."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform import report
from platform import sweep as command
from platform.planning import captions
from platform.tracking.evaluations import evaluated_too, full_names, lacks, own_metrics, shared_metrics
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import described
from tests.helpers.paths import SHARED
from tests.helpers.sweeps import artifact, here, project, runs, sweep
from trainables.images.listing import Content
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve

CIFAR10 = SHARED / "cifar10"
TABLE = """\
name: toy
paper: {file: backmix, table: IV}
base: {protocol: cifar10, split_family: osrci, backbone: wrn10-1, epochs: 1, images_per_class: 10, batch_size: 32}
splits: [0]
seeds: [0]
rows:
  - {name: Plain, set: {method: plain}, published: {Acc.: 50.0, AUROC: 60.0}}
"""


def shard(folder: Path, part: str, number: int, count: int) -> None:
    """Real images `number` × `count` onward, as one of the files that a part consists of."""
    target = folder / "data" / "cifar10" / f"{part}-{number:05}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    table: pa.Table = pq.read_table(CIFAR10 / f"{part}.parquet")
    table = table.filter(table["exact"]) if "exact" in table.column_names else table  # the others are left out
    pq.write_table(table.slice(number * count, count), target)


def swept(folder: Path, *options: str) -> str:
    process = sweep(folder, "--data-root", "data", *options)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return " ".join(output.split())


def reported(folder: Path) -> str:
    return here(report.main, folder, "toy.yaml").stdout


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="needs real images beside the repository")
def test_images_that_arrive_later_are_tested_without_training_again(tmp_path: Path) -> None:
    folder = project(tmp_path, TABLE)
    shard(folder, "train", 0, 300)
    shard(folder, "test", 0, 200)
    said = swept(folder)
    assert "Tested on 200 of the 10,000 published test images of cifar10." in said
    assert "Trained on 10 images a class, drawn from 300 of the 50,000 published training images of cifar10." in said
    report = reported(folder)
    assert "Tested on 200 of the 10,000 published test images of cifar10." in report
    assert "[50.0]" in report  # published alone: no difference is taken from it

    shard(folder, "test", 1, 200)
    again = swept(folder, "--set", "score=mls")
    assert "evaluate 1 finished trials" in again
    assert "Tested on 400 of the 10,000" in again
    (run,) = (r for r in runs(folder) if r.data.tags["kind"] == "trial")
    assert len(pd.read_parquet(artifact(run, "scores.parquet"))) == 400
    assert {Content(*c).images for c in json.loads(run.data.tags["tested"]).values()} == {400}
    # It served two sweeps with different scores: nothing in it depends on which of them asked.
    assert {"test/cifar10/msp/auroc", "test/cifar10/mls/auroc", "test/accuracy"} <= set(run.data.metrics)
    assert not {"test/auroc", "test/oscr"} & set(run.data.metrics)
    assert not {"score", "evaluate"} & set(run.data.params)
    done = here(command.main, folder, "toy.yaml", "--data-root", "data", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "to evaluate" not in " ".join(done.stdout.split())


CONFIG = resolve({"method": "plain", "protocol": "cifar10", "split_family": "osrci"})
METRICS = {f"test/cifar10/{s}/auroc": v for s, v in (("msp", 0.6), ("mls", 0.7), ("odin", 0.8), ("knn", 0.9))}
HALF, ALL = Content("a", 5_000, 10_000), Content("b", 10_000, 10_000)


def finished(**saw: object) -> FinishedTrial:
    details = json.dumps({"params": {}, "metrics": METRICS, **saw})
    return FinishedTrial("i", "r", "toy", "row", "row", "sha", "false", 0.0, 1.0, "cpu", details)


def of(**settings: object) -> TrialConfig:
    return resolve({"method": "plain", "protocol": "cifar10", "split_family": "osrci", **settings})


def test_other_test_images_than_those_of_a_result_are_evaluated() -> None:
    before = finished(tested={"known": HALF, "cifar10": HALF})
    assert lacks(before, CONFIG, {"known": ALL, "cifar10": ALL})
    assert not lacks(before, CONFIG, {"known": HALF, "cifar10": HALF})


def test_a_run_that_does_not_say_what_it_was_tested_on_counts_as_it_is() -> None:
    assert not lacks(finished(), CONFIG, {"known": ALL, "cifar10": ALL})
    assert list(captions.tested_on([(CONFIG, {})])) == [
        "Which test images 1 trials saw was not recorded when they ran: they are shown as they are."
    ]


def test_a_score_with_other_settings_is_another_result() -> None:
    config = of(score="odin", odin_epsilon=0.01)
    assert lacks(finished(odin=(1000.0, 0.0014)), config, {})
    assert not lacks(finished(odin=(1000.0, 0.01)), config, {})
    assert lacks(finished(knn=(50,)), of(score="knn", knn_k=7), {})
    assert not lacks(finished(knn=(50,)), of(score="knn"), {})


def test_a_search_by_a_score_that_was_not_recorded_evaluates_the_trial() -> None:
    settings = {"holdout": 0.1, "pseudo_unknown": 2, "test": False}
    assert lacks(finished(), of(score="odin", **settings), {})


def test_what_is_evaluated_again_keeps_the_scores_that_it_had() -> None:
    settings = {"holdout": 0.1, "pseudo_unknown": 2, "test": False}
    metrics = {"val/pseudo-unknown/knn/auroc": 0.8, "val/pseudo-unknown/msp/auroc": 0.7, "val/auroc": 0.7}
    asked = evaluated_too(of(extra_scores=["mahalanobis"], **settings), metrics)
    assert (asked.scores_on_request(last=True), asked.test) == (("mahalanobis", "knn"), False)


def test_the_short_names_mean_what_the_one_who_asks_means() -> None:
    recorded = {**METRICS, "test/auroc": 0.6, "test/accuracy": 0.9}  # as runs were recorded before
    assert own_metrics(recorded, of(score="mls"))["test/auroc"] == 0.7
    assert own_metrics(recorded, of())["test/auroc"] == 0.6
    assert "test/auroc" not in own_metrics(recorded, of(score="energy"))  # not another score's in its place
    assert "test/auroc" not in shared_metrics(recorded)
    assert shared_metrics(recorded)["test/accuracy"] == 0.9
    assert full_names("val/auroc", of(score="mls")) == ["val/pseudo-unknown/mls/auroc"]


def test_a_caption_says_what_was_trained_on_and_what_made_it_smaller() -> None:
    small = of(images_per_class=50, image_size=16, holdout=0.1, pseudo_unknown=2, test=False)
    text = described([small])
    assert "50 images a class, at 16 px, 10% of them held out, 2 known classes kept out" in text
    assert list(captions.trained_on([small], {"cifar10@16px": 49_067})) == [
        "Trained on 50 images a class, drawn from 49,067 of the 50,000 published training images of cifar10."
    ]
    shots = [of(images_per_class=number) for number in (4, 8, 16)]
    assert "200 epochs, 4, 8 and 16 images a class, last epoch" in described(shots)
    assert "200 epochs, 4 and 8 images a class and all images, last epoch" in described([*shots[:2], of()])
    assert list(captions.trained_on([of()], {"cifar10": 49_067})) == [
        "Trained on 49,067 of the 50,000 published training images of cifar10."
    ]
    assert list(captions.trained_on([of()], {"cifar10": 50_000})) == []


def test_trials_on_different_images_say_so() -> None:
    said = list(
        captions.tested_on([(CONFIG, {"known": HALF, "cifar10": HALF}), (CONFIG, {"known": ALL, "cifar10": ALL})])
    )
    assert said[0] == "Tested on 5,000 and 10,000 of the 10,000 published test images of cifar10."
    assert said[1].startswith("Trials were tested on different images of cifar10")
