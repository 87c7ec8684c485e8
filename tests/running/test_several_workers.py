"""A trial on two workers of two nodes: the same result as one worker's, through faults, and nothing left behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from ray.cluster_utils import Cluster

from tests.helpers.clusters import actors, cluster_of, driver, is_free, within
from tests.helpers.sweeps import artifact, project, runs

pytestmark = pytest.mark.slow
SPEC = """\
name: toy
base:
  {method: plain, protocol: digits, backbone: wrn10-1, epochs: 40, batch_size: 64, images_per_class: 100, lr: 1.0e-5,
   crop_padding: 0}
splits: [0]
rows: [{name: Plain, set: {method: plain}}]
"""
SEARCH = """\
name: toy
base: {method: plain, protocol: digits, backbone: wrn10-1, epochs: 12, batch_size: 64, images_per_class: 60}
search: {lr: {choice: [1.0e-6, 0.05]}}
objective: {metric: val/accuracy, mode: max}
trials: 2
optuna: {sampler: random, seed: 0}
scheduler: {asha: {grace_epochs: 6, reduction_factor: 3}}
"""
TWO = ("--set", "resources.workers=2")


def trial_of(folder: Path) -> Run:
    active = [run for run in runs(folder) if run.info.lifecycle_stage == "active"]
    (run,) = (run for run in active if run.data.tags["kind"] == "trial" and run.data.params["split"] == "0")
    return run


def logits(folder: Path) -> np.ndarray:
    """Of all test samples, N,K."""
    return np.stack(pd.read_parquet(artifact(trial_of(folder), "scores.parquet"))["logits"].to_list())


def wait_for_checkpoint(folder: Path) -> None:
    """Until there is another one than now."""

    def kept() -> list[Path]:
        return sorted((folder / "results" / "trials").glob("*/*/checkpoints/*"))

    before = kept()
    assert within(300, lambda: kept() not in ([], before))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of({"num_cpus": 1}, {"num_cpus": 1}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def alone(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[int]]:
    """Two trials on one worker each, and the nodes that those were on."""
    folder = project(tmp_path_factory.mktemp("alone"), SPEC.replace("[0]", "[0, 1]"))
    with driver(folder, "--address", cluster.address) as command:
        within(300, lambda: len(actors(cluster, "ResourceTrainable")) == 2)
        nodes = set(actors(cluster, "ResourceTrainable").values())
        assert command.end() == 0, command.said
    return folder, nodes


@pytest.fixture(scope="module")
def together(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[int]]:
    """The first of them on two workers, and the nodes that those were on."""
    folder = project(tmp_path_factory.mktemp("together"), SPEC)
    with driver(folder, "--address", cluster.address, *TWO) as command:
        within(300, lambda: len(actors(cluster, "RayTrainWorker")) == 2)
        nodes = set(actors(cluster, "RayTrainWorker").values())
        assert command.end() == 0, command.said
    return folder, nodes


@pytest.fixture(scope="module")
def struck(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The same through a worker killed, the process that waits for it killed, SIGTERM, and a node killed.

    With what the command said before SIGTERM, and from then on.
    """
    folder = project(tmp_path_factory.mktemp("struck"), SPEC)
    with driver(folder, "--address", cluster.address, *TWO) as first:
        wait_for_checkpoint(folder)
        os.kill(min(actors(cluster, "RayTrainWorker")), signal.SIGKILL)
        first.until("attempt 2 of 3 follows")
        assert within(300, lambda: len(actors(cluster, "RayTrainWorker")) == 2)
        os.kill(min(actors(cluster, "ResourceTrainable")), signal.SIGKILL)
        first.until("attempt 3 of 3 follows")
        wait_for_checkpoint(folder)
        first.process.send_signal(signal.SIGTERM)
        assert first.end() == 130, first.said
    assert within(60, lambda: is_free(cluster))

    with driver(folder, "--address", cluster.address, *TWO) as second:
        wait_for_checkpoint(folder)
        cluster.remove_node(min(cluster.worker_nodes, key=id), allow_graceful=False)
        cluster.add_node(num_cpus=1)
        assert second.end() == 0, second.said
    return folder, first.said, second.said


def test_trials_of_one_worker_run_on_all_nodes(alone: tuple[Path, set[int]]) -> None:
    assert len(alone[1]) == 2


def test_two_workers_are_on_two_nodes(together: tuple[Path, set[int]]) -> None:
    assert len(together[1]) == 2


def test_two_workers_give_what_one_gives(alone: tuple[Path, set[int]], together: tuple[Path, set[int]]) -> None:
    """But for rounding, which training makes grow: so with a learning rate at which it hardly does."""
    one, two = logits(alone[0]), logits(together[0])
    assert np.abs(one).max() > 0.1
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_mlflow_has_the_same_of_two_workers_as_of_one(
    alone: tuple[Path, set[int]], together: tuple[Path, set[int]]
) -> None:
    one, two = trial_of(alone[0]).data, trial_of(together[0]).data
    assert one.params == two.params
    assert one.tags["identity"] == two.tags["identity"]
    assert one.metrics.keys() == two.metrics.keys()
    assert one.metrics["test/digits/msp/auroc"] == pytest.approx(two.metrics["test/digits/msp/auroc"], abs=2e-3)
    assert two.tags["device"] == "2 × cpu, 1 threads"


def test_faults_change_nothing_of_the_result(together: tuple[Path, set[int]], struck: tuple[Path, str, str]) -> None:
    np.testing.assert_array_equal(logits(together[0]), logits(struck[0]))
    assert trial_of(struck[0]).info.status == "FINISHED"


def test_each_fault_is_told_in_one_line(struck: tuple[Path, str, str]) -> None:
    _, first, second = struck
    assert first.count("of 3 follows") == 2
    assert second.count("of 3 follows") == 1
    foreign = [line for line in (first + second).splitlines() if "raylet" in line or "Traceback" in line]
    assert not foreign


def test_early_stopping_frees_what_two_workers_held(cluster: Cluster, tmp_path: Path) -> None:
    """One trial takes every CPU. In this order the second is the worse one."""
    with driver(project(tmp_path, SEARCH), "--address", cluster.address, *TWO) as command:
        assert command.end() == 0, command.said
    assert "search 2 stopped at epoch 6" in command.said
    assert within(60, lambda: is_free(cluster))
