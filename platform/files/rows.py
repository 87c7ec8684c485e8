"""From the rows that an ablation file writes to the rows of its table: grids multiplied out, one thing left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from platform.files.spec import Claim, LeftOut, Row, Spec
from platform.files.trial_settings import of_score, with_teacher
from trainables.reading.values import convert
from trainables.reading.yaml_file import KeyPath
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve

MAX_ROWS = 10_000  # of one file: beyond it, a grid is a slip of the pen
MAX_TRIALS = 20_000  # of one file, rows × columns of their own × splits × seeds
FULL, NONE = "full", "none"  # the rows that lack nothing of `leave_one_out`, and all of it


def expand(spec: Spec) -> Iterator[tuple[KeyPath, Row]]:
    """Where the file says it, and the row: as written, then of the file's own grid, then of `leave_one_out` and
    `add_one_in`."""

    def grid_row(name: str, values: Mapping[str, Any], of: Row | Spec, **more: Any) -> Row:
        return Row.model_construct(name=name, published=published_of(values, of.published), **more)

    for i, row in enumerate(spec.rows):
        if not row.grid:
            yield ("rows", i), row
        for values in combinations(row.grid):
            changes = {**(row.set or {}), **values}
            yield ("rows", i), grid_row(f"{row.name}, {say(values)}", values, row, set=changes, best_of=row.best_of)
    for values in combinations(spec.grid):
        yield ("grid",), grid_row(say(values), values, spec, set=values)
    if spec.leave_one_out:
        yield ("leave_one_out",), Row.model_construct(name=FULL, set={})
    for i, item in enumerate(spec.leave_one_out):
        yield ("leave_one_out", i), Row.model_construct(name=f"without {item.name}", set=without(spec, [item]))
    if spec.add_one_in:
        yield ("add_one_in",), Row.model_construct(name=NONE, set=without(spec, spec.leave_one_out))
        for item in spec.leave_one_out if len(spec.leave_one_out) > 2 else ():  # of two, one alone is without the other
            others = [other for other in spec.leave_one_out if other is not item]
            yield ("add_one_in",), Row.model_construct(name=f"only {item.name}", set=without(spec, others))


def without(spec: Spec, items: Iterable[LeftOut]) -> dict[str, Any]:
    """What the base changes where it lacks some components of `leave_one_out`."""
    changes: dict[str, Any] = {}
    for item in items:
        changes |= item.set or {item.name: off(spec.table[item.name].annotation)}
    return changes


def row_list(spec: Spec) -> list[Row]:
    """The rows of an ablation, with grids multiplied out and `leave_one_out` written out."""
    return [row for _, row in expand(spec)]


def column_groups(spec: Spec) -> list[tuple[str, dict[str, Any]]]:
    """Columns whose trials are the same, as the first of them and the settings that all of them change."""
    groups: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, column in spec.columns.items():
        if not column.published_only:
            groups.setdefault(repr(sorted(column.set.items())), (name, column.set))
    return list(groups.values())


def columns(spec: Spec) -> list[tuple[str, str]]:
    """For each column of a table, the `Place.column` of its trials and the metric that it shows."""
    groups = {repr(sorted(own.items())): name if own else "" for name, own in column_groups(spec)}
    of = {name: repr(sorted(column.set.items())) for name, column in spec.columns.items()}
    return [(name if c.published_only else groups[of[name]], c.metric) for name, c in spec.columns.items()]


def trials(spec: Spec, row: Row, best: Mapping[str, Any] | None = None) -> Iterator[tuple[str, TrialConfig]]:
    """The trials of a row on all splits and seeds, each with the `Place.column` that it serves, `best` under the
    row's own settings."""
    # What a search of scores records for its proposals, those that confirm it are not asked for.
    recorded: dict[str, Any] = {"extra_scores": []} if of_score(spec) else {}
    changes = {**recorded, **(best or {}), **(row.set or {})}
    for column, own, both in divisions(spec):
        config = resolve(with_teacher(spec, {**changes, "split": both[0][0]}, own))
        for split, seed in both:
            yield column, config.at(split, seed)


def part_of(profile: Spec, paper: Spec) -> bool:
    """Whether every trial of a profile is one of the file as it stands: it leaves rows, columns, splits or seeds out,
    and changes nothing."""
    if profile.search or paper.search:
        return profile.model_dump(exclude={"resources"}) == paper.model_dump(exclude={"resources"})
    rows = {row.name: row.set for row in row_list(paper)}
    return (
        profile.base == paper.base
        and {*profile.splits} <= {*paper.splits}
        and {*profile.seeds} <= {*paper.seeds}
        and all(row.name in rows and rows[row.name] == row.set for row in row_list(profile))
        and profile.columns.items() <= paper.columns.items()
    )


def divisions(spec: Spec) -> Iterator[tuple[str, dict[str, Any], list[tuple[int, int]]]]:
    """Of each row's trials: the first column that they serve, what that column changes, and all (split, seed)."""
    if spec.search and spec.confirm is None:
        return
    of = spec.confirm or spec
    for column, own in column_groups(spec):
        yield column if own else "", own, list(product(of.splits, of.seeds))


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """One value of each setting, in every way, the last setting varying fastest; none of an empty grid."""
    for values in product(*grid.values()) if grid else ():
        yield dict(zip(grid, values, strict=True))


def size(grid: Mapping[str, Sequence[Any]]) -> int:
    """How many combinations a grid has."""
    return math.prod(len(values) for values in grid.values()) if grid else 0


def published_of(combination: Mapping[str, Any], published: Any) -> dict[str, float]:
    """The numbers, by column, of the entries `{setting: value, …, column: number, …}` that name this combination."""
    found: dict[str, float] = {}
    for entry in published if isinstance(published, list) else ():
        if combination.items() <= entry.items():
            found |= {name: float(value) for name, value in entry.items() if name not in combination}
    return found


def published_difference(rows: Mapping[str, Row], claim: Claim, column: str) -> float | None:
    """What the paper prints for a claim's rows, in points; None where it prints no numbers. `rows` are by name."""
    both = [rows[name].published.get(column) for name in (claim.row, claim.over)]
    return None if claim.sign or None in both else both[0] - both[1]


def claimed_sign(rows: Mapping[str, Row], claim: Claim, column: str) -> float:
    """The published difference, or ±1 where the paper says only which is better; 0 where it says that none is."""
    difference = published_difference(rows, claim, column)
    if difference is None:
        return float(f"{claim.sign}1")
    return 0.0 if abs(difference) < 1e-9 else difference


def off(annotation: Any) -> Any:
    """What switches a setting of this type off: false, `none` or 0. Raises `ValueError` where nothing does."""
    for value in (False, "none", 0):
        try:
            if annotation is not str:  # `none` would be a name like any other
                return convert(value, annotation)
        except ValueError:
            continue
    raise ValueError("has no value that switches it off: write {name: …, set: {…}}, with what it has instead")


def say(changes: Mapping[str, Any]) -> str:
    """`a=1, b=0.5`: the name of a grid's row."""
    return ", ".join(f"{name}={_value(value)}" for name, value in changes.items())


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return f"({say(value)})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)
