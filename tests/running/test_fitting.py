"""How many trials fit on the nodes of a cluster, and what is refused since it fits on none, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from platform.files import search_file
from platform.files.spec import Resources
from platform.planning.plan import Sweep
from platform.running.cluster import Cluster, Node
from platform.running.fitting import fit, refuse
from tests.helpers.queues import ROWS
from trainables.reading.yaml_file import ConfigError

SMALL = Cluster((Node(4, 0),) * 4)
GPUS = Cluster((Node(8, 1), Node(8, 1), Node(64, 0)))


def fitted(folder: Path, cluster: Cluster, **resources: Any) -> Sweep:
    (folder / "toy.yaml").write_text(f"{ROWS}resources: {resources}\n")
    return fit(search_file.load(folder / "toy.yaml"), None, [], cluster, Console(quiet=True))


@pytest.mark.parametrize(
    ("cluster", "resources", "trials"),
    [
        (SMALL, {"cpus_per_worker": 3}, 4),
        (SMALL, {"cpus_per_worker": 8}, 0),
        (SMALL, {"cpus_per_worker": 2, "workers": 8}, 1),  # on all nodes together
        (SMALL, {"cpus_per_worker": 3, "workers": 3}, 1),
        (SMALL, {"cpus_per_worker": 5, "workers": 2}, 0),
        (GPUS, {"gpus_per_worker": 1, "workers": 2}, 1),
        (GPUS, {"gpus_per_worker": 2}, 0),
        (GPUS, {"gpus_per_worker": 0.5, "cpus_per_worker": 16}, 0),  # the node with the cores has no GPU
        (Cluster((Node(64, 4),)), {"gpus_per_worker": 0.6}, 4),
        (Cluster((Node(64, 2),)), {"gpus_per_worker": 0.4}, 4),
        (Cluster((Node(64, 1),)), {"gpus_per_worker": 0.1}, 10),
        (Cluster(()), {}, 0),
    ],
)
def test_a_worker_is_on_one_node_and_a_share_of_one_gpu(cluster: Cluster, resources: Any, trials: int) -> None:
    assert cluster.at_once(Resources(**resources)) == trials


@pytest.mark.parametrize(
    ("cluster", "resources", "said"),
    [
        (
            GPUS,
            {"gpus_per_worker": 2},
            "a trial wants 1 CPUs and 2 GPUs on one node; the cluster has 2 nodes of 8 CPUs and 1 GPUs and 1 node of "
            "64 CPUs and 0 GPUs. Lower them",
        ),
        (GPUS, {"gpus_per_worker": 1, "workers": 3}, "3 workers of 1 CPUs and 1 GPUs, each on one node; the cluster"),
        (Cluster((Node(8, 1),)), {"gpus_per_worker": 2}, "a trial wants 1 CPUs and 2 GPUs; there are 8 and 1. Lower"),
    ],
)
def test_what_would_wait_for_ever_is_refused(tmp_path: Path, cluster: Cluster, resources: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        refuse([fitted(tmp_path, cluster, **resources)], cluster)


@pytest.mark.parametrize(("workers", "asked", "cores"), [(1, 8, 4), (1, 3, 3), (8, 4, 2), (16, 2, 1)])
def test_without_a_gpu_a_worker_takes_no_more_cores_than_a_node_has(
    tmp_path: Path, workers: int, asked: int, cores: int
) -> None:
    sweep = fitted(tmp_path, SMALL, workers=workers, cpus_per_worker=asked)
    assert sweep.spec.resources.cpus_per_worker == cores
    refuse([sweep], SMALL)
