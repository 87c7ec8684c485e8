"""Which sweeps and trials a store has, what became of each, and those among them that somebody means."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from platform.files.names import for_spreadsheets
from platform.terminal.text import took
from platform.tracking.index import SweepRun, TrialRun
from platform.tracking.reader import Reader
from trainables.reading.yaml_file import ConfigError, Problem, nearest
from trainables.scoring.metric_names import MetricName

LOST = "lost"  # it is open in MLflow, but the process that had it is gone
FAILED = frozenset({"failed", LOST})
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NAMED = 8  # runs that a message names


@dataclass(frozen=True)
class Records:
    """A store as people look at it."""

    reader: Reader

    @property
    def sweeps(self) -> Sequence[SweepRun]:
        """The newest first."""
        return self.reader.sweeps

    def status(self, run: TrialRun | SweepRun) -> str:
        """What became of it."""
        return LOST if self.reader.lost(run) else run.ending

    def trials(
        self, *, failed: bool = False, row: str | None = None, sweep: str | None = None, since: float = 0.0
    ) -> list[TrialRun]:
        """Those that a filter lets pass: running ones first, then the last to end first."""
        found = self.reader.trials()
        found = [run for run in found if not run.ended or run.ended >= since]
        found = [run for run in found if row is None or run.row == row]
        found = [run for run in found if sweep is None or run.sweep == sweep]
        return [run for run in found if self.status(run) in FAILED] if failed else found

    def find(self, name: str) -> TrialRun | SweepRun:
        """The one run that `name` means: an identity, a run's id or its name, with or without its sweep's before it; or
        what only these begin with.

        Of several runs of a trial the finished one, else the last; of a sweep the newest. Raises `ConfigError`.
        """
        runs: list[TrialRun | SweepRun] = [*self.reader.trials(), *self.sweeps]
        exact = [run for run in runs if name in _names(run)]
        found = exact or [run for run in runs if any(known.startswith(name) for known in _names(run) if name)]
        alike: dict[str, TrialRun | SweepRun] = {}
        for run in sorted(found, key=lambda run: run.ending != "finished"):
            alike.setdefault(run.identity if isinstance(run, TrialRun) else run.experiment, run)
        if len(alike) == 1:
            return next(iter(alike.values()))
        if not alike:
            known = sorted({known for run in runs for known in _names(run)})
            raise ConfigError(
                [Problem((), f"no run is called {name}{nearest(name, known)}: `list` shows which there are")]
            )
        listed = [f"  {run.run_id[:12]}  {title(run)}" for run in alike.values()]
        more = [f"  and {len(listed) - _NAMED} more"] if len(listed) > _NAMED else []
        raise ConfigError([Problem((), "\n".join([f"{name} may be any of", *listed[:_NAMED], *more]))])


def _names(run: TrialRun | SweepRun) -> tuple[str, ...]:
    return (
        (run.run_id, run.identity, run.tags.get("name", ""), title(run))
        if isinstance(run, TrialRun)
        else (run.run_id, run.experiment)
    )


def title(run: TrialRun | SweepRun) -> str:
    """What a run is of, in a few words."""
    if isinstance(run, TrialRun):
        return f"{run.sweep}, {run.tags.get('name') or run.row}"
    return f"sweep {run.experiment}, profile {run.profile}"


def versions(run: TrialRun) -> dict[str, str]:
    """Of the libraries that shape numbers, as they were."""
    return {n.removeprefix("version."): v for n, v in sorted(run.tags.items()) if n.startswith("version.")}


def accuracy(run: TrialRun) -> tuple[str, float] | None:
    """The closed-set accuracy in 0..1, and of which part: test where it is there, else validation."""
    return next(
        ((part, run.metrics[f"{part}/accuracy"]) for part in ("test", "val") if f"{part}/accuracy" in run.metrics), None
    )


def auroc(run: TrialRun) -> tuple[str, str, float] | None:
    """The AUROC in 0..1 by the score that the trial's sweep asked for, the mean over its unknown sets; before it, the
    part and the score."""
    score = run.tags.get("score", "msp")
    for part in ("test", "val"):
        names = [
            MetricName.parse(name) for name in run.metrics if name.startswith(f"{part}/") and name.endswith("/auroc")
        ]
        if values := [run.metrics[str(name)] for name in names if name.score == score]:
            return part, score, fmean(values)
    return None


def since(text: str, now: float) -> float:
    """The moment, unix seconds, that `text` says: a day as 2026-11-20, or how long ago as 90m, 12h, 3d or 2w."""
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text):
        return now - float(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigError([Problem((), f"--since {text}: write a day as 2026-11-20, or 90m, 12h, 3d, 2w")]) from None


def as_mapping(records: Records, run: TrialRun) -> dict[str, Any]:
    """All that is known of a trial, for programs: times are unix seconds, metrics in 0..1."""
    tags = run.tags
    return {
        "run_id": run.run_id,
        "identity": run.identity,
        "name": tags.get("name", ""),
        "status": records.status(run),
        "sweep": run.sweep,
        "phase": run.phase,
        "row": run.row,
        **{name: tags.get(name, "") for name in ("protocol", "split_family", "method")},
        **{name: int(tags[name]) if name in tags else None for name in ("split", "seed")},
        "began": tags.get("began"),
        "ended": run.ended or None,
        "seconds": run.seconds,
        "device": run.device,
        "git_sha": run.git_sha,
        "git_dirty": run.git_dirty == "true",
        "files": tags.get("files", ""),
        "params": run.params,
        "metrics": run.metrics,
    }


def sweep_mapping(records: Records, sweep: SweepRun) -> dict[str, Any]:
    """All that is known of a sweep, for programs."""
    return {
        "run_id": sweep.run_id,
        "sweep": sweep.experiment,
        "status": records.status(sweep),
        "profile": sweep.profile,
        "changed": sweep.changed,
        "began": sweep.began,
        "ended": sweep.ended or None,
        "command": sweep.tags.get("command", ""),
        "params": sweep.params,
    }


def flat_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a trial without its settings, with a name for each metric."""
    return {**{name: value for name, value in line.items() if name not in ("params", "metrics")}, **line["metrics"]}


def comma_separated(lines: Iterable[Mapping[str, Any]]) -> str:
    """One line a trial, and a column for each metric of any; no text that a spreadsheet would compute."""
    flat = [flat_line(line) for line in lines]
    names = dict.fromkeys(name for line in flat for name in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: for_spreadsheets(value) for name, value in line.items()} for line in flat)
    return text.getvalue()


def age(run: TrialRun | SweepRun) -> str:
    """Since it ended, or began where it has not."""
    began = run.began if isinstance(run, SweepRun) else float(run.tags.get("began", 0))
    return took(max(0.0, time.time() - (run.ended or began)))


def counts(records: Records, trials: Iterable[TrialRun]) -> dict[str, dict[str, int]]:
    """How many trials of each sweep's name ended how."""
    found: dict[str, dict[str, int]] = {}
    for run in trials:
        of = found.setdefault(run.sweep, {})
        status = records.status(run)
        of[status] = of.get(status, 0) + 1
    return found
