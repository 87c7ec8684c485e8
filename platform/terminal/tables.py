"""What a command shows in the terminal: its plan before, its trials and rows after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import numpy as np
from rich.table import Table

from platform.deciding.looks import FIRST
from platform.files.dimensions import Choice, FloatRange, IntRange
from platform.files.rows import column_groups
from platform.files.search_file import changing_trials
from platform.files.spec import Decided, Goal, Resources
from platform.files.trial_settings import judged_on, of_score
from platform.planning.captions import say_settings, tested_on, trained_on
from platform.planning.plan import ImageSets, Sweep
from platform.planning.results import Outcome, Results
from platform.planning.search import Study
from platform.planning.work import Estimate, Work
from platform.terminal.text import in_terminal
from platform.tracking.evaluations import full_names
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import described
from trainables.data.trial_data import TrialData
from trainables.scoring.measured import KNOWN
from trainables.settings.config import TrialConfig

SHOWN_SCORES = 10  # of a search over settings of the score, the best ones
SHOWN_RUNS = 5  # of cached trials that the plan names


def sweep_table(sweep: Sweep, images: ImageSets, at_once: int, memory: str = "") -> Table:
    """What a sweep will train, on what, judged by what; `memory` is what to say of a GPU's."""
    spec, config = sweep.spec, sweep.search or sweep.config
    table = Table(
        title=f"Plan: {in_terminal(spec.name)}, profile {sweep.profile}", title_justify="left", show_header=False
    )
    table.add_column(style="bold")
    table.add_column()
    table.add_row("file", in_terminal(str(sweep.file)))
    for label, text in dict.fromkeys(_data(sweep, images)):
        table.add_row(label, in_terminal(text))
    length = f"{config.epochs} epochs, batch {config.batch_size}, lr {config.lr:g}"
    if config.train == "none":
        length = f"{in_terminal(str(config.weights))} as it is"
    table.add_row("trial", f"{in_terminal(config.method)}, {config.backbone}, {length}, {config.precision}")
    if spec.search:
        ranges = "; ".join(f"{name} {_range(d)}" for name, d in spec.search.items())
        each = f" of {len(sweep.searched)} trainings each" if len(sweep.searched) > 1 else ""
        if of_score(spec):
            each = f", judged by what {len(sweep.searched)} trainings recorded,"
        table.add_row("search", f"{spec.trials} trials{each} by Optuna ({spec.optuna.sampler}): {in_terminal(ranges)}")
        judges = " and ".join(_judge(o, config) for o in spec.objectives)
        splits, seeds = judged_on(spec)
        mean = f", mean over splits {splits} × seeds {seeds}" if len(sweep.searched) > 1 else ""
        table.add_row("judged by", f"{judges}{mean}, from training images only{_stops(sweep)}")
    if spec.start_from:
        guesses = [in_terminal(say_settings(guess)) for guess in sweep.start.guesses]
        first = f"; proposed first: {'; '.join(guesses)}" if guesses else ""
        table.add_row("starts from", f"{len(sweep.start.known)} known results, measured on such validation data{first}")
    rows = sweep.rows
    if rows:
        of = spec.confirm or spec
        columns = len(column_groups(spec))
        times = f" × {columns} columns of their own" if columns > 1 else ""
        named = "; ".join(map(in_terminal, rows[:12])) + (f" and {len(rows) - 12} more" if len(rows) > 12 else "")
        label = "confirm" if spec.search else f"{len(rows)} rows"
        table.add_row(label, f"{named}{times} × splits {of.splits} × seeds {of.seeds}")
    if spec.until:
        table.add_row("until decided", _until(spec.until))
    table.add_row("at once", f"{at_once} trials, each {_needs(spec.resources)}")
    if memory:
        table.add_row("memory", memory)
    return table


def _until(until: Decided) -> str:
    small = "" if until.smallest is None else f", or surely smaller than {until.smallest:g} points"
    return (
        f"a seed more, {until.max_seeds} at most, for the rows of every claim that is not decided{small}; looked at "
        f"after each from {FIRST} on, with an error of {until.alpha:g} over all looks; "
        "what they take is not in the time below"
    )


def work_table(todo: Work, estimate: Estimate | str, budget: str = "") -> Table:
    """What all sweeps of a command have to do, each trial once, and within what `budget`."""
    table = Table(title="To do", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    if todo.nothing:
        table.add_row("to do", "nothing: every trial is finished")
    given = sum(config.train == "none" for config, _ in todo.train)
    if count := len(todo.train) - given:
        table.add_row("to train", f"{count} trials{_of_which(todo.teachers, 'teachers')}")
    if given:
        table.add_row("to evaluate", f"{given} networks that others trained")
    if todo.evaluate:
        lacking = "on sets, on images or by scores that they lack"
        table.add_row("to evaluate", f"evaluate {len(todo.evaluate)} finished trials, {lacking}")
    cached = list(todo.cached.values())
    count = len(cached) + len(todo.ended)
    table.add_row("cached", f"{count} trials{_of_which(todo.cached_teachers, 'teachers beside them')}")
    if todo.ended:
        table.add_row("", f"{len(todo.ended)} of them known to the search alone: stopped early, or recorded elsewhere")
    for finished in cached[:SHOWN_RUNS]:
        table.add_row("", _origin(finished))
    if len(cached) > SHOWN_RUNS:
        table.add_row("", f"and {len(cached) - SHOWN_RUNS} more")
    if isinstance(estimate, Estimate):
        gpus = any(needs.gpus for _, needs in todo.train)
        hours = f"{estimate.device_hours:,.1f} {'GPU' if gpus else 'core'}-hours"
        table.add_row("time", f"{_duration(estimate.seconds)}, {hours}, from {estimate.source}")
        table.add_row("disk", f"{estimate.disk / 1e6:,.0f} MB of scores and weights in MLflow's store")
    elif estimate:
        table.add_row("time", in_terminal(estimate))
    if budget and not todo.nothing:
        table.add_row("budget", f"{budget}: no trial is started that would not end in them")
    return table


def _judge(objective: Goal, config: TrialConfig) -> str:
    """An objective, and what MLflow calls it."""
    (full,) = full_names(objective.metric, config)
    return f"{objective.metric} ({objective.mode}{f', in MLflow {full}' if full != objective.metric else ''})"


def _data(sweep: Sweep, images: ImageSets) -> Iterator[tuple[str, str]]:
    """A line for each division of images, and one for each part of a set that is not complete."""
    configs = [c for c in (sweep.search, *(request.config for request in sweep.requests)) if c]
    divisions = {id(images.of(config)): config for config in reversed(configs)}
    for config in reversed(divisions.values()):
        yield "data", f"{config.protocol}, family {config.split_family}: {_counts(images.of(config))}"
    sources = {s.source.source: s.source for d in images.opened.values() for s in (d.train, *d.test.values())}
    for source in sources.values():
        if source.left_out:
            yield "left out", f"{source.left_out} images of {source.source}, not exact copies of the published ones"
    for line in dict.fromkeys(line for d in images.opened.values() for line in d.duplicates):
        yield "duplicates", line


def _of_which(count: int, what: str) -> str:
    return f", {count} of them {what}" if count and "beside" not in what else f", {count} {what}" if count else ""


def _origin(trial: FinishedTrial) -> str:
    """Which run and which code a cached result comes from."""
    when = datetime.fromtimestamp(trial.ended).strftime("%Y-%m-%d %H:%M")
    code = trial.git_sha[:8] + (" with changes" if trial.git_dirty == "true" else "")
    whose = f"{in_terminal(trial.sweep)}, {in_terminal(trial.row)}"
    return f"{trial.identity}  {whose}  run {trial.run_id}  code {code}  {when}"


def _stops(sweep: Sweep) -> str:
    scheduler = sweep.spec.scheduler
    if scheduler is None:
        return ""
    if scheduler.asha:
        return f"; ASHA from epoch {scheduler.asha.grace_epochs} on"
    assert scheduler.median is not None
    return f"; below the median from epoch {scheduler.median.grace_epochs} on, a trial is stopped"


def _needs(needs: Resources) -> str:
    gpus = f" and {needs.gpus:.3g} GPU" if needs.gpus else ""
    each = f"{needs.cpus_per_worker} CPU{gpus}"
    return each if needs.workers == 1 else f"{needs.workers} workers of {each}"


def trials_table(sweep: Sweep, study: Study, results: Results) -> Table:
    """Every trial of the search, in order, the best one marked, or the Pareto front of several objectives."""
    spec = sweep.spec
    outcomes: dict[int | None, list[Outcome]] = {}
    for outcome in results.of(sweep.name, "search"):
        outcomes.setdefault(outcome.place.proposal, []).append(outcome)
    before = {o.place.proposal for o in results.earlier if o.place.sweep == sweep.name}
    several = len(spec.objectives) > 1
    best = {proposal.number for proposal in study.best(len(outcomes) + 1 if several else 1)}
    metrics = [o.metric for o in spec.objectives]
    if not of_score(spec) and "val/accuracy" not in metrics:
        metrics.append("val/accuracy")
    title = "Search: judged on validation data made from training images"
    if len(sweep.searched) > 1:
        title += f", by the mean ± std of {len(sweep.searched)} trainings"
    table = Table(title=title, title_justify="left")
    for column in ("trial", *spec.search, *metrics, "epochs", "status", "identity"):
        table.add_column(column, justify="left" if column in ("status", "identity") else "right")
    history = list(study.history())
    if of_score(spec):
        table.title = f"{title}: the best of {len(history)} proposals"
        history = [history[proposal.number] for proposal in study.best(SHOWN_SCORES)]
    for told in history:
        proposal, status = told.proposal, told.status
        own = outcomes.get(proposal.number, [])
        found = {m: [o.metrics[m] for o in own if m in o.metrics] for m in metrics}
        table.add_row(
            str(proposal.number + 1),
            *(_value(proposal.settings.get(name)) for name in spec.search),
            *(_mean(found[metric]) or _value(told.metrics.get(metric)) for metric in metrics),
            f"{sum(o.epoch for o in own):g}" if own else "",
            "known" if told.known else _status(own) if own and proposal.number not in before else f"{status} before",
            own[0].identity + (f" and {len(own) - 1} more" if len(own) > 1 else "") if own else "",
            style="bold green" if proposal.number in best else "red" if status == "failed" else None,
        )
    if several:
        table.caption = "Green: the Pareto front, which no other trial beats in all objectives."
        table.caption_justify = "left"
    return table


def _status(trainings: Sequence[Outcome]) -> str:
    """Of a proposal: that of a training that did not finish, if any."""
    statuses = [outcome.status for outcome in trainings]
    done = "finished" if "finished" in statuses else "cached"
    return next((status for status in statuses if status not in ("finished", "cached")), done)


def rows_table(sweep: Sweep, results: Results, images: ImageSets) -> Table:
    """Mean ± std of each row on the test set; below, paired differences from the first row of a search."""
    spec, name = sweep.spec, sweep.name
    title = "Confirmed on the test set, in percent" if spec.search else f"{name}, in percent"
    table = Table(
        title=in_terminal(title), title_justify="left", caption=_caption(sweep, results, images), caption_justify="left"
    )
    shown = sweep.columns
    for column in ("row", *spec.columns, "n"):
        table.add_column(in_terminal(column), justify="left" if column == "row" else "right")
    rows = sweep.rows
    for row in rows:
        values = [results.measured(name, row, metric, column) for column, metric in shown]
        missing = _missing(results.of_row(name, row))
        table.add_row(in_terminal(row), *(_percent(v) if v else missing for v in values), _counts_of(values))
    for row in rows[1:] if spec.search else []:
        pairs = [results.differences(name, (rows[0], row), metric, column) for column, metric in shown]
        if pairs[0]:
            differences = [_percent(p, sign=True) for p in pairs]
            table.add_row(
                f"{in_terminal(rows[0])} − {in_terminal(row)}, paired", *differences, _counts_of(pairs), style="dim"
            )
    return table


def _missing(outcomes: Iterable[Outcome]) -> str:
    statuses = [o.status for o in outcomes if not o.done]
    return statuses[0] if statuses else "missing"


def _counts_of(values: Sequence[Sequence[float]]) -> str:
    """n, or its range where columns have different ones."""
    counts = sorted({len(v) for v in values})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def _caption(sweep: Sweep, results: Results, images: ImageSets) -> str:
    """What a reader must know of the numbers; a reduced run says so by itself."""
    configs = [request.config for request in sweep.requests] or [sweep.config]
    counts = {key: count for key, (_, count) in images.trained_on.items()}
    done = [(o.config, o.tested) for o in results.of(sweep.name, "confirm", "row") if o.done]
    said = [described(configs), "Mean ± std over splits × seeds.", *trained_on(configs, counts), *tested_on(done)]
    text = " ".join(said)
    if sweep.reduced:
        text += f" Profile {sweep.profile}: not the paper's protocol, not comparable with its table."
    if changed := changing_trials(sweep.changed):
        text += f" Changed by hand: {', '.join(changed)}: not the protocol of the file."
    return in_terminal(text)


def ending(results: Results, minutes: float) -> str:
    """What became of every trial, in one line."""
    counts = results.counts
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in ("trained", "failed"))
    return f"{sum(counts.values())} trials in {minutes:.1f} minutes: {said}"


def _counts(data: TrialData) -> str:
    parts = [f"{len(data.train):,} training images of {len(data.classes)} classes"]
    shown = {n: s for n, s in {**data.validation, **data.test}.items() if not n.startswith(f"{KNOWN}-")}
    parts += [f"{name} {len(s):,}" for name, s in shown.items()]
    return ", ".join(parts)


def _range(dimension: FloatRange | IntRange | Choice) -> str:
    if isinstance(dimension, Choice):
        text = "one of " + ", ".join(map(str, dimension.choices))
    else:
        low, high = dimension.bounds
        text = f"{low:g} to {high:g}"
    return text + "".join(f", where {name} is {' or '.join(map(str, v))}" for name, v in dimension.when.items())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    hours = seconds / 3600
    return f"about {hours:.1f} hours" if hours < 10 else f"about {hours:,.0f} hours"


def _percent(values: Sequence[float], *, sign: bool = False) -> str:
    """`91.3 ± 0.4` of values in 0..1, with the sample's standard deviation where there is one."""
    mean = f"{100 * np.mean(values):{'+' if sign else ''}.1f}"
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def _mean(values: Sequence[float]) -> str:
    """`0.913 ± 0.004`, empty of none."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}" if values else ""


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else in_terminal(value)
