"""What a sweep shows in the terminal: its plan before, its trials and confirmed rows after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.markup import escape
from rich.table import Table

from platform.plan import Plan
from platform.results import CONFIRMED, Results
from platform.search_file import PAPER
from platform.spec import Choice, FloatRange, IntRange
from trainables.data.trial_data import TrialData


def plan_table(plan: Plan, file: str, at_once: int, seconds: float | None) -> Table:
    """What will be trained, on what, judged by what, and for how long; `seconds` None: not known yet."""
    spec, config, data = plan.spec, plan.search, plan.search_data
    table = Table(title=f"Plan: {escape(spec.name)}, profile {plan.profile}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("file", escape(file))
    table.add_row("data", f"{config.protocol}, family {config.split_family}: {_counts(data)}")
    if left := data.train.source.left_out:
        table.add_row("left out", f"{left} training images that are not exact copies of the published ones")
    table.add_row(
        "trial",
        f"{config.method}, {config.backbone}, {config.epochs} epochs, batch {config.batch_size}, "
        f"lr {config.lr:g}, {config.precision}",
    )
    if plan.teachers:
        names = " and ".join(dict.fromkeys(escape(t.row) for t in plan.teachers))
        table.add_row(
            "teachers", f"{len(plan.teachers)} trials before their students: {names}; those found are not trained"
        )
    ranges = "; ".join(f"{name} {_range(d)}" for name, d in spec.search.items())
    table.add_row("search", f"{spec.trials} trials by Optuna ({spec.optuna.sampler}): {ranges}")
    stop = f"; ASHA from epoch {spec.scheduler.asha.grace_epochs} on" if spec.scheduler else ""
    table.add_row("judged by", f"{spec.objective.metric} ({spec.objective.mode}), from training images only{stop}")
    if spec.confirm and plan.final_data:
        rows = ["best"] * (plan.confirmed_rows - len(spec.confirm.baselines))
        rows += [row.name for row in spec.confirm.baselines]
        table.add_row(
            "confirm",
            f"{plan.confirm_trials} trials on all known classes: {' and '.join(map(escape, rows))} "
            f"× splits {spec.confirm.splits} × seeds {spec.confirm.seeds}, then the test set "
            f"({_counts(plan.final_data)})",
        )
        if left := plan.final_data.test["known"].source.left_out:
            table.add_row("left out", f"{left} test images that are not exact copies of the published ones")
    gpus = f" and {spec.resources.gpus_per_worker:g} GPU" if spec.resources.gpus_per_worker else ""
    table.add_row("at once", f"{at_once} trials, each {spec.resources.cpus_per_worker} CPU{gpus}")
    table.add_row("time", "known after the first epochs" if seconds is None else _duration(seconds))
    return table


def trials_table(results: Results) -> Table:
    """Every trial of the search, in order, the best one marked."""
    best = {id(t) for t in results.best(1)}
    trials = results.of("search")
    searched = list(dict.fromkeys(k for t in trials for k in t.searched))
    metrics = list(dict.fromkeys([results.objective.metric, "val/accuracy"]))
    table = Table(title="Search: judged on validation data made from training images", title_justify="left")
    for column in ("trial", *searched, *metrics, "epochs", "status", "identity"):
        table.add_column(column, justify="left" if column in ("status", "identity") else "right")
    for t in trials:
        table.add_row(
            str(t.number),
            *(_value(t.searched.get(k)) for k in searched),
            *(_value(t.metrics.get(m)) for m in metrics),
            str(t.epoch),
            t.status,
            t.identity,
            style="bold green" if id(t) in best else "red" if t.status == "failed" else None,
        )
    return table


def confirmed_table(results: Results, plan: Plan) -> Table:
    """Mean ± std of each confirmed row on the test set, and its paired difference from the first row."""
    table = Table(title="Confirmed on the test set, in percent", title_justify="left", caption=_caption(plan))
    table.caption_justify = "left"
    for column in ("row", "closed-set accuracy", "AUROC", "OSCR", "n"):
        table.add_column(column, justify="left" if column == "row" else "right")
    rows = results.rows()
    for row in rows:
        values = [list(results.values(row, m).values()) for m in CONFIRMED]
        table.add_row(escape(row), *(_percent(v) if v else "failed" for v in values), str(len(values[0])))
    for row in rows[1:]:
        pairs = [results.differences(rows[0], row, m) for m in CONFIRMED]
        if pairs[0]:
            cells = [_percent(p, sign=True) for p in pairs]
            table.add_row(f"{escape(rows[0])} − {escape(row)}, paired", *cells, str(len(pairs[0])), style="dim")
    return table


def _caption(plan: Plan) -> str:
    """What a reader must know of the numbers; a reduced run says so by itself."""
    config = plan.final or plan.search
    sets = ", ".join(config.evaluation_sets)
    teacher = f", teacher {config.teacher.backbone}" if config.teacher else ""
    text = (
        f"{config.protocol}, split family {config.split_family}, unknown: {sets}, score {config.score}; "
        f"{config.backbone}{teacher}, {config.epochs} epochs, last epoch, mean ± std over splits × seeds."
    )
    if plan.profile != PAPER:
        text += f" Profile {plan.profile}: not the paper's protocol, not comparable with its table."
    if plan.changed:
        text += f" Changed by hand: {', '.join(plan.changed)}: not the protocol of the file."
    return text


def _counts(data: TrialData) -> str:
    parts = [f"{len(data.train):,} training images of {len(data.classes)} classes"]
    parts += [f"{name} {len(s):,}" for name, s in {**data.validation, **data.test}.items()]
    return ", ".join(parts)


def _range(dimension: FloatRange | IntRange | Choice) -> str:
    if isinstance(dimension, Choice):
        return "one of " + ", ".join(map(str, dimension.choices))
    low, high = dimension.bounds
    return f"{low:g} to {high:g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:,.0f} hours"


def _percent(values: Sequence[float], *, sign: bool = False) -> str:
    """`91.3 ± 0.4` of values in 0..1, with the sample's standard deviation where there is one."""
    mean = f"{100 * np.mean(values):{'+' if sign else ''}.1f}"
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
