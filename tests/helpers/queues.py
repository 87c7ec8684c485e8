"""A queue by itself, with real plans and studies, a store that remembers what it was asked, and no Ray."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from platform.files.spec import Spec
from platform.planning.plan import ImageSets, Plan, Sweep, make_plan
from platform.planning.results import Results
from platform.planning.search import Study
from platform.running.job import Job
from platform.running.queue import Queue
from platform.tracking.claims import ClaimOutcome, Elsewhere, Finished, Ours
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import TrialState

BASE = "base: {method: plain, protocol: digits, backbone: wrn10-1, epochs: 3, images_per_class: 20}\n"
ROWS = f"name: rows\n{BASE}rows:\n  - {{name: Plain, set: {{}}}}\n  - {{name: CutMix, set: {{method: cutmix}}}}\n"
SEARCH = f"name: search\n{BASE}search: {{lr: {{float: [0.01, 0.1]}}}}\ntrials: 3\n"
DISTILLED = ROWS.replace("set: {}", "set: {method: distill, teacher: {epochs: 9}}")


@dataclass
class Memory:
    """A store that remembers what it was asked: claims are answered from `elsewhere` and `finished`."""

    finished: dict[str, FinishedTrial] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    reachable: bool = True
    scores: dict[str, pd.DataFrame] = field(default_factory=dict)  # by run

    def claim(self, trial: TrialState, *, fresh: bool = False) -> ClaimOutcome:
        if trial.identity in self.finished and not fresh:
            return Finished(self.finished[trial.identity])
        return Elsewhere("another process") if trial.identity in self.elsewhere else Ours("run")

    def fetch_scores(self, run_id: str) -> pd.DataFrame:
        return self.scores[run_id]

    def fetch_weights(self, finished: FinishedTrial) -> bool:
        self.fetched.append(finished.identity)
        return self.reachable


def plan(*texts: str) -> Plan:
    sweeps = [
        Sweep(Path(f"{i}.yaml"), Spec.model_validate(yaml.safe_load(t)), "paper", ()) for i, t in enumerate(texts)
    ]
    return make_plan(sweeps, ImageSets(Path()), lambda path, profile: {})


def filled(
    of: Plan,
    folder: Path,
    store: Memory | None = None,
    finished: Mapping[str, FinishedTrial] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Queue:
    studies = {s.name: Study(s.spec, of.identity(s.search), folder) for s in of.sweeps if s.search}
    queue = Queue(of, store or Memory(), Results(), studies, lambda needs: 2, say)
    queue.finished |= finished or {}
    queue.fill()
    return queue


def metrics(value: float = 0.9, sets: tuple[str, ...] = ("digits",)) -> dict[str, float]:
    scores = [
        f"test/{name}/{score}/{metric}" for name in sets for score in ("msp", "mls") for metric in ("auroc", "oscr")
    ]
    scores += [f"val/pseudo-unknown/{score}/auroc" for score in ("msp", "mls")]
    return {"test/accuracy": value, **dict.fromkeys(scores, value)}


def just_finished(identity: str, of: Mapping[str, float]) -> FinishedTrial:
    details = json.dumps({"params": {}, "metrics": dict(of)})
    return FinishedTrial(
        identity, "earlier", "other", "row", "row", "sha", "false", time.time(), 1.0, "cpu, 1 threads", details
    )


def end(queue: Queue, job: Job, status: str = "finished", **values: Any) -> None:
    job.trial.status = status  # type: ignore[assignment]
    job.trial.metrics = metrics(**values)
    queue.ended(job)


def order(queue: Queue) -> Iterator[Job]:
    """Every job, each ended before the next is asked for."""
    while job := queue.next():
        yield job
        if job.identity in queue.running:
            end(queue, job)
