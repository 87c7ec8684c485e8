"""What planning pays to know 10,000 finished trials: python -m benchmarks.index [trials]

Makes a SQLite store of that many runs of 20 metrics each, by copying one run that the tracker wrote, then measures the
index: read for the first time, with nothing new, with 100 new, after an old run was deleted, and looking everything up.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient

from platform.tracking.tracker import Tracker
from platform.tracking.trials import Place, TrialState
from trainables.settings.resolving import resolve

METRICS = 20
T = TypeVar("T")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["OSR_CACHE"] = str(folder / "cache")
        uri = f"sqlite:///{folder}/mlflow.db"
        tracker = Tracker(uri, folder / "outbox", print)
        run_id = one_run(tracker, folder)
        made = copies(folder / "mlflow.db", run_id, count - 1)
        _measure(f"{count} runs read for the first time", tracker.finished)
        known = _measure("nothing new", tracker.finished)
        assert len(known) == count, len(known)
        _measure("params and metrics of all of them", lambda: [(k.params, k.metrics) for k in known.values()])
        for what in ("read anew", "nothing new"):
            for command in ([], ["list", "--failed"], ["show", f"{7:016x}"]):
                _measure(f"{what}: runs {' '.join(command)[:13]}", lambda c=command: _runs(uri, *c))  # type: ignore[misc]
        copies(folder / "mlflow.db", run_id, 100, first=count)
        assert len(_measure("100 new", tracker.finished)) == count + 100
        MlflowClient(uri).delete_run(made[-50])
        assert len(_measure("one of the last 200 deleted", tracker.finished)) == count + 99
        MlflowClient(uri).delete_run(made[10])
        assert len(_measure("one of the first deleted", tracker.finished)) == count + 98
        tracker.close()


def _measure(what: str, call: Callable[[], T]) -> T:
    started, used = time.perf_counter(), sum(os.times()[:4])  # with those of processes that it starts
    found = call()
    took = f"{time.perf_counter() - started:7.3f} s, {sum(os.times()[:4]) - used:7.3f} s of a core"
    print(f"{what:40} {took}")
    return found


def _runs(uri: str, *arguments: str) -> None:
    """The command in a process of its own, as people start it."""
    command = [sys.executable, "-m", "platform.runs", *(arguments or ["list"]), "--tracking-uri", uri]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def one_run(tracker: Tracker, folder: Path) -> str:
    file = folder / "toy.yaml"
    file.write_text("name: toy")
    sweep = tracker.start_sweep("toy", "sweep toy", "key", {}, {}, [file])
    config = resolve({"method": "backmix", "protocol": "digits", "backbone": "wrn10-1"})
    trial = TrialState(Place("toy", "row", "row", 1), config, f"{0:016x}")
    tracker.claim(trial, sweep)
    trial.status, trial.epoch = "finished", config.epochs
    trial.metrics = {f"test/score{n}/auroc": 0.5 for n in range(METRICS)}
    tracker.ended(trial)
    tracker.end_sweep(sweep, "FINISHED")  # an open one changes the store by its signs of life
    tracker.finished()
    return trial.run_id


def copies(database: Path, run_id: str, count: int, *, first: int = 1) -> list[str]:
    """`count` more runs like this one, each ended a second after the one before, their identities from `first` on."""
    ids = [uuid.uuid4().hex for _ in range(count)]
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        for table in ("runs", "params", "tags", "latest_metrics"):
            rows = [dict(row) for row in connection.execute(f"select * from {table} where run_uuid = ?", (run_id,))]
            columns = list(rows[0])
            statement = f"insert into {table} ({', '.join(columns)}) values ({', '.join('?' * len(columns))})"
            for number, copy in enumerate(ids, first):
                for row in rows:
                    new = row | {"run_uuid": copy}
                    if table == "runs":
                        new["end_time"] += 1000 * number
                    if row.get("key") == "identity":
                        new["value"] = f"{number:016x}"
                    elif row.get("key", "").endswith(f"{0:016x}"):  # the tag that claims find the identity by
                        new["key"] = row["key"].replace(f"{0:016x}", f"{number:016x}")
                    connection.execute(statement, list(new.values()))
    return ids


if __name__ == "__main__":
    main()
