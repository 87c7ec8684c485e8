"""The command that runs a search file: python -m platform.sweep search_spaces/backmix.yaml"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as ReadingBars
from rich.progress import TaskID

from platform import search_file
from platform.search_file import PAPER, SearchFile
from platform.spec import Spec
from trainables.yaml_file import ConfigError

if TYPE_CHECKING:
    from platform.launch import Cluster
    from platform.plan import Plan
    from platform.results import Results
    from platform.tracking import Tracker

DONE, SOME_FAILED, NOTHING_STARTED, INTERRUPTED = 0, 1, 2, 130

EXAMPLES = """examples:
  python -m platform.sweep search_spaces/backmix.yaml
      the whole search: on a GPU the paper's protocol, without one the profile `quick`
  python -m platform.sweep search_spaces/backmix.yaml --dry-run
      show the plan and its estimated time, start nothing
  python -m platform.sweep search_spaces/backmix.yaml --profile small --data-root DATA
      real CIFAR-10 at a scale that two CPU cores finish in an hour
  python -m platform.sweep search_spaces/backmix.yaml --set epochs=3 --set trials=2
      any setting of the base, or any key of the file, with another value

exit codes: 0 all trials done, 1 some failed, 2 nothing was started, 130 interrupted"""


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        file = search_file.load(args.file)
        if args.profile:
            file.profile(args.profile, args.set)
        return _run(args, file, console, errors)
    except ConfigError as error:
        errors.print(escape(str(error)), style="red")
        return NOTHING_STARTED
    except KeyboardInterrupt:
        errors.print("interrupted: nothing is left running")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m platform.sweep",
        description="Search settings under Ray Tune, confirm the best on the test set, track everything in MLflow.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="a search file, as search_spaces/backmix.yaml")
    parser.add_argument("--profile", help="a profile of the file; `paper` is the file as it stands")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting or a key")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="where image sets are (default: data)")
    parser.add_argument("--download", action="store_true", help="fetch missing image sets, where torchvision can")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--address", help="a running Ray cluster to join (default: RAY_ADDRESS, else this machine)")
    parser.add_argument(
        "--storage",
        type=Path,
        default=Path("results"),
        help="folder for running trials and for teachers' weights, which stay",
    )
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db",
        help="MLflow store or server (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here)",
    )
    return parser


def _run(args: argparse.Namespace, file: SearchFile, console: Console, errors: Console) -> int:
    # Only now what is slow to import: a mistake in the file has been told at once.
    with console.status("loading torch, Ray and MLflow …"):
        from platform import launch
        from platform.cost import estimate
        from platform.execute import execute
        from platform.plan import make_plan
        from platform.tables import plan_table
        from platform.tracking import Tracker, TrackingError
        from trainables.data.sets import DataError

    launch.on_interrupt()
    joins = bool(args.address or os.environ.get("RAY_ADDRESS"))
    try:
        cluster = launch.connect(args.address) if joins else launch.local_cluster()
        profile = args.profile or (PAPER if cluster.gpus or "quick" not in file.profiles else "quick")
        spec = _fit(console, file.profile(profile, args.set), profile, cluster, chosen=bool(args.profile))
        at_once = cluster.at_once(spec.resources)
        if at_once == 0:
            errors.print(
                f"a trial wants {spec.resources.cpus_per_worker} CPUs and {spec.resources.gpus_per_worker:g} GPUs; "
                f"there are {cluster.cpus} and {cluster.gpus:g}. Lower them with --set resources.cpus_per_worker=…",
                style="red",
            )
            return NOTHING_STARTED
        with _Reading(console) as reading:
            plan = make_plan(spec, profile, args.data_root, changed=args.set, download=args.download, progress=reading)
        seconds = None
        if not joins:  # another machine's speed is not this one's
            with console.status("timing a few training steps for the estimate …"):
                needs = spec.resources
                seconds = estimate(plan, needs.cpus_per_worker, needs.gpus_per_worker > 0, at_once)
        console.print(plan_table(plan, file.path, at_once, seconds))
        if args.dry_run:
            return DONE
        with console.status("opening MLflow …"):
            tracker = Tracker(args.tracking_uri, spec.name, spec.objective.metric)
        started = time.monotonic()
        results = execute(
            plan,
            tracker,
            console,
            file=args.file,
            data_root=args.data_root,
            storage=args.storage,
            start_ray=not joins,
        )
        _summarise(console, plan, results, tracker, minutes=(time.monotonic() - started) / 60)
        return SOME_FAILED if results.failed or not results.best(1) else DONE
    except (DataError, TrackingError, launch.ClusterError) as error:
        errors.print(escape(str(error)), style="red")
        return NOTHING_STARTED
    finally:
        if joins:
            launch.disconnect()


def _summarise(console: Console, plan: Plan, results: Results, tracker: Tracker, minutes: float) -> None:
    """Tables of what was found, and where to see all of it."""
    from platform.progress import say_settings
    from platform.tables import confirmed_table, trials_table

    console.print(trials_table(results))
    metric = plan.spec.objective.metric
    for trial in results.best(1):
        best = f"[bold]{escape(say_settings(trial.searched))}[/bold]  ({metric} {trial.metrics[metric]:.3f})"
        console.print(f"Best settings: {best}")
    if not results.best(1):
        console.print("No search trial finished, so there was nothing to confirm.", style="red")
    if results.of("confirm"):
        console.print(confirmed_table(results, plan))
    console.print(f"{len(results.trials)} trials in {minutes:.1f} minutes, {len(results.failed)} failed")
    run, experiment = tracker.sweep_run, escape(plan.spec.name)
    console.print(f"MLflow run [bold]{run}[/bold] in experiment [bold]{experiment}[/bold]. See it with", soft_wrap=True)
    console.print(f"  {tracker.ui_command()}", soft_wrap=True)


def _fit(console: Console, spec: Spec, profile: str, cluster: Cluster, *, chosen: bool) -> Spec:
    """Say what was found; without a GPU, a trial takes none and no more cores than there are."""
    if cluster.gpus:
        console.print(f"{cluster.gpus:g} GPUs found: profile [bold]{profile}[/bold]")
        return spec
    forced = "" if chosen else f" ([bold]--profile {PAPER}[/bold] forces the paper's protocol)"
    console.print(f"No GPU found: profile [bold]{profile}[/bold] runs on the CPU{forced}")
    fewer = {"gpus_per_worker": 0.0, "cpus_per_worker": min(spec.resources.cpus_per_worker, cluster.cpus)}
    resources = spec.resources.model_copy(update=fewer)
    return spec.model_copy(update={"resources": resources})


class _Reading:
    """Progress of images being decoded for the first time, as a bar that appears only if there are any."""

    def __init__(self, console: Console) -> None:
        self.bars = ReadingBars(console=console, transient=True)
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(f"reading {escape(what)}", total=total)
        self.bars.update(self.tasks[what], completed=done)

    def __enter__(self) -> _Reading:
        self.bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bars.stop()


if __name__ == "__main__":
    sys.exit(main())
