"""The table of a search file: by the profile that was asked for, or that has run."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from platform.files.rows import part_of
from platform.files.search_file import PAPER, SearchFile
from platform.planning.best import best_of
from platform.reports.source import Metrics, TableSource
from platform.reports.table import ReportTable
from platform.tracking.reader import Reader
from trainables.reading.yaml_file import ConfigError

_BETWEEN = r" (?=[\w.]+=)"  # two changes of a sweep, whose run has all in one line


def table_of(
    file: SearchFile,
    profile: str,
    changed: tuple[str, ...],
    reader: Reader | None,
    metrics: Metrics | None = None,
    score: str | None = None,
    metric: str | None = None,
    sensitivity: bool = False,
) -> ReportTable:
    """The table as a profile with changes has it; `metrics` gives what runs have not recorded, `score` and `metric`
    replace those of the file; with `sensitivity`, claims are made again without one split each."""
    best = partial(best_of, sweeps=reader.finished_sweeps if reader else lambda _: [])
    spec, paper = file.profile(profile, changed), file.profile(PAPER)
    reduced = not part_of(file.profile(profile), paper)
    asked = (score, metric, sensitivity)
    source = TableSource(spec, paper, Path(file.path), profile, changed, reduced, reader, best, *asked)
    return source.table(metrics or (lambda trial, name: trial.metrics.get(name)))


def chosen(
    file: SearchFile, reader: Reader | None, asked: str | None, changed: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """The profile and what `--set` changes of it: as asked for; else the paper's where it was run, else as the newest
    sweep of the file had them, else the paper's."""
    if asked:
        return asked, changed
    name = file.profile(PAPER).name
    ran = [s for s in reader.sweeps if s.experiment == name and s.profile in file.profiles] if reader else []
    wanted = " ".join(changed)
    if any((s.profile, s.changed) == (PAPER, wanted) for s in ran):
        return PAPER, changed
    for run in ran:
        if changed and run.changed != wanted:
            continue
        with suppress(ConfigError):  # the file has changed since
            made = each_change(run.changed)
            file.profile(run.profile, made)
            return run.profile, made
    there = [s.profile for s in ran]
    return (PAPER if PAPER in there or not there else there[0]), changed


def each_change(changed: str) -> tuple[str, ...]:
    """What `--set` changed of a sweep, as its run has it, one by one."""
    return tuple(re.split(_BETWEEN, changed)) if changed else ()
