"""How long 10,000 trials take to plan, besides reading the store: seconds of one core.

python -m benchmarks.planning
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from platform.files import search_file
from platform.planning.plan import ImageSets, Plan, Sweep, make_plan
from platform.planning.results import Results
from platform.planning.work import work
from platform.running.queue import Queue
from platform.tracking.claims import ClaimOutcome, Ours
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import TrialState

ROUNDS = 5
T = TypeVar("T")


class Nothing:
    """A store without a trial."""

    def claim(self, trial: TrialState, *, fresh: bool = False) -> ClaimOutcome:
        return Ours("run")

    def fetch_scores(self, run_id: str) -> pd.DataFrame:
        return pd.DataFrame()

    def fetch_weights(self, finished: FinishedTrial) -> bool:
        return False


def timed(what: str, seconds: dict[str, list[float]], call: Callable[[], T]) -> T:
    started = time.process_time()
    result = call()
    seconds.setdefault(what, []).append(time.process_time() - started)
    return result


def round_of(method: str, folder: Path, seconds: dict[str, list[float]]) -> None:
    base = {"method": method, "protocol": "digits", "backbone": "wrn10-1", "epochs": 3}
    if method == "asymmetric":
        base["teacher"] = {"backbone": "wrn16-1"}
    grid = {"lr": [0.01 + i / 1000 for i in range(40)], "weight_decay": [(10 + i) / 1e5 for i in range(50)]}
    content = {"name": "many", "base": base, "grid": grid, "splits": [0, 1, 2, 3, 4]}
    (folder / "many.yaml").write_text(yaml.safe_dump(content))
    spec = timed("read and check the file", seconds, lambda: search_file.load(folder / "many.yaml").profile("paper"))
    images = ImageSets(folder)
    sweep = Sweep(folder / "many.yaml", spec, "paper", ())
    plan: Plan = timed("requests and identities", seconds, lambda: make_plan([sweep], images, lambda path, profile: {}))
    finished = {request.identity: _known(request.identity) for request in plan.requests[::2]}
    timed("what is to do, half of it cached", seconds, lambda: work(plan, finished, {}))
    queue = Queue(plan, Nothing(), Results(), {}, lambda needs: 2, lambda text: None)
    queue.finished |= finished
    timed("the queue", seconds, queue.fill)
    assert len(plan.requests) == 10_000
    assert len(queue.results.outcomes) == 5_000


def _known(identity: str) -> FinishedTrial:
    metrics = {"test/accuracy": 0.9, "test/digits/msp/auroc": 0.9, "test/digits/msp/oscr": 0.9}
    details = json.dumps({"params": {}, "metrics": metrics})
    return FinishedTrial(identity, "run", "many", "row", "row", "sha", "false", 0.0, 1.0, "cpu", details)


def main() -> None:
    table = Table(title=f"10,000 trials, CPU seconds, median of {ROUNDS}", title_justify="left")
    columns: dict[str, dict[str, list[float]]] = {"cutmix": {}, "asymmetric": {}}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for method, seconds in columns.items():
                round_of(method, Path(folder), seconds)
    table.add_column("")
    for method in columns:
        table.add_column(method, justify="right")
    for step in columns["cutmix"]:
        table.add_row(step, *(f"{statistics.median(seconds[step]):.2f}" for seconds in columns.values()))
    totals = [sum(statistics.median(values) for values in seconds.values()) for seconds in columns.values()]
    table.add_row("in all", *(f"{total:.2f}" for total in totals), style="bold")
    Console().print(table)


if __name__ == "__main__":
    main()
