"""Ray itself on the driver: a cluster joined or started, what it has, and leaving it."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from platform.running.cluster import Cluster, ClusterError, Node, local_cluster
from platform.running.joining import AddressError, check_address
from platform.running.session import LOOPBACK, own_token, private_sessions, stay_on_loopback
from platform.running.shipping import copy_code
from platform.running.watch import Address

# Before ray is imported: quiet, private, and without its wrapper that would start every worker by `uv run`.
for _name, _value in {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what raylets say of a process that died: the trial's own message says it
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # of Tune's own state: nobody reads it, and it grows with every trial
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
    **LOOPBACK,
}.items():
    os.environ.setdefault(_name, _value)

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SECONDS_TO_TELL = 30.0  # for nodes to say how large their GPUs are, while all may be taken


def connect(address: str | None, parts: Iterable[str] = (), protocols: Iterable[str] = ()) -> Cluster:
    """Join the cluster at `address` (or RAY_ADDRESS), else start Ray on this machine, for its owner alone.

    A cluster's workers get `trainables`, the modules of `parts` (objectives and mixes of one's own) and the files of
    `protocols` as they are here. Workers on this machine read them where they are, and those of a submitted job in the
    folder that was submitted.

    Raises `ClusterError` where no cluster answers, or none can be started.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if to_join := address or os.environ.get("RAY_ADDRESS"):
        try:
            check_address(to_join)
        except AddressError as error:
            raise ClusterError(f"no Ray cluster at {to_join}: {error}") from error
        with tempfile.TemporaryDirectory(prefix="code-") as folder:
            if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
                copy_code(Path(folder), parts, protocols)
                options["runtime_env"] = {"working_dir": folder}
            try:
                ray.init(address=address, **options)
            except (ConnectionError, RuntimeError) as error:
                raise ClusterError(f"no Ray cluster at {to_join}: {error}") from error
    else:
        own = local_cluster()
        own_token()
        stay_on_loopback()
        try:
            options["_temp_dir"] = str(private_sessions())
            ray.init("local", num_cpus=own.cpus, num_gpus=own.gpus, include_dashboard=False, **options)
        except OSError as error:
            again = "Set RAY_TMPDIR to a folder that it can write to"
            raise ClusterError(f"Ray did not start on this machine ({error}). {again}") from error
        except Exception as error:  # Ray has no type of its own for it: after half a minute it gives up
            again = "The machine may be busy: run the same command again"
            raise ClusterError(f"Ray did not start on this machine ({error}). {again}") from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # a failed trial's traceback is the listeners' to tell
    return cluster()


def cluster() -> Cluster:
    """What the nodes that are there now have to give; before Ray is started on this machine, what it has."""
    if not ray.is_initialized():
        return local_cluster()
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Cluster(tuple(Node(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in there))


def gpu_memory() -> int:
    """Bytes of the smallest GPU; 0 where there is none, or none answers in time."""
    from trainables.device import gpu_memory as here

    if not ray.is_initialized():
        return here()
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    look = ray.remote(here)
    asked = [
        look.options(num_cpus=0, num_gpus=0.01, scheduling_strategy=strategy).remote()
        for strategy in (NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes)
    ]
    ready, late = ray.wait(asked, num_returns=len(asked), timeout=SECONDS_TO_TELL) if asked else ([], [])
    for task in late:
        ray.cancel(task)
    return min(ray.get(ready), default=0)


def disconnect() -> None:
    ray.shutdown()


def abandon() -> None:
    """Instead of `disconnect` where the cluster is gone, for which that would wait: end what is left of Ray here."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()


def addresses() -> list[Address]:
    """Where the cluster is heard: its head, and the node that this process belongs to."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    own = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return [(host.strip("[]"), int(port)), (own["NodeManagerAddress"], own["NodeManagerPort"])]
