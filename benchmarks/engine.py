"""What the engine costs a trial, beside bare Ray Tune and Optuna alone, all in one run on one machine.

python -m benchmarks.engine --trials 100 --rounds 3

Every trial is a no-op that reports once. `engine` is this project's: the queue, claims, studies on disk, records on
disk before MLflow has them. `bare` is what a user would write: `tune.Tuner` with `OptunaSearch` and a callback that
makes the same calls to MLflow (a run with the same tags, params, metrics and files, ended) to the same kind of store;
its function imports what the engine's worker does, once a process.
`optuna` asks and tells in a loop, with no Ray and no MLflow. With --scale, the engine alone at growing numbers of
trials: the driver's memory and time a trial must stay flat.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psutil
import ray
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from platform.files.spec import Spec
from platform.planning.plan import ImageSets, Sweep, make_plan
from platform.running import connection
from platform.running.execute import Locations, execute
from platform.running.interrupt import Interrupt
from platform.running.pace import Pace
from platform.tracking.tracker import Tracker
from trainables.storage.folder import Folder
from trainables.worker import Worker

FILES = ("config.yaml", "scores.parquet", "weights.pt")
BASE = {"method": "backmix", "protocol": "digits", "backbone": "wrn10-1", "epochs": 1, "images_per_class": 60}
SPACE = {"mask_ratio": (0.0, 1.0), "cut_size": (0.04, 0.4)}


class NoOp(Worker):
    """A worker whose trials report at once, and leave three small files."""

    def step(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            for name in FILES:
                (Path(folder) / name).write_bytes(b"x")
                (self.order.folder / "files").put(Path(folder) / name, name)
        told = {"epoch": 1, "metrics": {"val/auroc": random.random()}, "last": True, "done": True}
        return {**told, "device": "none", "tested": {}, "history": [], "warnings": []}


def engine(trials: int, folder: Path) -> float:
    """Seconds that this project's engine takes for a search of so many no-ops, Ray running already."""
    spec = Spec.model_validate(
        {
            "name": "bench",
            "base": BASE,
            "search": {name: {"float": list(bounds)} for name, bounds in SPACE.items()},
            "trials": trials,
        }
    )
    (folder / "bench.yaml").write_text(json.dumps({"name": "bench"}))
    console = Console(quiet=True)
    sweep = Sweep(folder / "bench.yaml", spec, "paper", ())
    plan = make_plan([sweep], ImageSets(folder), lambda path, profile: {})
    tracker = Tracker(f"sqlite:///{folder}/engine.db", folder / "outbox", print)
    place = Locations(folder, Folder.at(folder), folder)
    started = time.perf_counter()
    known = tracker.finished()  # as the command does: claims then need not ask again
    results = execute(
        plan,
        known,
        tracker,
        console,
        Interrupt(print),
        place,
        pace=Pace(lambda config: None),
        joined=True,
        worker=lambda: NoOp,
        give_up=lambda results: None,
        again="",
    )
    seconds = time.perf_counter() - started
    assert results.count("finished") == trials, results.count("finished")
    return seconds


class _Recorder(tune.Callback):
    """The same calls to MLflow, made in place."""

    def __init__(self, client: MlflowClient, experiment: str, files: Path) -> None:
        self.client, self.experiment, self.files = client, experiment, files
        self.runs: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        tags = {f"tag.{i}": "a value" for i in range(25)}
        run = self.client.create_run(self.experiment, run_name=trial.trial_id, tags=tags)
        self.runs[trial.trial_id] = run.info.run_id
        params = [Param(f"param.{i}", "a value") for i in range(45)]
        self.client.log_batch(run.info.run_id, params=params)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric("val/auroc", result["val/auroc"], now, result["training_iteration"])]
        self.client.log_batch(self.runs[trial.trial_id], metrics=metrics)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        run = self.runs[trial.trial_id]
        self.client.log_artifacts(run, str(self.files))
        self.client.set_terminated(run)


def no_op(config: dict[str, Any]) -> None:
    import trainables.one_trial  # noqa: F401  # torch and all: a trial needs it, whoever starts it

    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            (Path(folder) / name).write_bytes(b"x")
    tune.report({"val/auroc": random.random()})


def bare(trials: int, folder: Path) -> float:
    """Seconds that Ray Tune takes as a user would write it."""
    client = MlflowClient(f"sqlite:///{folder}/bare.db")
    experiment = client.create_experiment("bare", artifact_location=(folder / "mlruns").as_uri())
    files = folder / "files"
    files.mkdir()
    for name in FILES:
        (files / name).write_bytes(b"x")
    started = time.perf_counter()
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=10, multivariate=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(f"{folder}/bare.log"))
    tune.Tuner(
        tune.with_resources(no_op, {"CPU": 1}),
        param_space={name: tune.uniform(*bounds) for name, bounds in SPACE.items()},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(sampler=sampler, storage=storage),
            metric="val/auroc",
            mode="max",
            num_samples=trials,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="bare", storage_path=str(folder), callbacks=[_Recorder(client, experiment, files)], verbose=0
        ),
    ).fit()
    return time.perf_counter() - started


def optuna_alone(trials: int, folder: Path) -> float:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(f"{folder}/alone.log"))
    started = time.perf_counter()
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=10, multivariate=True)
    study = optuna.create_study(storage=storage, sampler=sampler, direction="maximize")
    for _ in range(trials):
        trial = study.ask()
        for name, bounds in SPACE.items():
            trial.suggest_float(name, *bounds)
        study.tell(trial, random.random())
    return time.perf_counter() - started


def timed(function: Callable[[int, Path], float], trials: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return function(trials, Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, nargs="*", default=[], metavar="N", help="such as 100 500 2000")
    args = parser.parse_args()
    connection.connect(None)
    console = Console()
    timed(engine, 4)  # workers' imports, page caches
    timed(bare, 4)
    kinds = {"engine": engine, "bare": bare, "optuna": optuna_alone}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in track(range(args.rounds), "rounds", console=console, transient=True):
        for name, function in kinds.items():
            seconds[name].append(timed(function, args.trials))
    table = Table(title=f"{args.trials} no-op trials, median of {args.rounds} rounds", title_justify="left")
    for column in ("", "ms a trial", "trials a second", "/ bare"):
        table.add_column(column, justify="right")
    ratios = {name: [a / b for a, b in zip(values, seconds["bare"], strict=True)] for name, values in seconds.items()}
    for name, values in seconds.items():
        each = statistics.median(values) / args.trials
        table.add_row(name, f"{1000 * each:.1f}", f"{1 / each:.1f}", f"{statistics.median(ratios[name]):.2f}")
    console.print(table)
    if args.scale:
        growth = Table(title="engine, driver alone", title_justify="left")
        for column in ("trials", "ms a trial", "MB before", "MB after", "kB a trial"):
            growth.add_column(column, justify="right")
        me = psutil.Process()
        for trials in args.scale:
            before = me.memory_info().rss
            took = timed(engine, trials)
            after = me.memory_info().rss
            growth.add_row(
                str(trials),
                f"{1000 * took / trials:.1f}",
                f"{before / 1e6:.0f}",
                f"{after / 1e6:.0f}",
                f"{(after - before) / 1e3 / trials:.1f}",
            )
        console.print(growth)
    ray.shutdown()


if __name__ == "__main__":
    main()
