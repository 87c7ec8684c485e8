"""Files made to fit the cluster that runs them, and what cannot run on it refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from platform.files.rows import part_of
from platform.files.search_file import PAPER, SearchFile, changing_results
from platform.files.spec import Resources
from platform.planning.plan import Sweep
from platform.running.cluster import Cluster
from trainables.reading.addresses import showable
from trainables.reading.yaml_file import ConfigError, Problem


def fit(file: SearchFile, chosen: str | None, changes: Sequence[str], cluster: Cluster, console: Console) -> Sweep:
    """The profile that runs: the `chosen` one, else the paper's where there is a GPU, else `quick`, where there is one.

    Without a GPU, a trial takes none, and no more cores than there are.
    """
    profile = chosen or (PAPER if cluster.gpus or "quick" not in file.profiles else "quick")
    spec = file.profile(profile, changes)
    if cluster.gpus:
        console.print(f"{cluster.gpus:g} GPU{'s' * (cluster.gpus != 1)} found: profile [bold]{profile}[/bold]")
    else:
        said = "" if chosen else f" ([bold]--profile {PAPER}[/bold] forces the paper's protocol)"
        if not chosen and profile == PAPER:
            less = "".join(f"; [bold]--profile {name}[/bold] is less" for name in file.profiles if name == "reduced")
            said = f": the file as it stands, however long that takes. It has no profile quick{less}"
        console.print(f"No GPU found: profile [bold]{profile}[/bold] runs on the CPU{said}")
        cores = min(spec.resources.cpus_per_worker, max(1, cluster.cpus // spec.resources.workers))
        fewer = spec.resources.sharing(0.0).model_copy(update={"cpus_per_worker": cores})
        spec = spec.model_copy(update={"resources": fewer})
    changed = tuple(map(showable, changing_results(changes)))
    reduced = not part_of(file.profile(profile), file.profile(PAPER))
    return Sweep(Path(file.path), spec, profile, changed, reduced)


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
    message = (
        f"a trial wants {wanted}; there are {cluster.cpus} and {cluster.gpus:g}. "
        "Lower them with --set resources.cpus_per_worker=…"
    )
    raise ConfigError([Problem((), message)])
