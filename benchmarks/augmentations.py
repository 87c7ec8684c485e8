"""Images/s of the batched augmentations, beside torchvision's v2 on each image alone and once for all of a batch.

    uv run python benchmarks/augmentations.py --device cpu --threads 1

Images are smooth random pictures of 32 px. The variants take turns, so that a machine that slows down slows all, and
each figure is a median. Once for all of a batch is not the same augmentation: all its images get the same operations.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from trainables.data.augmentations import augmix, rand_augment, randomized_quantization
from trainables.device import pick_device

Variant = Callable[[], object]


def seconds(run: Variant, device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20, help="timed runs of each variant")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = pick_device(args.device)
    generator, host = torch.Generator(device).manual_seed(0), torch.Generator().manual_seed(0)
    pictures = F.interpolate(torch.rand(args.batch, 3, 8, 8) * 255, (32, 32), mode="bicubic").clamp(0, 255)
    first = pictures.to(device, torch.uint8).contiguous()
    last = first.permute(0, 2, 3, 1).contiguous()
    official_rand_augment, official_augmix = v2.RandAugment(2, 9), v2.AugMix(all_ops=False)
    variants: dict[str, dict[str, Variant]] = {
        "RandAugment, 2 operations at 9": {
            "ours": lambda: rand_augment(last, 2, 9, generator, host),
            "torchvision, each image": lambda: torch.stack([official_rand_augment(image) for image in first]),
            "torchvision, whole batch": lambda: official_rand_augment(first),
        },
        "AugMix, severity 3": {
            "ours": lambda: augmix(last, generator, host),
            "torchvision, each image": lambda: torch.stack([official_augmix(image) for image in first]),
            "torchvision, whole batch": lambda: official_augmix(first),
        },
        "Randomized quantization, 8 regions": {
            "ours": lambda: randomized_quantization(last, 8, generator),
        },
    }
    print(f"batch {args.batch}, 32 px, {device}, {args.threads} threads")
    for title, runs in variants.items():
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(args.rounds + 2):
            for name, run in runs.items():
                taken = seconds(run, device)
                if turn >= 2:  # the first ones warm up
                    times[name].append(taken)
        print(title)
        ours = statistics.median(times["ours"])
        for name, values in times.items():
            median = statistics.median(values)
            print(f"  {name:<26}{args.batch / median:>10,.0f} images/s   ours is {median / ours:.2f} x as fast")


if __name__ == "__main__":
    main()
