"""Sweeps and trials as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.filesize import decimal
from rich.table import Table

from platform.records import files, showing
from platform.records.cleaning import KINDS, Item
from platform.records.difference import difference
from platform.records.listing import Records, accuracy, age, auroc, counts, title, versions
from platform.terminal.text import in_terminal, took
from platform.terminal.tracebacks import last_first
from platform.tracking.index import SweepRun, TrialRun
from trainables.scoring.metric_names import MetricName

ID = 10  # characters of a run's id that are shown: any of its beginnings will do
_STYLES = {"running": "cyan", "failed": "red", "lost": "red", "interrupted": "yellow", "superseded": "dim"}
_COLUMNS = (
    "auroc",
    "oscr",
    "tnr95",
    "auin",
    "auout",
    "dtacc",
    "f1.test95",
)  # of the metrics of a score, that are shown


def sweeps_table(records: Records, sweeps: Sequence[SweepRun], trials: Sequence[TrialRun]) -> Table:
    """A line a sweep; how its trials ended is counted over all sweeps of its name, which share them."""
    table = _table("Sweeps", "run", "sweep", "profile", "status", "trials", "age")
    ended = counts(records, trials)
    for sweep in sweeps:
        status = records.status(sweep)
        profile = " ".join(filter(None, [sweep.profile, *(f"--set {c}" for c in sweep.changed.split() if c)]))
        said = ", ".join(f"{count} {how}" for how, count in ended.get(sweep.experiment, {}).items())
        name, shown = in_terminal(sweep.experiment), in_terminal(profile)
        table.add_row(sweep.run_id[:ID], name, shown, _coloured(status), said, age(sweep))
    return table


def trials_table(records: Records, trials: Sequence[TrialRun]) -> Table:
    """A line a trial, its metrics in percent."""
    table = _table("Trials", "run", "status", "sweep", "row", "split", "seed", "acc.", "AUROC", "took", "age")
    for name in ("split", "seed", "acc.", "AUROC", "took", "age"):
        next(c for c in table.columns if c.header == name).justify = "right"
    for run in trials:
        closed, opened = accuracy(run), auroc(run)
        acc = f"{100 * closed[1]:.1f}{_part(closed[0])}" if closed else ""
        auc = f"{100 * opened[2]:.1f} {opened[1]}{_part(opened[0])}" if opened else ""
        row = f"{run.tags.get('name', run.row)}" if run.phase == "search" else run.row
        place = (run.tags.get("split", ""), run.tags.get("seed", ""))
        told = (*place, acc, auc, took(run.seconds), age(run))
        named = (in_terminal(run.sweep), in_terminal(row))
        table.add_row(run.run_id[:ID], _coloured(records.status(run)), *named, *told)
    return table


def legend(more: int) -> str:
    """What a table of trials does not say, `more` of which it does not show."""
    said = "In percent; AUROC by the score beside it, the mean over unknown sets; val: of a search."
    return f"{said} {more} older trials are not shown: --limit 0 shows all." if more else said


def trial_tables(records: Records, run: TrialRun) -> Iterator[Table | str]:
    """All of one trial."""
    status, tags = records.status(run), run.tags
    yield f"[bold]{in_terminal(title(run))}[/bold]"
    place = f"split {tags.get('split', '?')}, seed {tags.get('seed', '?')}"
    on = f" on {run.device}" if run.device else ""
    why = " ".join(f"({tags[name]})" for name in ("stopped", "superseded") if name in tags)
    told = {
        "status": f"{status} {why}".rstrip(),
        "identity": run.identity,
        "run": run.run_id,
        "what": f"{tags.get('method', '')} on {tags.get('protocol', '')}, row {run.row}, {place}",
        "ended": f"{age(run)} ago, took {took(run.seconds)}{on}",
        "code": f"{run.git_sha[:12] or 'unknown'}{' with changes' if run.git_dirty == 'true' else ''}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions(run).items()),
    }
    if status == "running":
        told["ended"] = f"not yet: runs since {age(run)} on {tags.get('host', '')}, process {tags.get('pid', '')}"
    told |= {name: tags[name] for name in ("attempts", "warnings") if tags.get(name, "1") != "1"}
    yield _pairs(told)
    if differs := showing.differing(records, run):
        yield "Settings that its sweep's base does not have; config.yaml has all"
        yield _pairs(differs)
    if run.metrics:
        yield "Metrics; --json has all"
        yield from _metrics(run.metrics)
    if where := files.places(records.reader, run):
        yield "Files"
        yield _lines(where)
    if remade := showing.remade_by(records, run):
        yield "This makes it again"
        yield _lines(remade)
    if status == "failed" and (text := files.read(records.reader, run, "traceback.txt")):
        yield "Traceback, what went wrong first"
        yield "\n".join(f"  {in_terminal(line)}" for line in last_first(text))


def sweep_tables(records: Records, sweep: SweepRun) -> Iterator[Table | str]:
    """All of one sweep, and the trials that it asked for, whichever sweep trained them."""
    yield f"[bold]{in_terminal(title(sweep))}[/bold]"
    lasted = (
        f"{age(sweep)} ago, took {took(sweep.ended - sweep.began)}"
        if sweep.ended
        else f"not yet: runs since {age(sweep)}"
    )
    told = {"status": records.status(sweep), "run": sweep.run_id, "changed": sweep.changed, "ended": lasted}
    yield _pairs({**told, "command": showing.again(sweep), **{n: v for n, v in sweep.params.items() if n != "profile"}})
    identities = {request["identity"] for request in records.reader.requests(sweep)}
    own = [run for run in records.trials() if run.identity in identities or run.tags.get("sweep") == sweep.run_id]
    yield trials_table(records, own)
    yield legend(0)


def diff_tables(one: TrialRun, other: TrialRun) -> Iterator[Table | str]:
    """What is not the same about two trials."""
    found = difference(one, other)
    heads = (in_terminal(title(one)), in_terminal(title(other)))
    if found.identical:
        yield "Both are runs of one trial: what shapes the weights is the same."
    for what, pairs in (("settings", found.settings), ("code and machine", found.made)):
        if not pairs:
            yield f"The same {what}."
            continue
        table = _table("", what, *heads)
        for name, values in pairs.items():
            table.add_row(in_terminal(name), *map(in_terminal, values))
        yield table
    commits = [value for value in (one.git_sha, other.git_sha) if value not in ("", "unknown")]
    if len(set(commits)) == 2:
        yield f"The code's difference: git diff {' '.join(commit[:12] for commit in commits)} -- trainables"
    shown = {name: pair for name, pair in found.metrics.items() if _is_shown(name)}
    if shown:
        table = _table("", "metric, in percent", *heads, "difference")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, (mine, theirs) in shown.items():
            each = ("" if value is None else f"{100 * value:.1f}" for value in (mine, theirs))
            both = "" if mine is None or theirs is None else f"{100 * (theirs - mine):+.1f}"
            table.add_row(in_terminal(name), *each, both)
        yield table


def kinds_table(items: Sequence[Item]) -> Table:
    """How much there is of each kind, and how much of it nobody needs."""
    table = _table(
        "What lies on the disk beside results", "what", "number", "size", "of it removable", "what it is good for"
    )
    for column in table.columns[1:4]:
        column.justify = "right"
    for kind, good in KINDS.items():
        own = [item for item in items if item.kind == kind]
        free = [item for item in own if not item.needed]
        why = "; ".join(dict.fromkeys(item.needed for item in own if item.needed))
        removable = f"{len(free)}, {decimal(sum(item.size for item in free))}" if free else ""
        said = f"{good} [yellow]({why})[/yellow]" if why else good
        table.add_row(kind, str(len(own)), decimal(sum(item.size for item in own)), removable, said)
    return table


def _is_shown(name: str) -> bool:
    """Whether a metric is one of the few that tables have."""
    if name.startswith("train/"):
        return False
    metric = MetricName.parse(name)
    return metric.metric in (_COLUMNS[:3] if metric.score else ("accuracy", "auc"))


def _metrics(metrics: Mapping[str, float]) -> Iterator[Table]:
    """Those of a set and a score in a line, then the others."""
    named = {name: MetricName.parse(name) for name in metrics if not name.startswith("train/")}
    ranked = {name: parsed for name, parsed in named.items() if parsed.score}
    columns = [c for c in _COLUMNS if any(parsed.metric == c for parsed in ranked.values())]
    if columns:
        table = _table("", "set", "score", *columns)
        for place in dict.fromkeys((m.part, m.unknown_set, m.score) for m in ranked.values()):
            found = {m.metric: metrics[name] for name, m in ranked.items() if (m.part, m.unknown_set, m.score) == place}
            values = (f"{100 * found[c]:.1f}" if c in found else "" for c in columns)
            table.add_row(in_terminal(f"{place[0]} {place[1]}"), place[2], *values)
        yield table
    yield _pairs({name: f"{value:.4g}" for name, value in sorted(metrics.items()) if name not in ranked})


def _table(title: str, *columns: str, header: bool = True) -> Table:
    table = Table(title=title or None, title_justify="left", show_header=header)
    for number, name in enumerate(columns):
        table.add_column(name, style="bold" if not header and number == 0 else None, overflow="fold")
    return table


def _lines(told: Mapping[str, str]) -> str:
    """A line each, however long: a path or a command that a table breaks cannot be copied."""
    width = max(map(len, told))
    return "\n".join(f"  {name:{width}}  {in_terminal(text)}" for name, text in told.items())


def _pairs(pairs: Mapping[str, str]) -> Table:
    """What each of some things is, those that are nothing left out."""
    table = _table("", "", "", header=False)
    for name, value in pairs.items():
        if value:
            shown = _coloured(value) if name == "status" else in_terminal(value)
            table.add_row(in_terminal(name), shown)
    return table


def _coloured(status: str) -> str:
    style = _STYLES.get(status.split()[0])
    return f"[{style}]{in_terminal(status)}[/]" if style else in_terminal(status)


def _part(part: str) -> str:
    return " val" if part == "val" else ""
