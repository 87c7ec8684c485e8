"""Files made to fit the cluster that runs them, and what cannot run on it refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from platform.files.rows import part_of
from platform.files.search_file import PAPER, SearchFile, changing_results
from platform.files.spec import Resources
from platform.planning.plan import Sweep
from platform.running.cluster import Cluster
from trainables.reading.addresses import showable
from trainables.reading.values import listed
from trainables.reading.yaml_file import ConfigError, Problem


def fit(file: SearchFile, chosen: str | None, changes: Sequence[str], cluster: Cluster, console: Console) -> Sweep:
    """The profile that runs: the `chosen` one, else the paper's where there is a GPU, else `quick`, where there is one.

    Without a GPU, a trial takes none, and no more cores than nodes have.
    """
    profile = chosen or (PAPER if cluster.gpus or "quick" not in file.profiles else "quick")
    spec = file.profile(profile, changes)
    if cluster.gpus:
        console.print(f"{cluster.gpus} GPU{'s' * (cluster.gpus != 1)} found: profile [bold]{profile}[/bold]")
    else:
        said = "" if chosen else f" ([bold]--profile {PAPER}[/bold] forces the paper's protocol)"
        if not chosen and profile == PAPER:
            less = "".join(f"; [bold]--profile {name}[/bold] is less" for name in file.profiles if name == "reduced")
            said = f": the file as it stands, however long that takes. It has no profile quick{less}"
        console.print(f"No GPU found: profile [bold]{profile}[/bold] runs on the CPU{said}")
        spec = spec.model_copy(update={"resources": _on_cores(spec.resources.sharing(0.0), cluster)})
    changed = tuple(map(showable, changing_results(changes)))
    reduced = not part_of(file.profile(profile), file.profile(PAPER))
    return Sweep(Path(file.path), spec, profile, changed, reduced)


def _on_cores(needs: Resources, cluster: Cluster) -> Resources:
    """The same with fewer cores for a worker where a trial would not fit, as far as that goes."""
    for cores in range(min(needs.cpus_per_worker, cluster.cpus), 1, -1):
        fewer = needs.model_copy(update={"cpus_per_worker": cores})
        if cluster.at_once(fewer):
            return fewer
    return needs.model_copy(update={"cpus_per_worker": 1})


def refuse(sweeps: Sequence[Sweep], cluster: Cluster) -> None:
    """Raise `ConfigError` for sweeps that cannot be told apart, or want more than there is."""
    _refuse_one_name_twice(sweeps)
    for sweep in sweeps:
        _refuse_too_large(sweep.spec.resources, cluster)


def _refuse_one_name_twice(sweeps: Sequence[Sweep]) -> None:
    names: dict[str, Path] = {}
    for sweep in sweeps:
        if sweep.name in names:
            message = f"{names[sweep.name]} and {sweep.file} are both named {sweep.name}: give one another name"
            raise ConfigError([Problem((), message)])
        names[sweep.name] = sweep.file


def _refuse_too_large(needs: Resources, cluster: Cluster) -> None:
    if cluster.at_once(needs):
        return
    each = f"{needs.cpus_per_worker} CPUs and {needs.gpus:g} GPUs"
    wanted = each if needs.workers == 1 else f"{needs.workers} workers of {each}"
    there = f"there are {cluster.cpus} and {cluster.gpus}"
    if len(cluster.nodes) > 1:
        wanted += " on one node" if needs.workers == 1 else ", each on one node"
        alike = Counter(map(str, cluster.nodes)).items()
        there = f"the cluster has {listed(f'{n} node' + 's' * (n > 1) + f' of {node}' for node, n in alike)}"
    message = f"a trial wants {wanted}; {there}. Lower them with --set resources.cpus_per_worker=…"
    raise ConfigError([Problem((), message)])
