"""How long all open-set metrics of one score take on 10,000 known and 10,000 unknown samples.

uv run python benchmarks/metrics.py
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from trainables.scoring.metrics import open_set_metrics


def main() -> None:
    rng = np.random.default_rng(0)
    n, classes = 10_000, 10
    known, unknown = rng.beta(4, 2, n), rng.beta(2, 3, n)
    label = rng.integers(0, classes, n)
    guess = np.where(rng.random(n) < 0.9, label, rng.integers(0, classes, n))
    guess_unknown = rng.integers(0, classes, n)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        values = open_set_metrics(known, unknown, guess, label, guess_unknown, classes, held_out=known[:1000])
        times.append(time.perf_counter() - started)
    print(f"{len(values)} metrics on {n:,} + {n:,} scores: {1000 * statistics.median(times):.1f} ms (median of 20)")


if __name__ == "__main__":
    main()
