"""The command that runs sweep files: python -m platform.sweep search_spaces/backmix.yaml"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from platform.command import add_data_root, add_profile, add_tracking_uri, command, consoles, new_parser, store_of
from platform.files import search_file
from platform.files.rows import part_of, untrained
from platform.files.search_file import PAPER, SearchFile, changing_results
from platform.files.spec import Resources
from trainables.reading.addresses import showable
from trainables.reading.yaml_file import ConfigError, Problem

if TYPE_CHECKING:
    from platform.planning.plan import ImageSets, Plan, Sweep
    from platform.planning.results import Results
    from platform.running.cluster import Cluster
    from platform.running.execute import Locations
    from platform.tracking.tracker import Tracker
    from trainables.storage.folder import Folder

DONE, SOME_FAILED, NOTHING_STARTED, INTERRUPTED = 0, 1, 2, 130

EXAMPLES = """examples:
  python -m platform.sweep search_spaces/backmix.yaml
      the whole search: on a GPU the paper's protocol, without one the profile `quick`
  python -m platform.sweep search_spaces/backmix.yaml --dry-run
      show the plan, what is finished already, and the estimated time; start nothing
  python -m platform.sweep one.yaml two.yaml
      plan both together: a trial that both want is trained once
  python -m platform.sweep search_spaces/backmix.yaml --profile small --data-root DATA
      real CIFAR-10 at a scale that two CPU cores finish in an hour
  python -m platform.sweep search_spaces/backmix.yaml --set epochs=30 --set trials=2
      any setting of the base, or any key of the file, with another value

The same command again goes on where it was interrupted, and trains nothing that is finished.
Ctrl-C or SIGTERM keeps a checkpoint of every running trial.
exit codes: 0 all trials done, 1 some failed or are not in MLflow yet, 2 nothing was started, 130 interrupted"""


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    console, errors = consoles()
    try:
        _refuse_lost_results(args)
        files = [search_file.load(path) for path in args.files]
        for file in files:
            file.check(
                [args.profile] if args.profile else [n for n in ("quick", PAPER) if n in file.profiles], args.set
            )
        return _run(args, files, _command(argv), console, errors)
    except ConfigError as error:
        errors.print(escape(showable(error)), style="red")
        return NOTHING_STARTED
    except KeyboardInterrupt:
        errors.print("interrupted. This goes on from here:")
        errors.print(f"  {_command(argv)}")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "platform.sweep",
        "Run searches and ablations under Ray Tune, each trial once, and track everything in MLflow.",
        EXAMPLES,
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="file", help="as search_spaces/backmix.yaml")
    add_profile(
        parser, profile="a profile of the files; `paper` is a file as it stands", change="change a setting or a key"
    )
    add_data_root(parser)
    parser.add_argument("--download", action="store_true", help="fetch missing image sets, where torchvision can")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--fresh", action="store_true", help="train again what is finished, and search anew")
    parser.add_argument("--address", help="a running Ray cluster to join (default: RAY_ADDRESS, else this machine)")
    parser.add_argument(
        "--storage",
        help="folder or s3-like address that all nodes share: checkpoints of running trials, weights of teachers, "
        "studies (default: results)",
    )
    add_tracking_uri(parser)
    return parser


def _command(argv: Sequence[str] | None) -> str:
    return command("python", "-m", "platform.sweep", *(sys.argv[1:] if argv is None else argv))


def _refuse_lost_results(args: argparse.Namespace) -> None:
    """A submitted job runs in a temporary folder of a cluster: what it leaves there is lost with it."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    uri = args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    wanted = {"--storage": args.storage, "--tracking-uri": uri}
    for option, value in wanted.items():
        path = (value or "").removeprefix("sqlite:///")
        if "://" not in path and not Path(path).is_absolute():
            raise ConfigError(
                [
                    Problem(
                        (),
                        f"{option} is {'missing' if not value else f'{value}, a path of the job’s own folder'}: a "
                        "submitted job runs in a temporary folder, and what it leaves there is lost. Name a place "
                        "that all nodes share, as --storage /SHARED/results --tracking-uri sqlite:////SHARED/mlflow.db",
                    )
                ]
            )


def _run(args: argparse.Namespace, files: Sequence[SearchFile], again: str, console: Console, errors: Console) -> int:
    # Only now what is slow to import: a mistake in a file has been told at once.
    with console.status("loading torch and MLflow …"):
        from platform.planning.best import best_of
        from platform.planning.plan import ImageSets, make_plan
        from platform.planning.search import Study
        from platform.planning.work import Estimate, work
        from platform.running.cluster import ClusterError, local_cluster
        from platform.running.execute import Locations, execute
        from platform.running.interrupt import Interrupt
        from platform.terminal.reading import ReadingBars
        from platform.terminal.tables import sweep_table, work_table
        from platform.tracking.address import check_writable, free_bytes
        from platform.tracking.errors import TrackingError
        from platform.tracking.reader import Reader
        from platform.tracking.tracker import Tracker
        from trainables.images.listing import DataError
        from trainables.storage.cache import cache_folder

    def worker() -> type[Any]:
        from trainables.worker import Worker

        return Worker

    def say(text: str) -> None:
        console.print(escape(text), style="yellow", soft_wrap=True)

    interrupt = Interrupt(say)
    interrupt.listen()
    joined = bool(args.address or os.environ.get("RAY_ADDRESS"))
    tracker: Tracker | None = None
    try:
        storage = _storage(args.storage or "results")
        local = Path(storage.path) if storage.local else cache_folder() / "sweeps"
        place = Locations(args.data_root, storage, local)
        parts = {n for f in files for s in ("objective", "mix", "backbone") for n in f.named(s, args.set)}
        protocols = {n for f in files for n in f.named("protocol", args.set)}
        if joined:
            from platform.running import launch

            cluster = launch.connect(args.address, parts, protocols)
        else:
            cluster = local_cluster()
        interrupt.listen()
        sweeps = [_fit(args, file, cluster, console) for file in files]
        _refuse_one_name_twice(sweeps)
        for sweep in sweeps:
            _refuse_nothing_to_train(sweep)
        for sweep in sweeps:
            _refuse_too_large(sweep.spec.resources, cluster)
        uri = store_of(args)
        check_writable(uri)
        reader: Reader | None = None
        with console.status("opening MLflow …"):
            if args.dry_run:  # which writes nothing
                reader = Reader.open(uri)
            else:
                tracker = Tracker(uri, local / "outbox", say)
        with ReadingBars(console) as reading:
            images = ImageSets(args.data_root, args.download, reading)
            past = tracker.sweeps if tracker else reader.finished_sweeps if reader else None
            plan = make_plan(sweeps, images, partial(best_of, sweeps=past or (lambda name: [])))
        with console.status("looking for what is finished …"):
            there = tracker.finished() if tracker else reader.finished if reader else {}
            finished = {} if args.fresh else dict(there)
            found = {
                s.name: Study.there(s.spec, plan.identity(s.search), local / "studies") for s in sweeps if s.search
            }
            todo = work(plan, finished, {name: study for name, study in found.items() if study and not args.fresh})
        needs: dict[str, str] = {}
        with console.status("estimating the memory …"):
            for sweep in plan.sweeps:
                if (args.dry_run and todo.train) or sweep.spec.resources.gpus_per_worker == "auto":
                    from platform.running import launch

                    needs[sweep.name] = _pack(sweep, images, launch.gpu_memory())
        at_once = {sweep.name: cluster.at_once(sweep.spec.resources) for sweep in sweeps}
        guess: Estimate | str = ""
        if todo.train:
            with console.status("estimating the time …"):
                from platform.planning.cost import estimate

                here = not joined  # another machine's speed is not this one's
                guess = estimate(plan, todo, finished.values(), min(at_once.values()), here=here)
        for sweep in sweeps:
            console.print(sweep_table(sweep, images, at_once[sweep.name], needs.get(sweep.name, "")))
        console.print(work_table(todo, guess))
        free = free_bytes(uri)
        if isinstance(guess, Estimate) and free is not None and free < guess.disk:
            needed = f"less than the {guess.disk / 1e6:,.1f} MB needed"
            say(f"The disk of {showable(uri)} has {free / 1e6:,.1f} MB left, {needed}")
        if args.dry_run:
            return DONE
        assert tracker is not None
        started = time.monotonic()
        store = ["--tracking-uri", tracker.shown] if args.tracking_uri else []

        def tell(results: Results) -> int:
            minutes = (time.monotonic() - started) / 60
            _summarise(console, plan, place, results, tracker, store, minutes)
            if results.lost:
                errors.print(escape(results.lost), style="red")
            failed = bool(results.count("failed", "left out"))
            if results.interrupted or failed or results.undelivered:
                what = "This tries again what failed:" if failed else "This brings MLflow what it lacks:"
                what = "This goes on from here:" if results.interrupted else what
                console.print(f"{what}\n  {escape(again)}", soft_wrap=True)
            if results.interrupted and not results.lost:
                return INTERRUPTED
            return SOME_FAILED if results.lost or failed or results.undelivered else DONE

        def end(results: Results) -> None:
            """At once, without Ray's own end: it would wait for a cluster that is gone, and abort."""
            code = tell(results)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

        results = execute(
            plan,
            finished,
            tracker,
            console,
            interrupt,
            place,
            worker=worker,
            give_up=end,
            fresh=args.fresh,
            joined=joined,
        )
        if results.lost:
            end(results)
        return tell(results)
    except (DataError, TrackingError, ClusterError) as error:
        errors.print(escape(showable(error)), style="red")
        return NOTHING_STARTED
    finally:
        if tracker:
            tracker.close()
        if joined:
            from platform.running import launch

            launch.disconnect()


def _storage(where: str) -> Folder:
    from trainables.storage.folder import Folder

    try:
        return Folder.at(where)
    except (ValueError, OSError) as error:
        raise ConfigError([Problem((), f"--storage: {error}")]) from error


def _refuse_one_name_twice(sweeps: Sequence[Sweep]) -> None:
    names: dict[str, Path] = {}
    for sweep in sweeps:
        if sweep.name in names:
            message = f"{names[sweep.name]} and {sweep.file} are both named {sweep.name}: give one another name"
            raise ConfigError([Problem((), message)])
        names[sweep.name] = sweep.file


def _refuse_nothing_to_train(sweep: Sweep) -> None:
    waiting, trained = untrained(sweep.spec)
    if waiting and not trained:
        needs = " and ".join(waiting)
        message = (
            f"{sweep.file}, profile {sweep.profile}: every row needs {needs}, which this project does not have yet. "
            f"Nothing to train; its published numbers are shown by {command('python', '-m', 'platform.report')}"
        )
        raise ConfigError([Problem((), message)])


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


def _fit(args: argparse.Namespace, file: SearchFile, cluster: Cluster, console: Console) -> Sweep:
    """The profile that runs. Without a GPU, a trial takes none and no more cores than there are."""
    from platform.planning.plan import Sweep

    profile = args.profile or (PAPER if cluster.gpus or "quick" not in file.profiles else "quick")
    spec = file.profile(profile, args.set)
    if cluster.gpus:
        console.print(f"{cluster.gpus:g} GPU{'s' * (cluster.gpus != 1)} found: profile [bold]{profile}[/bold]")
    else:
        chosen = args.profile or profile == PAPER
        forced = "" if chosen else f" ([bold]--profile {PAPER}[/bold] forces the paper's protocol)"
        console.print(f"No GPU found: profile [bold]{profile}[/bold] runs on the CPU{forced}")
        cores = min(spec.resources.cpus_per_worker, max(1, cluster.cpus // spec.resources.workers))
        fewer = spec.resources.sharing(0.0).model_copy(update={"cpus_per_worker": cores})
        spec = spec.model_copy(update={"resources": fewer})
    changed = tuple(map(showable, changing_results(args.set)))
    reduced = not part_of(file.profile(profile), file.profile(PAPER))
    return Sweep(Path(file.path), spec, profile, changed, reduced)


def _pack(sweep: Sweep, images: ImageSets, memory: int) -> str:
    """What to say of the GPU memory of a sweep's trials, of `memory` bytes in all. Where `auto` is asked for, as many
    trials share a GPU as fit."""
    from platform.planning.memory import gpu_share, largest

    need, config = largest(sweep, images)
    said = f"about {need / 2**30:.1f} GiB of a GPU for the largest trial ({config.method}, {config.backbone})"
    auto = sweep.spec.resources.gpus_per_worker == "auto"
    if not memory:
        return f"{said}; no GPU tells its size, so auto gives each trial a whole one" if auto else said
    share = gpu_share(need, memory)
    if auto:
        packed = sweep.spec.resources.sharing(share)
        sweep.spec = sweep.spec.model_copy(update={"resources": packed})
    together = f"{int(1 / share)} of them on one of {memory / 2**30:.0f} GiB"
    return f"{said}; auto puts {together}, gpus_per_worker: {share:g}"


def _summarise(
    console: Console,
    plan: Plan,
    place: Locations,
    results: Results,
    tracker: Tracker,
    store: Sequence[str],
    minutes: float,
) -> None:
    """Tables of what was found, and where to see all of it; `store` are the options that name it to a report."""
    from platform.planning.captions import say_settings
    from platform.planning.search import Study
    from platform.terminal.tables import ending, rows_table, trials_table
    from platform.terminal.text import in_terminal

    for sweep in plan.sweeps:
        if sweep.search:
            study = Study.there(sweep.spec, plan.identity(sweep.search), place.local / "studies")
            if study is None:  # interrupted before its first proposal
                continue
            console.print(trials_table(sweep, study, results))
            objective = sweep.spec.objectives[0]
            best = study.best(1)
            ended = sweep.name in results.best
            for proposal in best:
                value = next(t.metrics[objective.metric] for t in study.history() if t.proposal == proposal)
                said = in_terminal(say_settings(proposal.settings))
                so_far = "" if ended else " so far"
                console.print(f"Best settings{so_far}: [bold]{said}[/bold]  ({objective.metric} {value:.3f})")
            if ended and not best:
                console.print("No search trial finished, so there was nothing to confirm.", style="red")
        if results.rows(sweep.name):
            console.print(rows_table(sweep, results, plan.images))
    console.print(ending(results, minutes))
    for name, run in results.runs.items():
        console.print(f"MLflow run [bold]{run}[/bold] in experiment [bold]{in_terminal(name)}[/bold]", soft_wrap=True)
    for sweep in plan.sweeps:
        options = ["--profile", sweep.profile, *(part for change in sweep.changed for part in ("--set", change))]
        report = command("python", "-m", "platform.report", str(sweep.file), *options, *store)
        what = "Beside the published numbers" if sweep.spec.paper else "As a table"
        console.print(f"{what}, with --format html as a page:\n  {escape(report)}", soft_wrap=True)
    console.print(escape(tracker.how_to_see()), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
