"""The command that looks at what has run: python -m platform.runs"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from platform.command import DONE, NOTHING_DONE, add_tracking_uri, consoles, new_parser, no_runs, parsed, store_of
from trainables.reading.addresses import showable
from trainables.reading.yaml_file import ConfigError, Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from platform.records.listing import Records

REMOVABLE = ("checkpoints", "teachers", "studies", "images", "indexes", "deleted")
SHOWN_TRIALS, SHOWN_SWEEPS = 30, 10  # where nothing else is asked for

EXAMPLES = """examples:
  python -m platform.runs
      the latest sweeps and trials: what became of each, its accuracy and AUROC, how long it took and when
  python -m platform.runs list --failed --since 3d
      what failed within three days; `show` prints the traceback
  python -m platform.runs list --csv > trials.csv
      every trial, one line each, with all its metrics
  python -m platform.runs show 5a3f
      one trial or sweep by its identity, its run or its name, or by what these begin with
  python -m platform.runs diff "Plain, split 0" "CutMix, split 0"
      what is not the same about two trials: settings, code, versions, metrics
  python -m platform.runs stop "Plain, split 0"
      ask the sweep that trains it to end this trial; the others go on, and the same sweep later goes on with it
  python -m platform.runs export 5a3f weights.pth
      its weights for torchvision's or timm's own network, and the Python that loads them
  python -m platform.runs clean images teachers --dry-run
      what lies under --storage, in the cache and deleted in MLflow, and what each is good for; removes what is named

exit codes: 0 done; 2 nothing was done: a name, an option or the store is wrong"""


def main(argv: list[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments.insert(0, "list")
    args = parsed(_parser(), arguments)
    console, errors = consoles()
    from platform.tracking.errors import TrackingError

    try:
        code: int = args.do(args, console, errors)
        return code
    except (ConfigError, TrackingError) as error:
        errors.print(escape(showable(error)), style="red")
        return NOTHING_DONE


def _parser() -> argparse.ArgumentParser:
    parser = new_parser("platform.runs", "Look at what has run, compare it, and clean up after it.", EXAMPLES)
    commands = parser.add_subparsers(metavar="command", required=True)

    listed = commands.add_parser("list", help="sweeps and trials, the latest first (also without any command)")
    listed.add_argument("--failed", action="store_true", help="trials that failed, or whose process is gone")
    listed.add_argument("--row", help="trials of the row of this name")
    listed.add_argument("--sweep", help="trials of the sweep of this name")
    listed.add_argument("--since", metavar="WHEN", help="ended since then: a day as 2026-11-20, or 90m, 12h, 3d, 2w")
    listed.add_argument("--limit", type=int, default=SHOWN_TRIALS, help="of lines (default: %(default)s; 0: all)")
    listed.add_argument("--json", action="store_true", help="all that is known of them, for programs")
    listed.add_argument("--csv", action="store_true", help="one line a trial, with all its metrics")
    listed.set_defaults(do=_list)

    shown = commands.add_parser("show", help="all of one trial or sweep")
    shown.add_argument("id", help="an identity, a run or a name, or what one begins with")
    shown.add_argument("--json", action="store_true", help="the same for programs")
    shown.set_defaults(do=_show)

    compared = commands.add_parser("diff", help="what is not the same about two trials: settings, code, metrics")
    compared.add_argument("ids", nargs=2, metavar="id", help="as of show")
    compared.add_argument("--json", action="store_true", help="the same for programs, with every metric")
    compared.set_defaults(do=_diff)

    ended = commands.add_parser("stop", help="ask a running sweep to end one trial, which keeps a checkpoint")
    ended.add_argument("id", help="as of show")
    ended.set_defaults(do=_stop)

    exported = commands.add_parser("export", help="weights of a finished trial, for torchvision's or timm's network")
    exported.add_argument("id", help="as of show")
    exported.add_argument("file", help="to write, as weights.pth")
    exported.set_defaults(do=_export)

    cleaned = commands.add_parser("clean", help="what lies on the disk, what it is good for; removes what is chosen")
    cleaned.add_argument("what", nargs="*", metavar="what", help=f"to remove: {', '.join(REMOVABLE)}")
    cleaned.add_argument("--storage", type=Path, default=Path("results"), help="as of a sweep (default: results)")
    cleaned.add_argument("--dry-run", action="store_true", help="name what would be removed, and remove nothing")
    cleaned.set_defaults(do=_clean)

    for one in (listed, shown, compared, ended, exported, cleaned):
        add_tracking_uri(one)
    return parser


def _records(args: argparse.Namespace, errors: Console) -> Records:
    """Raises `ConfigError` where there is no store yet."""
    from platform.records.listing import Records
    from platform.tracking.reader import Reader

    uri = store_of(args.tracking_uri)
    with errors.status("reading what has run …"):
        reader = Reader.open(uri)
    if reader is None:
        raise ConfigError([Problem((), no_runs(uri))])
    return Records(reader)


def _list(args: argparse.Namespace, console: Console, errors: Console) -> int:
    from platform.records import listing

    records = _records(args, errors)
    since = listing.since(args.since, time.time()) if args.since else 0.0
    trials = records.trials(failed=args.failed, row=args.row, sweep=args.sweep, since=since)
    if args.csv or args.json:
        lines = [listing.as_mapping(records, run) for run in trials]
        if args.csv:
            print(listing.comma_separated(lines), end="")
        else:
            sweeps = [listing.sweep_mapping(records, sweep) for sweep in records.sweeps]
            print(json.dumps({"sweeps": sweeps, "trials": lines}, indent=1))
        return DONE
    from platform.records import tables

    filtered = args.failed or args.row or args.sweep or args.since
    if not filtered and records.sweeps:
        console.print(tables.sweeps_table(records, records.sweeps[: (args.limit and SHOWN_SWEEPS) or None], trials))
    shown = trials[: args.limit or None]
    console.print(tables.trials_table(records, shown))
    console.print(tables.legend(len(trials) - len(shown)), soft_wrap=True)
    return DONE


def _show(args: argparse.Namespace, console: Console, errors: Console) -> int:
    from platform.records import showing, tables
    from platform.tracking.index import SweepRun

    records = _records(args, errors)
    run = records.find(args.id)
    if args.json:
        print(json.dumps(showing.shown(records, run), indent=1))
        return DONE
    _print(
        tables.sweep_tables(records, run) if isinstance(run, SweepRun) else tables.trial_tables(records, run), console
    )
    return DONE


def _diff(args: argparse.Namespace, console: Console, errors: Console) -> int:
    from platform.records import tables
    from platform.records.difference import difference
    from platform.tracking.index import TrialRun

    records = _records(args, errors)
    trials = []
    for name in args.ids:
        run = records.find(name)
        if not isinstance(run, TrialRun):
            raise ConfigError([Problem((), f"{name} is a sweep: diff compares two trials, report compares sweeps")])
        trials.append(run)
    if args.json:
        print(json.dumps(asdict(difference(*trials)), indent=1))
        return DONE
    _print(tables.diff_tables(*trials), console)
    return DONE


def _stop(args: argparse.Namespace, console: Console, errors: Console) -> int:
    from platform.tracking.index import TrialRun

    records = _records(args, errors)
    run = records.find(args.id)
    who = f"process {run.tags.get('pid')} on {run.tags.get('host')}"
    if not isinstance(run, TrialRun):
        raise ConfigError([Problem((), f"{args.id} is a sweep: Ctrl-C or SIGTERM ends it ({who})")])
    if (status := records.status(run)) != "running":
        raise ConfigError([Problem((), f"{args.id} is {status}: only a trial that is running can be ended")])
    records.reader.ask_to_end(run)
    said = f"asked {who} to end {args.id} within seconds, with a checkpoint: the same sweep again goes on with it"
    console.print(said, markup=False, soft_wrap=True)
    return DONE


def _export(args: argparse.Namespace, console: Console, errors: Console) -> int:
    from platform.notebook import Store
    from trainables.data.augment import NORMALISATIONS
    from trainables.storage.weights import WeightsError

    store = Store(args.tracking_uri)
    try:
        lines = store.export(args.id, args.file)
    except WeightsError as error:
        raise ConfigError([Problem((), str(error))]) from error
    config = store.config(args.id)
    statistics = NORMALISATIONS.get(config.normalisation)
    by = f"less {statistics.mean}, by {statistics.std}" if statistics else "by those of its training images"
    print("\n".join([*lines, f"# of {config.seen_size} px images, RGB in 0..1, {by}"]))
    return DONE


def _clean(args: argparse.Namespace, console: Console, errors: Console) -> int:
    if wrong := [name for name in args.what if name not in REMOVABLE]:
        said = f"{wrong[0]}: cannot be removed{nearest(wrong[0], REMOVABLE)}; what can is {', '.join(REMOVABLE)}"
        raise ConfigError([Problem((), said)])
    from platform.records import cleaning, tables

    records = _records(args, errors)
    with errors.status("looking at what there is …"):
        items = cleaning.survey(records, args.storage)
    if not args.what:
        console.print(tables.kinds_table(items))
        console.print("Nothing was removed. Name what to remove, as `clean images`; --dry-run says what that would be.")
        return DONE
    chosen = [item for item in items if item.kind in args.what]
    try:
        gone = [item for item in chosen if not item.needed] if args.dry_run else list(cleaning.remove(chosen, records))
    except OSError as error:
        raise ConfigError([Problem((), f"not all could be removed: {error}")]) from error
    verb = "would remove" if args.dry_run else "removed"
    for item in gone:
        console.print(f"{verb} {item.name}", markup=False, soft_wrap=True)
    for item in (item for item in chosen if item.needed):
        console.print(f"kept {item.name}: {item.needed}", markup=False, soft_wrap=True)
    console.print(f"{verb} {len(gone)} things, {decimal(sum(item.size for item in gone))}")
    return DONE


def _print(parts: Iterable[Table | str], console: Console) -> None:
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


if __name__ == "__main__":
    sys.exit(main())
