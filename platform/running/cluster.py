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
class Cluster:
    """What Ray has to give, in all."""

    cpus: int
    gpus: float

    def at_once(self, resources: Resources) -> int:
        """How many trials fit together; 0 where not even one does."""
        fits = self.cpus // (resources.cpus_per_worker * resources.workers)
        if resources.gpus:
            fits = min(fits, int(self.gpus / (resources.gpus * resources.workers) + 1e-9))
        return int(fits)


def local_cluster() -> Cluster:
    """What this machine, or the container that this is, has to give. Raises `ClusterError` where no Ray can start."""
    import torch
    from joblib import cpu_count

    try:
        sessions()
    except FolderError as error:
        raise ClusterError(str(error)) from error
    return Cluster(cpu_count(), torch.cuda.device_count())
