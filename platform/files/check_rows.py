"""What an ablation may not mean: its rows, its columns, and the published numbers beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from platform.files.dimensions import LARGEST
from platform.files.names import shown_name
from platform.files.rows import MAX_ROWS, MAX_TRIALS, column_groups, expand, off, say, size
from platform.files.spec import Claim, Column, LeftOut, Row, Spec
from platform.files.trial_settings import with_teacher
from trainables.protocols.protocols import known_classes, part_of_set
from trainables.reading.values import shown
from trainables.reading.yaml_file import ConfigError, KeyPath, Problem, nearest, under
from trainables.scoring.metric_names import MetricName
from trainables.scoring.metrics import BALANCED, OPEN_SET_METRICS, RANKING_METRICS
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import called, check_settings, owners_of, resolve
from trainables.settings.score_names import EXTRA_SCORES

# Of what a row may not change: the first are the file's lists, the others would put numbers of other data in a column.
NOT_IN_ROW = {
    "split": "write `splits: [0, 1, …]` at the top of the file",
    "seed": "write `seeds: [0, 1, …]` at the top of the file",
    "test": "the trials of an ablation are tested",
    "pseudo_unknown": "the trials of an ablation know every known class",
}
NOT_IN_COLUMN = {**NOT_IN_ROW, **dict.fromkeys(("method", "objective", "mix"), "a method is a row's")}
NOT_IN_ROW |= dict.fromkeys(
    ("protocol", "split_family", "evaluate"), "write it as `set` of a column: numbers of other data need their own"
)


def row_problems(spec: Spec) -> Iterator[Problem]:
    """Find what is wrong with one key by itself."""
    for name, column in spec.columns.items():
        yield from _set_problems(column.set, ("columns", name, "set"), NOT_IN_COLUMN, spec)
    yield from _grid_problems(spec.grid, spec.published, (), spec)
    for i, row in enumerate(spec.rows):
        yield from _row_problems(row, ("rows", i), spec)
    for i, item in enumerate(spec.leave_one_out):
        yield from _left_out_problems(item, ("leave_one_out", i), spec)
    if spec.add_one_in:
        yield from _added_problems(spec)
    if spec.until and not spec.claims:
        yield Problem(("until",), "decides claims, and the file has none: write `claims`, as {row, over, columns}")
    if spec.until and spec.over == "splits":
        said = "adds seeds, which say nothing of other splits: it decides `over: seeds`, these splits as they are"
        yield Problem(("over",), f"until {said}")
    if spec.until and len(spec.seeds) > spec.until.max_seeds:
        yield Problem(("seeds",), f"are more than until allows: max_seeds is {spec.until.max_seeds}")
    if "search" in spec.figures:
        yield Problem(("figures",), "search shows what a search tried, and this file has rows")
    if "grid" in spec.figures and len(spec.grid) != 2:
        yield Problem(("figures",), "grid shows two settings against each other: the file has no `grid` of two")


def _row_problems(row: Row, path: KeyPath, spec: Spec) -> Iterator[Problem]:
    if row.published_only and not row.published:
        yield Problem(path, f"{row.name!r} has nothing: write `set` (to train it) or `published` (to show its numbers)")
    yield from _set_problems(row.set or {}, (*path, "set"), NOT_IN_ROW, spec)
    for name in row.grid:
        if name in (row.set or {}):
            yield Problem((*path, "grid", name), "varies here and is fixed in the row's set: remove one of them")
    yield from _grid_problems(row.grid, row.published, path, spec)


def _set_problems(
    settings: Mapping[str, Any], path: KeyPath, refused: Mapping[str, str], spec: Spec
) -> Iterator[Problem]:
    yield from under(path, check_settings(settings, spec.parts)[1])
    for name, instead in refused.items():
        if name in settings:
            yield Problem((*path, name), f"has no place here: {instead}")


def _grid_problems(grid: Mapping[str, list[Any]], published: Any, path: KeyPath, spec: Spec) -> Iterator[Problem]:
    """Find what is wrong with a grid; if nothing is, with the published numbers of its rows. Both are at `path`."""
    problems = list(_value_problems(grid, (*path, "grid"), spec))
    yield from problems or _published_problems(grid, published, (*path, "published"), spec)


def _value_problems(grid: Mapping[str, list[Any]], path: KeyPath, spec: Spec) -> Iterator[Problem]:
    if size(grid) > MAX_ROWS:
        yield Problem(path, f"makes {size(grid):,} rows; a table has at most {MAX_ROWS:,}")
        return
    for name, values in grid.items():
        if name in NOT_IN_ROW:
            yield Problem((*path, name), f"has no place here: {NOT_IN_ROW[name]}")
            continue
        for value in values:
            if problems := check_settings({name: value}, spec.parts)[1]:
                yield Problem((*path, name), problems[0].message)
                break


def _published_problems(grid: Mapping[str, list[Any]], published: Any, path: KeyPath, spec: Spec) -> Iterator[Problem]:
    """Find published numbers without a column, and in a grid those that are not of exactly one row."""
    if not published:
        return
    if not grid:
        if isinstance(published, list):
            yield Problem(path, "is a list, which is for the rows of a grid: write {column: number}")
        else:
            yield from _number_problems(published, path, spec)
        return
    if not isinstance(published, list):
        yield Problem(
            path, "is for one row, and a grid makes several: write a list of {setting: value, column: number}"
        )
        return
    named: set[str] = set()
    for i, entry in enumerate(published):
        combination = {name: entry[name] for name in grid if name in entry}
        if missing := [name for name in grid if name not in entry]:
            yield Problem((*path, i), f"does not say which row it is of: {', '.join(missing)} is missing")
        elif absent := [name for name in grid if entry[name] not in grid[name]]:
            yield Problem((*path, i), f"is of no row: the grid has no {absent[0]}={shown(entry[absent[0]])}")
        elif say(combination) in named:
            yield Problem((*path, i), f"is of the row {say(combination)!r} again: write its numbers in one entry")
        named.add(say(combination))
        yield from _number_problems({n: v for n, v in entry.items() if n not in grid}, (*path, i), spec)


def _number_problems(numbers: Mapping[str, Any], path: KeyPath, spec: Spec) -> Iterator[Problem]:
    for column, value in numbers.items():
        if column not in spec.columns:
            yield Problem(
                (*path, column), f"is no column{nearest(column, spec.columns)}; {', '.join(spec.columns)} are"
            )
        elif isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            yield Problem((*path, column), f"{shown(value)} is not a number, as 91.3")


def _left_out_problems(item: LeftOut, path: KeyPath, spec: Spec) -> Iterator[Problem]:
    if item.set is not None:
        yield from _set_problems(item.set, (*path, "set"), NOT_IN_ROW, spec)
        return
    if item.name not in spec.table:
        hint = nearest(item.name, spec.table)
        yield Problem(path, f"{item.name!r} is not a setting{hint}: write one, or {{name: …, set: {{…}}}}")
        return
    setting = spec.table[item.name]
    if not setting.belongs_to(owners_of(spec.base)):
        yield Problem(path, f"{called(spec.base)} has no {item.name}; {', '.join(setting.owners)} has")
        return
    try:
        off(setting.annotation)
    except ValueError as error:
        yield Problem(path, f"{item.name} {error}")


def _added_problems(spec: Spec) -> Iterator[Problem]:
    if len(spec.leave_one_out) < 2:
        yield Problem(("add_one_in",), "adds the components of `leave_one_out` one by one: name two or more there")
    owners: dict[str, str] = {}
    for i, item in enumerate(spec.leave_one_out):
        for name in item.set or [item.name]:
            if owners.setdefault(name, item.name) != item.name:
                said = f"{item.name} changes {name}, as {owners[name]} does: without both it would be one of them"
                yield Problem(("leave_one_out", i), f"{said}; take one out, or `add_one_in`")


def row_trial_problems(spec: Spec) -> Iterator[Problem]:
    """Find names that occur twice, and settings of a row that are right alone and wrong together."""
    expanded = list(expand(spec))
    trained = [(path, row) for path, row in expanded if not row.published_only]
    if len(expanded) > MAX_ROWS:
        yield Problem((), f"the file has {len(expanded):,} rows; a table has at most {MAX_ROWS:,}")
        return
    if problems := list(too_many_trials(spec, len(trained))):
        yield from problems
        return
    if not trained:
        yield Problem(("rows",), "have published numbers only: give one a `set`, so that there is something to train")
        return
    if all(column.published_only for column in spec.columns.values()):
        yield Problem(("columns",), "have published numbers only: give one a metric, as test/auroc")
        return
    yield from _names(expanded)
    for i, claim in enumerate(spec.claims):
        yield from _claim_problems(claim, ("claims", i), [row for _, row in expanded], spec)
    if spec.base.keys() & {"method", "objective"} and (problems := _problems_of_base(spec)):
        yield from problems
        return
    told: set[tuple[KeyPath, str]] = set()  # a contradiction of a grid is told once, with the first row that has it
    configs: list[tuple[KeyPath, Row, dict[str, Any], TrialConfig]] = []
    for _, column in column_groups(spec):
        for path, row in trained:
            config, problems = _resolve(spec, row, column, path)
            if config:
                configs.append((path, row, column, config))
            for problem in problems:
                if (problem.path, problem.message) not in told:
                    told.add((problem.path, problem.message))
                    yield Problem(problem.path, f"{row.name!r}: {problem.message}")
    yield from _without_nothing(configs)
    yield from _split_problems(spec, [config for *_, config in configs])
    yield from _metric_problems(spec, configs)


def too_many_trials(spec: Spec, rows: int) -> Iterator[Problem]:
    """Find a number of trials so large that it must be a slip of the pen."""
    of = spec.confirm or spec
    path: KeyPath = ("confirm",) if spec.confirm else ()
    count = rows * len(column_groups(spec)) * len(of.splits) * len(of.seeds)
    if count > MAX_TRIALS:
        longer = "seeds" if len(of.seeds) >= len(of.splits) else "splits"
        message = (
            f"{len(getattr(of, longer)):,} of them, on every row, are more than the {MAX_TRIALS:,} trials of a file"
        )
        yield Problem((*path, longer), message)


def _names(expanded: list[tuple[KeyPath, Row]]) -> Iterator[Problem]:
    """Find names that occur twice, that are too long, or that cannot be shown."""
    seen: set[str] = set()
    for path, row in expanded:
        try:
            shown_name(row.name)
        except ValueError as error:
            yield Problem(path, f"the name of a row, {error}")
        if row.name in seen:
            yield Problem(path, f"{row.name!r} is the name of two rows")
        seen.add(row.name)


def _claim_problems(claim: Claim, path: KeyPath, rows: list[Row], spec: Spec) -> Iterator[Problem]:
    named = {row.name: row for row in rows}
    for key in ("row", "over"):
        if getattr(claim, key) not in named:
            yield Problem((*path, key), f"{getattr(claim, key)!r} is no row{nearest(getattr(claim, key), named)}")
            return
    if claim.row == claim.over:
        yield Problem((*path, "over"), f"{claim.over!r} is the row itself: a claim is about two rows")
        return
    for column in claim.columns:
        pair = (named[claim.row], named[claim.over])
        if column not in spec.columns:
            yield Problem((*path, "columns"), f"{column!r} is no column{nearest(column, spec.columns)}")
        elif claim.sign is None and not all(column in row.published for row in pair):
            yield Problem(path, f"{column} is not published for both rows: write what the paper says of it as `sign`")


def _problems_of_base(spec: Spec) -> list[Problem]:
    try:
        resolve(with_teacher(spec, {}))
    except ConfigError as error:
        return [Problem(("base", *problem.path), problem.message) for problem in error.problems]
    return []


def _resolve(
    spec: Spec, row: Row, column: Mapping[str, Any], path: KeyPath
) -> tuple[TrialConfig | None, list[Problem]]:
    """Resolve a trial of the row on the first split of its family; or tell what is wrong, at the row's place."""
    changes = row.set or {}
    if both := [name for name in changes if name in column and name != "teacher"]:
        return None, [Problem(path, f"{both[0]} is set by the row and by a column: remove one of them")]
    if not {"method", "objective"} & (spec.base.keys() | changes.keys()):
        instead = "write one in base or in the row's set, or `objective: ce` beside its mix"
        return None, [Problem(path, f"has no method: {instead}")]
    try:
        return resolve({**with_teacher(spec, changes, column), "split": 0}), []
    except ConfigError as error:
        return None, [Problem((*path, "set", *p.path), p.message) for p in error.problems]


def _without_nothing(configs: list[tuple[KeyPath, Row, dict[str, Any], TrialConfig]]) -> Iterator[Problem]:
    """Find rows of `leave_one_out` that would train the full row again."""
    full = {repr(column): _blind(config) for path, _, column, config in configs if path == ("leave_one_out",)}
    for path, row, column, config in configs:
        if path[0] == "leave_one_out" and len(path) == 2 and _blind(config) == full.get(repr(column)):
            yield Problem(path, f"{row.name!r} is the full row again: base has it switched off already")


def _blind(config: TrialConfig) -> str:
    """Hash what shapes the weights, but for the images."""
    return identity_of(config, dict.fromkeys(config.shaped_by, ""))


def _split_problems(spec: Spec, configs: list[TrialConfig]) -> Iterator[Problem]:
    families = dict.fromkeys((config.protocol, config.split_family) for config in configs)
    for i, split in enumerate(spec.splits):
        for protocol, family in families:
            try:
                known_classes(protocol, family, split)
            except ValueError as error:
                yield Problem(("splits", i), str(error))


def _metric_problems(spec: Spec, configs: list[tuple[KeyPath, Row, dict[str, Any], TrialConfig]]) -> Iterator[Problem]:
    for name, column in spec.columns.items():
        if column.published_only:
            continue
        of = [(path, row, config) for path, row, settings, config in configs if settings == column.set]
        lacking = [(p, row, c) for p, row, c in of if column.metric.replace("{score}", c.score) not in _metrics_of(c)]
        if not lacking:
            continue
        path, row, config = lacking[0]
        allowed = _metrics_of(config)
        place: KeyPath = ("columns", name, "metric")
        if not column.metric.startswith("test/"):
            instead = nearest("test/" + column.metric.split("/", 1)[-1], allowed)
            yield Problem(place, f"{column.metric!r} is no test metric{instead}: a table shows the test set")
        elif len(lacking) == len(of):
            yield Problem(place, f"unknown metric {column.metric!r}{nearest(column.metric, allowed)}{_advice(column)}")
        else:
            yield Problem(path, f"{row.name!r} has no {column.metric}, which column {name} shows{_advice(column)}")


def _advice(column: Column) -> str:
    """Say what to write so that trials have the metric: it needs a score on request, or held-out images."""
    score = next((score for score in EXTRA_SCORES if f"/{score}/" in column.metric), None)
    if score:
        return f"; {score} is computed where base has `extra_scores: [{score}]`"
    return "; f1.val95 needs a holdout above 0 in base" if column.metric.endswith("f1.val95") else ""


def _metrics_of(config: TrialConfig) -> frozenset[str]:
    scores = (*config.recorded_scores, *config.scores_on_request(last=True))
    sets = config.evaluation_sets
    shown = tuple(name for name in sets if part_of_set(config.protocol, name).known != "raw")
    return test_metrics(sets, scores, config.holdout > 0, shown)


@cache
def test_metrics(
    sets: tuple[str, ...], scores: tuple[str, ...], held_out: bool, shown: tuple[str, ...]
) -> frozenset[str]:
    """The names that `trainables.scoring.measured.metrics_of` gives to what is measured on the test set.

    `shown` are sets with known images of their own.
    """
    each = [*RANKING_METRICS, *OPEN_SET_METRICS, *BALANCED, "f1.test95", *(["f1.val95"] if held_out else [])]
    names = {"test/accuracy", "test/auc", *(f"test/{name}/feature_cosine" for name in sets)}
    names |= {"test/auroc", "test/oscr"} if sets else set()
    names |= {f"test/{name}/accuracy" for name in shown}
    return frozenset(
        names | {str(MetricName("test", metric, name, score)) for name in sets for score in scores for metric in each}
    )
