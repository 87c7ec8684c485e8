"""What each method's training step costs beside Plain's, and beside the passes that its definition needs.

    uv run python benchmarks/learner_costs.py --backbone wrn16-2 --threads 2

Passes are measured in the same run: training at the batch sizes that methods use (forward, loss, backward), forward
passes of student and teacher, the optimiser's step. A method's arithmetic is their sum over that of Plain; the ratio
of measured to arithmetic is what mixing, masks, banks and losses add (Plain itself augments, so its ratio is 1).
Methods that toss a coin have a line for mixed and one for raw steps, ARPL+CS one for each pass of an epoch. Images
are random bytes: what they show does not change what a step costs. Prompts are of a model of images and texts of
their own (`--prompted`), with towers that nobody trained; their passes are through it, to its images and to each
class's text. All runs take turns, so that a machine that slows down slows all; figures are medians of paired rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.device import pick_device
from trainables.models.confusing import LATENT, Discriminator, Generator
from trainables.models.prompts import Prompted
from trainables.protocols.protocols import UNKNOWN
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer
from trainables.training.teacher import untrained_weights

CLASSES = 6


@dataclass(frozen=True)
class Step:
    """One kind of step: its settings, and how often it needs each pass beside the optimiser's step."""

    settings: dict[str, object]
    passes: dict[str, int] = field(default_factory=lambda: {"train B": 1})
    pass_number: int = 0  # over the images in an epoch


def rows(teacher: str, prompted: str) -> dict[str, Step]:
    """Every method, as its definition counts passes. B is the batch of known images."""
    towers: dict[str, object] = {"backbone": prompted, "weights": "random", "warmup_epochs": 0}
    distill = {"method": "distill", "teacher": {"backbone": teacher}}
    asymmetric = {"method": "asymmetric", "teacher": {"backbone": teacher}}
    mixed, raw = {"mix_probability": 1.0}, {"mix_probability": 0.0}
    student_and_teacher = {"train B": 1, "teacher B": 1}
    both_views = {"train B": 1, "teacher B": 2}
    return {
        "plain": Step({"method": "plain"}),
        "cutout": Step({"method": "cutout"}),
        "mixup, mixed": Step({"method": "mixup", **mixed}),
        "mixup, raw": Step({"method": "mixup", **raw}),
        "cutmix, mixed": Step({"method": "cutmix", **mixed}),
        "cutmix, raw": Step({"method": "cutmix", **raw}),
        "decoupled-cutmix, mixed": Step({"method": "decoupled-cutmix", **mixed}),
        "decoupled-cutmix, raw": Step({"method": "decoupled-cutmix", **raw}),
        "backmix": Step({"method": "backmix"}),
        "backmix, raw CAM": Step({"method": "backmix", "cam_from": "raw"}, {"train B": 1, "student B": 1}),
        "distill, mixed": Step({**distill, "mix": "cutmix", **mixed}, student_and_teacher),
        "distill, raw": Step({**distill, **raw}, student_and_teacher),
        "asymmetric, mixed": Step({**asymmetric, **mixed}, both_views),
        "asymmetric, mixed, features": Step({**asymmetric, **mixed, "cmi_on": "features"}, both_views),
        "asymmetric, raw": Step({**asymmetric, **raw}, student_and_teacher),
        "cmpkd": Step({"method": "cmpkd", "teacher": {"backbone": teacher}}, {"train B": 2, "teacher B": 3}),
        "proser": Step({"method": "proser"}, {"train B/2": 2}),
        "openmix": Step({"method": "openmix"}, {"train 9B": 1}),
        "teacher-free": Step({"method": "teacher-free"}, {"train 3B": 1}),
        "oe": Step({"method": "oe"}, {"train 3B": 1}),
        "catimg": Step({"method": "catimg"}, {"train B, tall": 1}),
        "ftavg": Step({"method": "ftavg"}, {"train 2B": 1}),
        "cssr": Step({"method": "cssr"}, {"train B, cssr": 1}),
        "cssr, backmix": Step({"method": "cssr", "mix": "backmix"}, {"train B, cssr": 1}),
        "rcssr": Step({"method": "rcssr"}, {"train B, rcssr": 1}),
        "gcpl": Step({"method": "gcpl"}),
        "rpl": Step({"method": "rpl"}),
        "arpl": Step({"method": "arpl"}),
        "arpl, backmix": Step({"method": "arpl", "mix": "backmix"}),
        "arpl, backmix, Grad-CAM": Step({"method": "arpl", "mix": "backmix", "cam": "gradient"}),
        "arpl-cs, first pass": Step({"method": "arpl-cs"}, {"train B": 2, "to images B": 1, "adversaries": 1}),
        "arpl-cs, second pass": Step({"method": "arpl-cs"}, pass_number=1),
        "coop": Step({"method": "coop", **towers}, {"tower B": 1, "texts": 1}),
        "coop, backmix": Step({"method": "coop", "mix": "backmix", **towers}, {"tower 2B, back": 1, "texts": 1}),
        "locoop": Step({"method": "locoop", **towers}, {"tower B": 1, "texts": 1}),
        "a2pt": Step({"method": "a2pt", **towers}, {"tower B": 1, "texts": 1, "decoder": 1}),
        "vpt": Step({"method": "vpt", **towers}, {"tower B, back": 1}),
        "vpt, backmix": Step({"method": "vpt", "mix": "backmix", **towers}, {"tower 2B, back twice": 1}),
    }


def random_bytes(seed: int, images: int, size: int, labelled: bool) -> Samples:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, images) if labelled else np.full(images, UNKNOWN)
    numbers = np.arange(images)
    return Samples(ImageSet("random", pixels, labels, numbers, "random", 0, "random bytes"), numbers, labels)


def step_of(trainer: Trainer, batch: int, pass_number: int) -> Callable[[], object]:
    """A whole training step on a batch of random images."""
    trainer.objective.pass_number = pass_number

    def run() -> object:
        return trainer.step(torch.randperm(len(trainer.pool), device=trainer.device)[:batch])

    return run


def noise(trainer: Trainer, count: int, height: int, width: int) -> torch.Tensor:
    """Images that are on the device already."""
    return torch.randn((count, 3, height, width), device=trainer.device).to(memory_format=torch.channels_last)


def training_pass(trainer: Trainer, x: torch.Tensor, precision: str) -> Callable[[], object]:
    """Forward, loss and backward of the trainer's network, its head included."""
    device = trainer.device
    labels = torch.zeros(len(x), dtype=torch.long, device=device)

    def run() -> None:
        trainer.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(trainer.model(x).logits_BK, labels)
        loss.backward()

    return run


def gradient_of_images(trainer: Trainer, x: torch.Tensor, precision: str) -> Callable[[], object]:
    """Forward, and backward to the images: no gradient of a weight."""
    x = x.requires_grad_()

    def run() -> None:
        with torch.autocast(trainer.device.type, torch.bfloat16, enabled=precision == "bf16"):
            value = trainer.model(x).logits_BK.sum()
        torch.autograd.grad(value, x)

    return run


def adversaries(trainer: Trainer, x: torch.Tensor, precision: str) -> Callable[[], object]:
    """A step of ARPL+CS's discriminator and one of its generator against it, and a batch that is generated anew."""
    G, D = Generator(64, x.shape[-1]), Discriminator(64)
    for net in (G, D):
        net.to(trainer.device).to(memory_format=torch.channels_last)
    of_G, of_D = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (G, D))
    z = torch.randn(len(x), LATENT, 1, 1, device=trainer.device)

    def descend(loss: torch.Tensor, net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for p, gradient in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            p.grad = gradient
        optimizer.step()

    def run() -> None:
        with torch.autocast(trainer.device.type, torch.bfloat16, enabled=precision == "bf16"):
            generated = G(z)
            descend(D(x).float().mean() - D(generated.detach()).float().mean(), D, of_D)
            descend(D(generated).float().mean(), G, of_G)
            with torch.no_grad():
                G(z)

    return run


def prompted_passes(trainer: Trainer, batch: int, size: int, precision: str) -> dict[str, Callable[[], object]]:
    """Passes of CoOp's network as open_clip has them: images through its tower, and back to its first block once, or
    twice (for foregrounds and for what is learnt); prompts through the other, and back."""
    network, device = trainer.model, trainer.device
    assert isinstance(network, Prompted)

    def through_tower(count: int, back: int = 0) -> Callable[[], object]:
        x = noise(trainer, count, size, size).requires_grad_(back > 0)

        def run() -> None:
            autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
            with torch.set_grad_enabled(back > 0), autocast:
                value = network.towers.encode_image(network.enlarged(x)).float().sum()
            for turn in range(back):
                torch.autograd.grad(value, x, retain_graph=turn < back - 1)

        return run

    def texts() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            value = network.texts().sum()
        torch.autograd.grad(value, network.head.context)

    # A2Pt's decoder, torch's own attention in it.
    width, classes = network.num_features, network.num_classes
    layers = [torch.nn.MultiheadAttention(width, 8, dropout=0.1, batch_first=True).to(device) for _ in range(2)]
    places = torch.randn(batch, classes, width, device=device, requires_grad=True)

    def decoder() -> None:
        first, _ = layers[0](places, places, places, need_weights=False)
        value, _ = layers[1](first[:, :1], places, first, need_weights=False)
        torch.autograd.grad(value.sum(), [places, *layers[0].parameters(), *layers[1].parameters()])

    return {
        "decoder": decoder,
        "tower B": through_tower(batch),
        "tower B, back": through_tower(batch, 1),
        "tower 2B, back": through_tower(2 * batch, 1),
        "tower 2B, back twice": through_tower(2 * batch, 2),
        "texts": texts,
    }


def passes(trainer: Trainer, batch: int, size: int, precision: str) -> dict[str, Callable[[], object]]:
    """Each pass by itself, on noise."""
    device, teacher = trainer.device, trainer.objective.given.teacher
    assert teacher is not None

    def train(count: int, height: int = size) -> Callable[[], object]:
        return training_pass(trainer, noise(trainer, count, height, size), precision)

    def forward(model: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
        def run() -> None:
            model.eval()
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                model(x)

        return run

    def train_mode(run: Callable[[], object]) -> Callable[[], object]:
        def after() -> None:
            run()
            trainer.model.train()

        return after

    one = noise(trainer, batch, size, size)
    return {
        "train B": train(batch),
        "train B/2": train(batch // 2),
        "train 2B": train(2 * batch),
        "train 3B": train(3 * batch),
        "train 9B": train(9 * batch),
        "train B, tall": train(batch, 2 * size),
        "optimiser": trainer.optimizer.step,
        "student B": train_mode(forward(trainer.model, one)),
        "teacher B": forward(teacher, one),
    }


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call; on a GPU by its own events."""
    if device.type == "cuda":
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1000
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def in_turn(runs: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each run in each round, after two that warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 2):
        for name, run in runs.items():
            taken = seconds(run, device)
            if turn >= 2:
                times[name].append(taken)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="wrn16-2")
    parser.add_argument("--teacher", help="its backbone (default: the student's)")
    parser.add_argument("--prompted", default="open_clip:tiny", help="the model of images and texts that is prompted")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each kind")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--only", nargs="*", default=[], help="methods to measure beside plain (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    settings = {"protocol": "cifar10", "split_family": "osrci", "backbone": args.backbone, "test": False}
    settings |= {"batch_size": args.batch, "precision": args.precision}

    known, outliers = (random_bytes(seed, 5000, args.size, labelled=seed == 0) for seed in range(2))
    data = TrialData(tuple(range(CLASSES)), args.size, True, known, outliers=outliers)

    def trainer(of_row: dict[str, object]) -> Trainer:
        config = resolve({**settings, **of_row})
        with tempfile.TemporaryDirectory() as folder:
            return Trainer(config, data, device, untrained_weights(config, data, Path(folder)))

    chosen = {
        name: row
        for name, row in rows(args.teacher or args.backbone, args.prompted).items()
        if name == "plain" or not args.only or row.settings["method"] in args.only
    }
    runs = {name: step_of(trainer(row.settings), args.batch, row.pass_number) for name, row in chosen.items()}
    teacher = {"backbone": args.teacher or args.backbone}
    units = passes(trainer({"method": "distill", "teacher": teacher}), args.batch, args.size, args.precision)
    for method in dict.fromkeys(str(row.settings["method"]) for row in chosen.values()):
        if method == "arpl-cs":
            images = noise(headed := trainer({"method": method}), args.batch, args.size, args.size)
            units["to images B"] = gradient_of_images(headed, images.clone(), args.precision)
            units["adversaries"] = adversaries(headed, images, args.precision)
        if any(f"train B, {method}" in row.passes for row in chosen.values()):
            headed = trainer({"method": method})
            images = noise(headed, args.batch, args.size, args.size)
            units[f"train B, {method}"] = training_pass(headed, images, args.precision)
    if coop := next((row for name, row in chosen.items() if row.settings.get("weights")), None):
        of_coop = trainer({**coop.settings, "method": "coop", "mix": "none"})
        units |= prompted_passes(of_coop, args.batch, args.size, args.precision)
    needed = {"train B", "optimiser", *(unit for row in chosen.values() for unit in row.passes)}
    units = {name: run for name, run in units.items() if name in needed}
    times = in_turn(runs | units, args.rounds, device)

    print(f"{args.backbone}, batch {args.batch}, {args.size} px, {device}, {args.threads} threads, {args.precision}")
    print(f"\n{'pass':<30}{'ms':>9}{'/ train B':>11}")
    for name in units:
        of_train = statistics.median(a / b for a, b in zip(times[name], times["train B"], strict=True))
        print(f"{name:<30}{1000 * statistics.median(times[name]):>9.1f}{of_train:>11.3f}")
    print(f"\n{'step':<30}{'ms':>9}{'images/s':>10}{'/ plain':>11}{'arithmetic':>12}{'measured / arithmetic':>23}")
    for name, row in chosen.items():
        measured, expected = [], []
        for turn in range(args.rounds):
            measured.append(times[name][turn] / times["plain"][turn])
            # Passes of Plain's step by its own definition; what else Plain does, every method does.
            own = sum(count * times[unit][turn] for unit, count in row.passes.items())
            plain, update = times["train B"][turn], times["optimiser"][turn]
            expected.append((own + update) / (plain + update))
        ratio = statistics.median(measured) / statistics.median(expected)
        print(
            f"{name:<30}{1000 * statistics.median(times[name]):>9.1f}"
            f"{args.batch / statistics.median(times[name]):>10.0f}{statistics.median(measured):>11.3f}"
            f"{statistics.median(expected):>12.3f}{ratio:>23.3f}"
        )


if __name__ == "__main__":
    main()
