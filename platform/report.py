"""The command that prints tables of tracked runs: python -m platform.report search_spaces/asymmetric/table06.yaml"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from platform.command import (
    DONE,
    NOTHING_DONE,
    add_data_root,
    add_profile,
    add_tracking_uri,
    consoles,
    new_parser,
    no_runs,
    parsed,
    store_of,
)
from platform.files import search_file
from platform.files.search_file import SearchFile, changing_results
from trainables.reading.addresses import showable
from trainables.reading.yaml_file import ConfigError, Problem, nearest
from trainables.scoring.metrics import BALANCED, OPEN_SET_METRICS, RANKING_METRICS
from trainables.settings.resolving import SCORES

if TYPE_CHECKING:
    from platform.reports.page import Figure
    from platform.reports.recorded import Recorded
    from platform.reports.table import ReportTable
    from platform.tracking.reader import Reader

FORMATS = ("terminal", "markdown", "latex", "csv", "html", "trials")
TABLES = Path("search_spaces")

EXAMPLES = """examples:
  python -m platform.report search_spaces/asymmetric/table06.yaml
      the table, measured beside published; Markdown where the output is piped
  python -m platform.report search_spaces/asymmetric/table06.yaml --format html
      one page with its figures, and the runs behind every cell: reports/asymmetric/table06.html
  python -m platform.report search_spaces/asymmetric/table06.yaml --format latex > table06.tex
  python -m platform.report search_spaces/asymmetric/table06.yaml --score msp --metric auroc.arpl
      the same trials by another score and definition, from what they recorded; nothing is trained
  python -m platform.report search_spaces/asymmetric/table06.yaml --format trials --out results.csv
      the trials behind it, one line each with all their metrics; `--from results.csv` makes the table again
  python -m platform.report search_spaces/asymmetric/table06.yaml --against sqlite:///before.db
      beside the same table of another store: did a change of the code change the results?
  python -m platform.report --all
      a page for each table of search_spaces/, and reports/index.html over all of them

exit codes: 0 shown, also where nothing of it has run yet; 2 a file, an option or the store is wrong"""


def main(argv: list[str] | None = None) -> int:
    args = parsed(_parser(), argv)
    console, errors = consoles()
    try:
        return _run(args, console, errors)
    except ConfigError as error:
        errors.print(escape(showable(error)), style="red")
        return NOTHING_DONE


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "platform.report", "Print the tables of search files from tracked runs, measured beside published.", EXAMPLES
    )
    parser.add_argument("files", type=Path, nargs="*", metavar="file", help="as search_spaces/asymmetric/table06.yaml")
    parser.add_argument("--all", action="store_true", help=f"every file of {TABLES}/ that re-runs a published table")
    profile = "a profile of the files (default: `paper` if it was run, else the newest run)"
    add_profile(parser, profile=profile, change="as the sweep was started with")
    parser.add_argument("--format", choices=FORMATS, help="default: terminal; markdown where the output is piped")
    parser.add_argument("--out", type=Path, help="write there; a folder for html (default: reports)")
    parser.add_argument(
        "--from",
        dest="exported",
        type=Path,
        metavar="CSV",
        help="the trials of a file by `--format trials`, not a store's",
    )
    against = "set it beside another file, another store, or another CSV: the paired difference of every cell"
    parser.add_argument("--against", metavar="OTHER", help=against)
    parser.add_argument("--score", metavar="SCORE", help=f"recompute with it: {', '.join(SCORES)}")
    parser.add_argument("--metric", metavar="METRIC", help="recompute with it: auroc, auroc.arpl, oscr, tnr95, …")
    parser.add_argument(
        "--recompute", action="store_true", help="every number from scores.parquet, not as its run recorded it"
    )
    parser.add_argument("--sensitivity", action="store_true", help="every claim once more without one split at a time")
    add_data_root(parser, "for figures that need images")
    parser.add_argument("--no-figures", action="store_true", help="leave the figures of a page out")
    parser.add_argument(
        "--ui", metavar="URL", help="where MLflow's UI runs, for links (default: http://127.0.0.1:5000)"
    )
    add_tracking_uri(parser)
    return parser


def _run(args: argparse.Namespace, console: Console, errors: Console) -> int:
    paths = _paths(args)
    _check_choices(args)
    files = [search_file.load(path) for path in paths]
    for file in files:
        file.check([args.profile] if args.profile else list(file.profiles), args.set)
    # Only now what is slow to import: a mistake in a file has been told at once.
    from platform.reports.exported import read_exported
    from platform.tracking.errors import TrackingError
    from platform.tracking.reader import Reader

    uri = store_of(args.tracking_uri)
    try:
        with errors.status("reading what has run …"):
            reader = read_exported(args.exported, "--from") if args.exported else Reader.open(uri)
        if reader is None:
            errors.print(escape(no_runs(uri)), style="yellow")
        if args.against:
            return _compare(args, files[0], reader, console, errors)
        return _show(args, files, reader, uri, console, errors)
    except TrackingError as error:
        errors.print(escape(showable(error)), style="red")
        return NOTHING_DONE


def _paths(args: argparse.Namespace) -> list[Path]:
    if args.all == bool(args.files):
        raise ConfigError([Problem((), "name files, or --all for every table of search_spaces/")])
    if not args.all:
        return list(args.files)
    from trainables.reading import yaml_file

    found = [path for path in sorted(TABLES.rglob("*.yaml")) if "paper" in (yaml_file.load(path).data or {})]
    if not found:
        raise ConfigError([Problem((), f"no table in {TABLES.absolute()}: start from the folder of this project")])
    return found


def _check_choices(args: argparse.Namespace) -> None:
    if args.recompute and args.exported:
        raise ConfigError([Problem((), "--recompute reads the files of runs, which --from has not")])
    if args.against and (len(args.files) != 1 or args.format not in (None, "terminal", "markdown") or args.out):
        raise ConfigError([Problem((), "--against compares one file, in the terminal or as Markdown")])
    choices = {
        "score": SCORES,
        "metric": (*RANKING_METRICS, *OPEN_SET_METRICS, *BALANCED, "f1.test95"),
    }
    for option, allowed in choices.items():
        value = getattr(args, option)
        if value is not None and value not in allowed:
            message = f"--{option} {value}: unknown{nearest(value, allowed)}; one of {', '.join(allowed)}"
            raise ConfigError([Problem((), message)])


def _show(
    args: argparse.Namespace,
    files: Sequence[SearchFile],
    reader: Reader | None,
    uri: str,
    console: Console,
    errors: Console,
) -> int:
    from platform.reports.exported import exported
    from platform.reports.lacking import check_exported, filling, say_unscored
    from platform.reports.page import Links
    from platform.reports.recorded import Recorded
    from platform.reports.writing import write_pages

    recorded = Recorded(reader, args.recompute) if reader and not args.exported else None
    with errors.status("making the tables …"):
        tables = [_table(args, file, reader, recorded, errors) for file in files]
    for run_id in sorted(recorded.unreadable) if recorded else ():
        errors.print(f"run {run_id} has no scores.parquet: its cells are missing", style="yellow")
    if recorded:
        say_unscored(tables, recorded.unscored, _store(args), errors)
    if args.exported and reader:
        check_exported(args.exported, tables, reader)
    form = args.format or ("html" if args.all else "terminal" if console.is_terminal else "markdown")
    if form == "html":
        write_pages(
            tables,
            args.out or Path("reports"),
            Links.of(uri, reader, args.ui),
            lambda table: "" if args.exported else filling(table, _store(args)),
            lambda table, folder: _figures(args, table, reader, recorded, folder, errors),
            console,
            index=args.all,
            keep=reader.keep if reader else None,
        )
        return DONE
    if form == "terminal" and args.out is None:
        _print(args, tables, console)
        return DONE
    text = exported(tables, reader) if form == "trials" and reader else _text(args, tables, form)
    if args.out is None:
        print(text, end="")
        return DONE
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem((), f"--out: {error}")]) from error
    console.print(f"wrote {escape(str(args.out))}")
    return DONE


def _compare(
    args: argparse.Namespace, file: SearchFile, reader: Reader | None, console: Console, errors: Console
) -> int:
    """The table beside that of another file of the same trials, or of other trials by the same file."""
    from platform.reports import against
    from platform.reports.exported import read_exported
    from platform.reports.recorded import Recorded
    from platform.tracking.reader import Reader

    other, theirs = file, reader
    if args.against.endswith((".yaml", ".yml")):
        other = search_file.load(Path(args.against))
    elif args.against.endswith(".csv"):
        theirs = read_exported(Path(args.against), "--against")
    else:
        theirs = Reader.open(args.against)
    if theirs is None:
        raise ConfigError([Problem((), f"--against {showable(args.against)}: there is no such store")])
    one, two = (
        _table(args, of, where, Recorded(where, args.recompute) if where and where.uri else None, errors)
        for of, where in ((file, reader), (other, theirs))
    )
    if args.format == "markdown" or not (args.format or console.is_terminal):
        print(against.markdown(one, two), end="")
    else:
        console.print(against.in_a_terminal(one, two))
    mine = args.exported or showable(store_of(args.tracking_uri))
    of = mine if other is not file else showable(args.against)
    for name, table, where in (("first", one, mine), ("second", two, of)):
        console.print(f"\n{name}: {where}, {against.said_of(table)}", markup=False, soft_wrap=True)
    return DONE


def _table(
    args: argparse.Namespace, file: SearchFile, reader: Reader | None, recorded: Recorded | None, errors: Console
) -> ReportTable:
    from platform.reports.lacking import say_what_ran
    from platform.reports.of_file import chosen, table_of

    profile, changed = chosen(file, reader, args.profile, tuple(map(showable, changing_results(args.set))))
    say_what_ran(file.profile(profile, changed).name, profile, changed, reader, errors)
    return table_of(file, profile, changed, reader, recorded, args.score, args.metric, args.sensitivity)


def _print(args: argparse.Namespace, tables: Sequence[ReportTable], console: Console) -> None:
    from platform.reports.forms import compared, decimals, terminal
    from platform.terminal.text import in_terminal

    for table in tables:
        console.print(terminal(table))
        for comparison in table.comparisons:
            console.print("  " + in_terminal(compared(comparison, decimals(table))), soft_wrap=True)
        if command := _fills(args, table):
            console.print(f"This fills it:\n  {escape(command)}", soft_wrap=True)


def _fills(args: argparse.Namespace, table: ReportTable) -> str:
    """The command that fills a table; nothing where it is full, or of an exported file, which is never filled."""
    from platform.reports.lacking import filling

    lacks = not args.exported and any(table.counts()[state] for state in ("partial", "missing"))
    return filling(table, _store(args)) if lacks else ""


def _store(args: argparse.Namespace) -> list[str]:
    """The options that name the store that is read."""
    return ["--tracking-uri", showable(args.tracking_uri)] if args.tracking_uri else []


def _text(args: argparse.Namespace, tables: Sequence[ReportTable], form: str) -> str:
    from platform.reports import forms

    if form == "csv":
        first, *others = [forms.comma_separated(table) for table in tables]
        return first + "".join(text.partition("\n")[2] for text in others)
    make = {"latex": forms.latex, "markdown": forms.markdown, "terminal": forms.markdown}[form]
    made = [make(table) for table in tables]
    if form != "latex":
        made = [
            f"{text}\nThis fills it: `{command}`\n" if (command := _fills(args, table)) else text
            for text, table in zip(made, tables, strict=True)
        ]
    return "\n".join(made)


def _figures(
    args: argparse.Namespace,
    table: ReportTable,
    reader: Reader | None,
    recorded: Recorded | None,
    folder: Path,
    errors: Console,
) -> tuple[list[Figure], dict[str, str]]:
    """The figures that the file names, drawn into `folder`; a page of all tables has none: they take long."""
    if args.all or args.no_figures or reader is None or recorded is None or not table.figures:
        return [], {}
    from platform.reports.figures import draw

    with errors.status("drawing figures …"):
        return draw(table, reader, recorded, args.data_root, folder)


if __name__ == "__main__":
    sys.exit(main())
