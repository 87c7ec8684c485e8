"""What trials at once take of a node's memory: the images lie there once, an extra trial adds what torch and it need.

python -m benchmarks.memory --data-root DATA

Trains WRN-10-1 on CIFAR-10 where DATA has it, else on scikit-learn's digits, in 1 and then in 4 Ray actors at once (as
sweeps do), and prints the peak over their processes:

- private: memory that no other process shares (USS, summed)
- images, mapped: what the processes have of the decoded images in their address space (RSS of the Arrow files, summed)
- images, held: what those take of the node, where a page that n processes map counts 1/n in each (PSS, summed)
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from rich.console import Console
from rich.table import Table

from trainables.data.trial_data import build
from trainables.images.listing import DataError
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve
from trainables.storage.cache import cache_folder
from trainables.worker import Worker

AT_ONCE = (1, 4)
MB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """Summed over the processes of all trials, in bytes."""

    private: int
    mapped: int
    held: int

    @property
    def total(self) -> int:
        return self.private + self.held


def usage(processes: Sequence[psutil.Process]) -> Usage:
    private = mapped = held = 0
    for process in processes:
        private += process.memory_full_info().uss
        maps = [m for m in process.memory_maps() if Path(m.path).parent == cache_folder()]
        mapped += sum(m.rss for m in maps)
        held += sum(m.pss for m in maps)
    return Usage(private, mapped, held)


def actors() -> list[psutil.Process]:
    """Processes that run a `Worker`."""
    children = psutil.Process().children(recursive=True)
    return [p for p in children if p.is_running() and p.cmdline()[:1] and p.cmdline()[0].startswith("ray::Worker")]


def orders(config: TrialConfig, data_root: Path, storage: Path, count: int) -> Iterator[dict[str, Any]]:
    """What the driver would tell `count` workers: the same training with other seeds."""
    fingerprints = build(config, data_root).fingerprints
    for seed in range(count):
        trial = resolve({**config.settings(), "seed": seed})
        yield {
            "settings": trial.settings(),
            "identity": identity_of(trial, fingerprints),
            "teacher": "",
            "evaluates_only": False,
            "workers": 1,
            "cpus": 1,
            "gpus": 0,
            "mark": 0,
            "data_root": str(data_root.resolve()),
            "storage": str(storage),
            "fingerprints": fingerprints,
            "tested": {},
        }


def peak(config: TrialConfig, data_root: Path, count: int) -> Usage:
    """The largest total while `count` trials train at once, on fresh processes."""
    with tempfile.TemporaryDirectory() as storage:
        ray.init("local", num_cpus=count, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            actor: Any = ray.remote(num_cpus=1)(Worker)
            workers = [actor.remote({"trial": json.dumps(o)}) for o in orders(config, data_root, Path(storage), count)]
            running = {worker.train.remote(): worker for worker in workers}
            most = Usage(0, 0, 0)
            while running:
                done, _ = ray.wait(list(running), timeout=0)
                for one in done:
                    worker, result = running.pop(one), ray.get(one)
                    if failure := result.get("failure"):
                        raise RuntimeError(failure)
                    if not result["done"]:
                        running[worker.train.remote()] = worker
                most = max(most, usage(actors()), key=lambda u: u.total)
                time.sleep(0.5)
        finally:
            ray.shutdown()
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of 1 and of 4 trials at once on one node.")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="where image sets are (default: data)")
    parser.add_argument("--images-per-class", type=int, help="train on fewer: faster, and fewer images are mapped")
    args = parser.parse_args()
    base = {"method": "plain", "backbone": "wrn10-1", "epochs": 1, "images_per_class": args.images_per_class}
    config = resolve({**base, "protocol": "cifar10"})
    try:
        build(config, args.data_root)
    except DataError:
        config = resolve({**base, "protocol": "digits"})
    measured = {count: peak(config, args.data_root, count) for count in AT_ONCE}
    one, four = measured.values()
    extra = {n: (getattr(four, n) - getattr(one, n)) / (AT_ONCE[1] - AT_ONCE[0]) for n in ("private", "mapped", "held")}
    extra["total"] = extra["private"] + extra["held"]
    table = Table(title=f"{config.protocol}, {config.backbone}, batch {config.batch_size}: peak memory, MB")
    for name in ("trials at once", "private", "images, mapped", "images, held", "total"):
        table.add_column(name, justify="right")
    for count, used in measured.items():
        row = (used.private, used.mapped, used.held, used.total)
        table.add_row(str(count), *(f"{value / MB:,.0f}" for value in row))
    table.add_row("each further trial", *(f"{extra[n] / MB:,.0f}" for n in ("private", "mapped", "held", "total")))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
