"""What a command tells at the end of its sweeps: what was found, and where to see all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from platform.command import command
from platform.deciding.paired import Key
from platform.deciding.stopping import decisions
from platform.deciding.told import say_closed, say_decision
from platform.planning.captions import say_settings
from platform.planning.plan import Plan, Sweep
from platform.planning.results import Results
from platform.planning.search import Study
from platform.terminal.tables import ending, rows_table, trials_table
from platform.terminal.text import in_terminal
from platform.terminal.tracebacks import last_first
from platform.tracking.tracker import Tracker

SHOWN_FAILURES, SHOWN_LINES = 3, 10  # of trials that failed, and of the traceback of each


def summarise(
    console: Console,
    plan: Plan,
    studies: Path,
    results: Results,
    tracker: Tracker,
    store: Sequence[str],
    minutes: float,
) -> None:
    """Tables of what was found, and where to see all of it; `store` are the options that name it to a report."""
    for sweep in plan.sweeps:
        if sweep.search:
            study = Study.there(sweep.spec, plan.identity(sweep.search), studies)
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
        for said in _decisions(sweep, results):
            console.print(said, soft_wrap=True)
    for lines in failures(results, store):
        console.print("\n".join(lines), soft_wrap=True)
    console.print(ending(results, minutes))
    for name, run in results.runs.items():
        console.print(f"MLflow run [bold]{run}[/bold] in experiment [bold]{in_terminal(name)}[/bold]", soft_wrap=True)
    for sweep in plan.sweeps:
        options = ["--profile", sweep.profile, *(part for change in sweep.changed for part in ("--set", change))]
        report = command("python", "-m", "platform.report", str(sweep.file), *options, *store)
        what = "Beside the published numbers" if sweep.spec.paper else "As a table"
        console.print(f"{what}, with --format html as a page:\n  {escape(report)}", soft_wrap=True)
    console.print(escape(tracker.how_to_see()), soft_wrap=True)


def failures(results: Results, store: Sequence[str]) -> Iterator[list[str]]:
    """Of the first trials that failed, each otherwise: its traceback, what went wrong first, and how to see all of it;
    `store` are the options that name it."""
    failed = {o.identity: o for o in results.outcomes if o.status == "failed"}
    distinct = list({o.error: o for o in reversed(failed.values())}.values())[::-1]
    for outcome in distinct[:SHOWN_FAILURES]:
        place = outcome.place
        others = sum(o.error == outcome.error for o in failed.values()) - 1
        alike = f", and {others} more like it" if others else ""
        said = [in_terminal(line) for line in last_first(outcome.error)]
        more = command("python", "-m", "platform.runs", "show", outcome.identity, *store)
        yield [
            f"[red]{in_terminal(place.row)}, split {place.split}, seed {place.seed} failed[/red]{alike}:",
            *(f"  {line}" for line in said[:SHOWN_LINES]),
            *([f"  all of it: {in_terminal(more)}"] if len(said) > SHOWN_LINES else []),
        ]
    if len(distinct) > SHOWN_FAILURES:
        more = command("python", "-m", "platform.runs", "list", "--failed", *store)
        yield [f"and {len(distinct) - SHOWN_FAILURES} that failed otherwise: {in_terminal(more)}"]


def _decisions(sweep: Sweep, results: Results) -> Iterator[str]:
    """A line for each claim of a sweep that runs until decided."""
    if sweep.spec.until is None:
        return
    metrics = dict(zip(sweep.spec.columns, sweep.columns, strict=True))

    def values(row: str, column: str) -> dict[Key, float]:
        group, metric = metrics[column]
        return {key: 100 * value for key, value in results.values(sweep.name, row, metric, group).items()}

    for one in decisions(sweep.spec, values):
        rows = f"{one.claim.row} − {one.claim.over}, {one.column}"
        outcome = f": [bold]{in_terminal(say_closed(one))}[/bold]" if one.closed else ""
        yield f"  {in_terminal(rows)}: {in_terminal(say_decision(one, 1))}{outcome}"
