"""What BackMix costs: its mix-and-augment alone, and a whole training step beside Plain's, in one run.

    uv run python benchmarks/backmix_step.py --backbone wrn16-2 --threads 2

Images are random bytes: what they show does not change what a step costs. Steps of the two methods take turns,
so that a machine that slows down slows both, and each figure is a median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.device import pick_device
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer


def random_data(images: int, size: int, classes: int) -> TrialData:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, classes, images)
    rows = np.arange(images)
    source = ImageSet("random", pixels, labels, rows, "random", 0, "random bytes")
    return TrialData(tuple(range(classes)), size, True, Samples(source, rows, labels))


def seconds(run: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="wrn16-2")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40, help="timed steps of each method")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    data = random_data(20_000, 32, 6)
    settings = {"protocol": "cifar10", "split_family": "osrci", "backbone": args.backbone}
    settings |= {"batch_size": args.batch, "precision": args.precision}
    trainers = {m: Trainer(resolve({**settings, "method": m}), data, device) for m in ("plain", "backmix")}
    trainers["backmix, raw CAM"] = Trainer(resolve({**settings, "method": "backmix", "cam_from": "raw"}), data, device)
    plain, mix = trainers["plain"], trainers["backmix"].mix

    def ids() -> torch.Tensor:
        return torch.randperm(len(plain.pool), device=device)[: args.batch]

    def mix_and_augment() -> None:
        mix.batch(ids())

    for _ in range(10):
        mix_and_augment()
    alone = statistics.median(seconds(mix_and_augment, device) for _ in range(200))
    print(f"{args.backbone}, batch {args.batch}, 32 px, {device}, {args.threads} threads, {args.precision}")
    print(f"mix and augment alone     {args.batch / alone:>10,.0f} images/s")

    for trainer in trainers.values():
        for _ in range(3):
            trainer.step(ids())
    times: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(args.steps):
        for name, trainer in trainers.items():
            times[name].append(seconds(partial(trainer.step, ids()), device))
    base = statistics.median(times["plain"])
    for name, values in times.items():
        median = statistics.median(values)
        ratios = [a / b for a, b in zip(values, times["plain"], strict=True)]
        print(
            f"step of {name:<17} {args.batch / median:>10,.0f} images/s   {median / base:.3f} x plain "
            f"(median of paired steps {statistics.median(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
