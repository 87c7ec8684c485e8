"""What each component of `leave_one_out` has of their whole effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from platform.deciding.paired import Paired, paired
from platform.deciding.shares import Parts, shares, subsets
from platform.files.rows import row_list, without
from platform.files.spec import Spec
from platform.reports.figures.drawing import Drawing, MissingError, Runs, canvas
from platform.reports.table import ReportCell

ALL = "all together"
MOST = 5  # components: of more, nobody trains all 2^k rows


def component_shares(runs: Runs) -> list[Drawing]:
    """The share of each component in every column, with its interval; the last line of a part is the whole effect."""
    spec = runs.table.spec
    rows, names = _rows(spec), [item.name for item in spec.leave_one_out]
    lines: list[dict[str, Any]] = []
    absent: dict[Parts, None] = {}
    for name in spec.columns:
        cells = {cell.row: cell for cell in runs.table.all_cells if cell.column == name}
        there = {parts: cells[row] for parts, row in rows.items() if cells[row].percents}
        found = _shares(spec, there, names)
        if found:
            absent |= dict.fromkeys(parts for parts in subsets(names) if parts not in there)
        for component, one in found.items():
            interval = {"low": one.low, "high": one.high}
            lines.append({"column": name, "component": component, "share": one.mean, **interval})
    if not lines:
        raise MissingError("full, none and the rows without one component have no finished trials in common")
    data = pd.DataFrame(lines)
    columns = data.groupby("column", sort=False)
    drawn = canvas(len(columns), width=3.4, height=1.2 + 0.3 * (len(names) + 1))
    for axes, (column, part) in zip(drawn.axes, columns, strict=True):
        errors = [part["share"] - part["low"], part["high"] - part["share"]] if part["low"].notna().all() else None
        axes.barh(part["component"], part["share"], xerr=errors, ecolor="grey")
        axes.invert_yaxis()
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set(xlabel=f"{column}, points")
    return [Drawing("shares", _caption(spec, names, list(absent)), drawn, data)]


def _rows(spec: Spec) -> dict[Parts, str]:
    """The row that has just these components, by what it sets, whatever it is called."""
    trained = [row for row in row_list(spec) if not row.best_of]
    found: dict[Parts, str] = {}
    for parts in subsets([item.name for item in spec.leave_one_out]):
        changes = _without_the_rest(spec, parts)
        name = next((row.name for row in trained if row.set == changes), None)
        found |= {parts: name} if name else {}
    return found


def _without_the_rest(spec: Spec, parts: Parts) -> dict[str, Any]:
    return without(spec, [item for item in spec.leave_one_out if item.name not in parts])


def _shares(spec: Spec, there: Mapping[Parts, ReportCell], names: list[str]) -> dict[str, Paired]:
    """Of each component, and of all together; nothing where a row that is needed for any has no trial."""
    every = frozenset(names)
    if not {frozenset[str](), every, *(every - {name} for name in names)} <= there.keys():
        return {}
    shared = set.intersection(*({*cell.percents} for cell in there.values()))
    by_key = {key: {parts: cell.percents[key] for parts, cell in there.items()} for key in sorted(shared)}
    of = {key: shares(at, names) | {ALL: at[every] - at[frozenset()]} for key, at in by_key.items()}
    partitions = {trial.config.split: trial.partition for trial in there[every].trials}
    found = {}
    for name in (*names, ALL):
        one = paired({key: of[key][name] for key in of}, dict.fromkeys(of, 0.0), partitions, spec.over)
        if one:  # until decided, n was not fixed: no interval
            found[name] = replace(one, low=None, high=None) if spec.until else one
    return found


def _caption(spec: Spec, names: list[str], absent: list[Parts]) -> str:
    said = "What each component has of the effect of all (Shapley), on the splits and seeds that all these rows have"
    said += "." if spec.until else ", with its 95 % t interval."
    if not absent:
        return f"{said} Exact: all {2 ** len(names)} rows are there."
    said += f" An estimate, {len(absent)} of {2 ** len(names)} rows are missing: the shares need not sum to all."
    if len(names) > MOST:
        return said
    wanted = {f"only {', '.join(sorted(parts))}": _without_the_rest(spec, parts) for parts in absent}
    rows = [json.dumps({"name": name, "set": changes}) for name, changes in wanted.items()]
    return f"{said} These rows would make it exact: {'; '.join(rows)}"
