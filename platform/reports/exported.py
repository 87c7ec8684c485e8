"""Finished trials as a CSV, one line each: what a report is made of again, without the store that tracked them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from platform.reports.table import ReportTable
from platform.tracking.index import FinishedTrial, SweepRun
from platform.tracking.reader import Reader
from trainables.reading.yaml_file import ConfigError, Problem
from trainables.settings.score_names import SCORE_SETTINGS

_TEXTS = ("identity", "experiment", "profile", "changed", "row", "run_id", "git_sha", "git_dirty", "device")
_NUMBERS = ("ended", "seconds")  # unix seconds; of training
_PARSED = ("images", "tested", *SCORE_SETTINGS)  # JSON: what was trained on and tested on, settings of scores
_FIXED = (*_TEXTS, *_NUMBERS, *_PARSED)  # every other column is a metric


def exported(tables: Iterable[ReportTable], reader: Reader) -> str:
    """The finished trials behind tables, those of two tables once."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for table in tables:
        images = json.dumps(reader.images(table.spec.name))
        for trial in (trial for cell in table.all_cells for trial in cell.trials if trial.state == "finished"):
            finished = reader.finished[trial.identity]
            details = json.loads(finished.details)
            lines[table.spec.name, trial.identity] = {
                **{name: getattr(finished, name, "") for name in (*_TEXTS, *_NUMBERS)},
                "experiment": table.spec.name,
                "profile": table.profile,
                "changed": " ".join(table.changed),
                "images": images,
                "tested": json.dumps(details.get("tested", {})),
                **{score: json.dumps(details.get(score)) for score in SCORE_SETTINGS},
                **finished.metrics,
            }
    return pd.DataFrame(list(lines.values()), columns=None if lines else list(_FIXED)).to_csv(index=False)


def read_exported(file: Path, option: str) -> Reader:
    """A store of the trials that `exported` wrote, without the files of their runs; `option` named it.

    Raises `ConfigError` where the file is missing or something else.
    """
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys((*_TEXTS, *_PARSED), str), keep_default_na=False, na_values=[""])
        table[list(_TEXTS)] = table[list(_TEXTS)].fillna("")
        finished, sweeps = {}, {}
        for line in table.to_dict("records"):
            parsed = {name: json.loads(line[name]) for name in _PARSED if name in line}
            metrics = {str(n): float(v) for n, v in line.items() if n not in _FIXED and pd.notna(v)}
            details = {"params": {}, "metrics": metrics} | {n: v for n, v in parsed.items() if n != "images" and v}
            own = {
                name: line[name] for name in ("identity", "run_id", "row", "git_sha", "git_dirty", "device", *_NUMBERS)
            }
            finished[line["identity"]] = FinishedTrial(
                sweep=line["experiment"], phase="", details=json.dumps(details), **own
            )
            where = (line["experiment"], line["profile"], line["changed"])
            sweeps[where] = SweepRun("", where[0], True, where[1], where[2], parsed["images"], {})
    except OSError as error:
        raise ConfigError([Problem((), f"{option} {file}: {error.strerror}")]) from error
    except (ValueError, TypeError, KeyError) as error:
        message = f"{option} {file} is no file that `--format trials` wrote: {error}"
        raise ConfigError([Problem((), message)]) from error
    return Reader("", finished, sweeps=list(sweeps.values()))
