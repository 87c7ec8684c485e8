"""What a report takes beside a store of many runs: python -m benchmarks.report [runs]

Makes a SQLite store of 10,000 finished trials of 20 metrics each: every trial of the tables in search_spaces/, and
others. Then starts whole processes, imports included, and prints seconds (median of three where it is short) and peak
memory of each: one table, where this machine has not seen the store yet, where it has, and where the store has changed
since; the index of all tables; and the same table as a user would make it, by `mlflow.search_runs` into pandas. The
latter is told the identities; to find them is part of the report.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.index import copies, one_run
from platform.files import search_file
from platform.files.rows import columns, row_list, trials
from platform.tracking.tracker import Tracker
from trainables.settings.identity import identity_of

ROOT = Path(__file__).parents[1]
METRICS = 20
PRINT = "0" * 16  # the fingerprint of every image set
TABLE = "search_spaces/asymmetric/table01.yaml"  # the one with most rows, 280 trials
AS_USERS_DO = """
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
rows = json.loads(open(sys.argv[2]).read())
runs = mlflow.search_runs(search_all_experiments=True, max_results=50_000)
runs = runs[runs["status"] == "FINISHED"].set_index("tags.identity")
for row, identities in rows.items():
    of = runs.loc[[i for i in identities if i in runs.index]]
    shown = of[["metrics.test/accuracy", "metrics.test/tiny-imagenet/mls/auroc"]]
    print(row, shown.agg(["mean", "std"]).values.tolist())
"""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["OSR_CACHE"] = str(folder / "cache")
        uri = f"sqlite:///{folder}/mlflow.db"
        with console.status(f"making a store of {count:,} runs …"):
            _store(folder, uri, count)
        report = [sys.executable, "-m", "platform.report", "--tracking-uri", uri]
        table = Table(title=f"{count:,} runs of {METRICS} metrics: whole processes", title_justify="left")
        for column in ("", "seconds", "peak memory, MB"):
            table.add_column(column, justify="right" if column else "left")
        pages = str(folder / "pages")
        opening = "import sys, mlflow; print(mlflow.MlflowClient(sys.argv[1]).search_experiments())"
        commands = {
            "MLflow alone: its imports, the store opened": [sys.executable, "-c", opening, uri],
            "one table, the store seen for the first time": [*report, TABLE],
            "one table": [*report, TABLE],
            "one table, the store changed since": [*report, TABLE],
            "one table as HTML, without figures": [*report, TABLE, "--format", "html", "--no-figures", "--out", pages],
            "the index and a page of all tables": [*report, "--all", "--out", pages],
            "mlflow.search_runs into pandas, one table": [
                sys.executable,
                "-c",
                AS_USERS_DO,
                uri,
                str(folder / "rows.json"),
            ],
        }
        for name, command in commands.items():
            with console.status(f"{name} …"):
                table.add_row(name, *_measured(command, folder, once="first" in name, change="changed" in name))
        console.print(table)


def _measured(command: list[str], folder: Path, once: bool, change: bool) -> tuple[str, str]:
    """Seconds and megabytes of a command; with `change`, the store is written to before each time."""
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < 15:
        if change:
            with sqlite3.connect(folder / "mlflow.db") as database:
                database.execute("update runs set name = name || '.' where rowid = 1")
        started = time.perf_counter()
        with (folder / "output").open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, (folder / "output").read_text()[-2000:]
        seconds.append(time.perf_counter() - started)
        if once:
            break
    assert isinstance(usage, resource.struct_rusage)
    return f"{sorted(seconds)[len(seconds) // 2]:.2f}", f"{usage.ru_maxrss / 1024:.0f}"


def _wanted() -> Iterator[tuple[str, str, str, list[str], tuple[str, ...]]]:
    """File, row, identity, the metrics that the table shows and the images that it trains on, of every trial."""
    for path in sorted((ROOT / "search_spaces").glob("*/*.yaml")):
        spec = search_file.load(path).profile("paper")
        for row in row_list(spec):
            for group, config in () if row.published_only else trials(spec, row):
                identity = identity_of(config, dict.fromkeys(config.shaped_by, PRINT))
                shown = [m.replace("{score}", config.score) for g, m in columns(spec) if g == group]
                names = {n for m in shown for n in _names(m, config.evaluation_sets, config.score)}
                yield str(path.relative_to(ROOT)), row.name, identity, sorted(names), config.shaped_by


def _names(metric: str, sets: tuple[str, ...], score: str) -> list[str]:
    if metric in ("test/auroc", "test/oscr"):
        return [f"test/{name}/{score}/{metric.split('/')[1]}" for name in sets]
    return [metric]


def _store(folder: Path, uri: str, count: int) -> None:
    tracker = Tracker(uri, folder / "outbox", print)
    run_id = one_run(tracker, folder)
    tracker.close()
    metrics: dict[str, set[str]] = {}
    rows: dict[str, list[str]] = {}
    sets: set[str] = set()
    for file, row, identity, names, images_of in _wanted():
        sets |= set(images_of)
        metrics.setdefault(identity, set()).update(names)
        if file == TABLE:
            rows.setdefault(row, []).append(identity)
    (folder / "rows.json").write_text(json.dumps(rows))
    made = copies(folder / "mlflow.db", run_id, count - 1)
    with sqlite3.connect(folder / "mlflow.db") as database:
        images = json.dumps({name: [PRINT, 50_000] for name in sorted(sets)})
        sweep = database.execute("select run_uuid from tags where key = 'kind' and value = 'sweep'").fetchone()[0]
        database.execute("insert or replace into tags (key, value, run_uuid) values ('images', ?, ?)", (images, sweep))
        for run, (identity, shown) in zip(made, metrics.items(), strict=False):
            database.execute("update tags set value = ? where run_uuid = ? and key = 'identity'", (identity, run))
            all_names = [*sorted(shown), *(f"test/other{n}/msp/auroc" for n in range(METRICS - len(shown)))]
            recorded = database.execute("select key from latest_metrics where run_uuid = ?", (run,)).fetchall()
            for (old,), name in zip(recorded, all_names, strict=False):
                where = (name, run, old)
                database.execute("update latest_metrics set key = ? where run_uuid = ? and key = ?", where)
    print(f"{len(metrics):,} of them are trials of the tables")


if __name__ == "__main__":
    main()
