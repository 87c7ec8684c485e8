"""Finished trials as a CSV, one line each: what a report is made of again, without the store that tracked them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from platform.files.names import for_spreadsheets, without_guard
from platform.files.rows import row_list
from platform.planning.best import search_of
from platform.reports.table import ReportTable
from platform.tracking.index import FinishedTrial, SweepRun
from platform.tracking.reader import Reader
from trainables.reading.yaml_file import ConfigError, Problem
from trainables.settings.score_names import SCORE_SETTINGS

_TEXTS = ("identity", "experiment", "profile", "changed", "row", "run_id", "git_sha", "git_dirty", "device")
_NUMBERS = ("ended", "seconds")  # unix seconds; of training
# JSON: what was trained on and tested on, settings of scores, and the searches whose best settings rows begin with.
_PARSED = ("images", "tested", *SCORE_SETTINGS, "searches")
_FIXED = (*_TEXTS, *_NUMBERS, *_PARSED)  # every other column is a metric


def exported(tables: Iterable[ReportTable], reader: Reader) -> str:
    """The finished trials behind tables with their teachers, those of two tables once."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for table in tables:
        images, searches = json.dumps(reader.images(table.spec.name)), json.dumps(list(_searches(table, reader)))
        behind = [trial for cell in table.all_cells for trial in cell.trials if trial.state == "finished"]
        for identity in (name for trial in behind for name in (trial.teacher, trial.identity)):
            if identity not in reader.finished:
                continue
            finished = reader.finished[identity]
            details = json.loads(finished.details)
            texts = {name: getattr(finished, name, "") for name in _TEXTS}
            texts |= {"experiment": table.spec.name, "profile": table.profile, "changed": " ".join(table.changed)}
            lines[table.spec.name, identity] = {
                **{name: for_spreadsheets(text) for name, text in texts.items()},
                **{name: getattr(finished, name) for name in _NUMBERS},
                "images": images,
                "tested": json.dumps(details.get("tested", {})),
                **{score: json.dumps(details.get(score)) for score in SCORE_SETTINGS},
                "searches": searches,
                **finished.metrics,
            }
    return pd.DataFrame(list(lines.values()), columns=None if lines else list(_FIXED)).to_csv(index=False)


def _searches(table: ReportTable, reader: Reader) -> Iterator[dict[str, Any]]:
    """What the searches found whose best settings rows begin with, as `SweepRun` has it."""
    for name in dict.fromkeys(row.best_of for row in row_list(table.spec) if row.best_of):
        with suppress(ConfigError):  # it has found nothing yet, and the row has no trials
            run = search_of(Path(name), table.profile, reader.finished_sweeps)
            best = {name: value for name, value in run.params.items() if name.startswith("best")}
            yield {"experiment": run.experiment, "profile": run.profile, "params": best}


def read_exported(file: Path, option: str) -> Reader:
    """A store of the trials that `exported` wrote, without the files of their runs; `option` named it.

    Raises `ConfigError` where the file is missing or something else.
    """
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys((*_TEXTS, *_PARSED), str), keep_default_na=False, na_values=[""])
        for name in _TEXTS:
            table[name] = table[name].fillna("").map(without_guard)
        finished: dict[str, FinishedTrial] = {}
        images: dict[tuple[str, str, str], dict[str, Any]] = {}  # by a sweep's name, profile and what `--set` changed
        params: dict[tuple[str, str, str], dict[str, str]] = {}
        for line in table.to_dict("records"):
            parsed = {name: json.loads(line[name]) for name in _PARSED if name in line}
            metrics = {str(n): float(v) for n, v in line.items() if n not in _FIXED and pd.notna(v)}
            details = {"params": {}, "metrics": metrics}
            details |= {n: v for n, v in parsed.items() if n not in ("images", "searches") and v}
            own = {
                name: line[name] for name in ("identity", "run_id", "row", "git_sha", "git_dirty", "device", *_NUMBERS)
            }
            finished[line["identity"]] = FinishedTrial(
                sweep=line["experiment"], phase="", details=json.dumps(details), **own
            )
            where = (line["experiment"], line["profile"], line["changed"])
            images[where] = parsed["images"]
            for search in parsed.get("searches", ()):
                params[search["experiment"], search["profile"], ""] = search["params"]
    except OSError as error:
        raise ConfigError([Problem((), f"{option} {file}: {error.strerror}")]) from error
    except (ValueError, TypeError, KeyError) as error:
        message = f"{option} {file} is no file that `--format trials` wrote: {error}"
        raise ConfigError([Problem((), message)]) from error
    sweeps = [
        SweepRun("", where[0], True, where[1], where[2], images.get(where, {}), params.get(where, {}))
        for where in dict.fromkeys((*images, *params))
    ]
    return Reader("", finished, sweeps=sweeps)
