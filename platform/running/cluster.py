"""What a cluster has to give, and what may become of it: what is asked before Ray, whose imports take seconds."""

from __future__ import annotations

from dataclasses import dataclass

from platform.files.spec import Resources
from platform.running.session import FolderError, sessions


class ClusterError(RuntimeError):
    """A Ray cluster that does not answer, or does not start; the message says which."""


class LostError(ClusterError):
    """The cluster went away while trials ran on it."""


@dataclass(frozen=True)
class Node:
    """What one machine of a cluster has to give."""

    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"{self.cpus} CPUs and {self.gpus} GPUs"

    def holds(self, needs: Resources) -> int:
        """How many workers of trials fit on it together; a share is of one GPU."""
        fits = self.cpus // needs.cpus_per_worker
        if needs.gpus >= 1:
            return min(fits, self.gpus // int(needs.gpus))
        return min(fits, self.gpus * int(1 / needs.gpus + 1e-9)) if needs.gpus else fits


@dataclass(frozen=True)
class Cluster:
    """What Ray has to give."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> int:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> int:
        return sum(node.gpus for node in self.nodes)

    def at_once(self, needs: Resources) -> int:
        """How many trials fit together; 0 where not even one does. Their workers may be on several nodes, none of them
        on more than one."""
        return sum(node.holds(needs) for node in self.nodes) // needs.workers


def local_cluster() -> Cluster:
    """What this machine, or the container that this is, has to give. Raises `ClusterError` where no Ray can start."""
    import torch
    from joblib import cpu_count

    try:
        sessions()
    except FolderError as error:
        raise ClusterError(str(error)) from error
    return Cluster((Node(cpu_count(), torch.cuda.device_count()),))
