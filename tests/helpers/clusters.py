"""Ray clusters of several nodes on this machine, and the command running on one, for tests that kill parts of it."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from tests.helpers.sweeps import sweep


@contextmanager
def cluster_of(*nodes: dict[str, Any]) -> Iterator[Cluster]:
    """A node for each of `nodes`, without the dashboard; this process is connected to them."""
    cluster = Cluster(initialize_head=True, head_node_args={**nodes[0], "include_dashboard": False})
    try:
        for node in nodes[1:]:
            cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def actors(cluster: Cluster, kind: str) -> dict[int, int]:
    """Processes of the actors of a class, each with that of its node."""
    found = {}
    for node in cluster.list_all_nodes():
        raylet = node.all_processes["raylet"][0].process.pid
        for process in psutil.Process(raylet).children():
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith(f"ray::{kind}"):
                    found[process.pid] = raylet
            except psutil.NoSuchProcess:
                pass
    return found


def is_free(cluster: Cluster) -> bool:
    """Whether nothing of a trial is left: no reservation, no process but Ray's own, and every CPU is to be had."""
    reserved = [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]
    kinds = ("ResourceTrainable", "RayTrainWorker", "TrainController", "Mailbox", "PlacementGroupCleaner")
    left = [process for kind in kinds for process in actors(cluster, kind)]
    return not reserved and not left and ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := holds()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return done


class Command:
    """The command while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def until(self, what: str) -> None:
        """Read on to a line that `what` is found in."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if re.search(what, line):
                return
        raise AssertionError(f"it never said {what!r}:\n{self.said}")

    def end(self) -> int:
        """Its exit code."""
        self.said += self.process.communicate()[0]
        return self.process.returncode


@contextmanager
def driver(folder: Path, *arguments: str) -> Iterator[Command]:
    """The command started in `folder`; killed where the test fails, or it takes longer than it ever should."""
    process = sweep(folder, *arguments)
    alarm = Timer(900, process.kill)
    alarm.start()
    try:
        yield Command(process)
    finally:
        alarm.cancel()
        process.kill()
        process.wait()


def session_of(command: Command) -> set[Path]:
    """Where the Ray that it has started keeps its logs and more; empty before it is up."""
    arguments = [a for p in psutil.Process(command.process.pid).children(recursive=True) for a in p.cmdline()]
    return {Path(a.removeprefix("--session-dir=")) for a in arguments if a.startswith("--session-dir=")}


def holding(text: str, folder: Path) -> list[Path]:
    """Files under `folder` that contain it."""
    files = [Path(where) / name for where, _, names in os.walk(folder) for name in names]
    return [file for file in files if file.is_file() and text.encode() in file.read_bytes()]
