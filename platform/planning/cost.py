"""What a plan will take: from the speed of past runs of the same kind, else from a few steps timed on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import torch

from platform.planning.plan import Plan
from platform.planning.work import Cost, Estimate, Kind, Work
from platform.tracking.index import FinishedTrial
from trainables.data.trial_data import Samples, TrialData
from trainables.device import pick_device
from trainables.models.output import Network
from trainables.objectives import network_of
from trainables.reading.yaml_file import ConfigError, Problem
from trainables.scoring.evaluation import score_samples
from trainables.settings.config import TrialConfig
from trainables.settings.custom import is_custom, reason, users_line
from trainables.training.loop import Trainer
from trainables.training.teacher import untrained_weights

STARTUP_SECONDS = 20.0  # Ray's start and the workers' imports, measured on two cores
PATIENCE = 30.0  # seconds of timing after which the kinds that are left are taken to be like others
STEPS = 6  # timed ones, of all passes in turn: a coin decides what a mixing step costs
FORWARD = 1 / 3  # of a training step's cost that an evaluated image takes

# The settings that make trials equally fast an image, together their `Kind`.
_KIND = ("objective", "mix", "backbone", "protocol", "precision", "image_size", "batch_size")


def estimate(plan: Plan, todo: Work, past: Iterable[FinishedTrial], at_once: int, *, here: bool) -> Estimate | str:
    """A sentence instead where no such trial has run before, and it cannot be timed: `here` is False (another machine's
    speed is not this one's), or there is no memory for it.

    Raises `ConfigError` where the method is one's own and its step fails, with file and line: its trials would, too.
    """
    speeds = _speeds(past, {kind_of(config) for config, _ in todo.train})
    seconds = device_seconds = 0.0
    timed = guessed = 0
    disk = 0
    begun = time.monotonic()
    costs: dict[Kind, Cost] = {}
    for config, needs in todo.train:
        kind, data = kind_of(config), plan.images.of(config)
        if kind not in costs:
            if kind in speeds:
                costs[kind] = Cost(1 / speeds[kind], FORWARD / speeds[kind])
            elif timed and time.monotonic() - begun > PATIENCE:
                guessed += 1
                costs[kind] = _alike(kind, costs)
            elif here:
                timed += 1
                try:
                    costs[kind] = measure(config, data, needs.cpus_per_worker, needs.gpus > 0)
                except Exception as error:  # a mix or an objective of one's own may raise anything
                    return _not_timed(config, error)
            else:
                return "no such trial has run on this cluster: known after the first"
        took = seconds_of_trial(config, data, costs[kind])
        seconds += took
        device_seconds += took * needs.workers * (needs.gpus or needs.cpus_per_worker)
        disk += _bytes(config, data)
    source = "a few training steps, timed here" if timed else "the speed of earlier runs"
    if guessed:
        source += f" for {len(costs) - guessed} of {len(costs)} kinds of trials"
    return Estimate(STARTUP_SECONDS + seconds / max(at_once, 1), device_seconds / 3600, disk, source, costs)


def seconds_of(
    plan: Plan, guess: Estimate | str, past: Iterable[FinishedTrial]
) -> Callable[[TrialConfig], float | None]:
    """How long a trial takes on its worker, by the estimate or by the speed of past ones; None where neither knows."""
    known: dict[Kind, Cost | None] = dict(guess.costs) if isinstance(guess, Estimate) else {}

    def seconds(config: TrialConfig) -> float | None:
        kind = kind_of(config)
        if kind not in known:
            speed = _speeds(past, {kind}).get(kind)
            known[kind] = Cost(1 / speed, FORWARD / speed) if speed else None
        cost = known[kind]
        return None if cost is None else seconds_of_trial(config, plan.images.of(config), cost)

    return seconds


def _not_timed(config: TrialConfig, error: Exception) -> str:
    """Why a trial could not be timed, or `ConfigError` where that is its own mistake."""
    passing = isinstance(error, MemoryError | torch.OutOfMemoryError | OSError)
    own = [part for part in (config.objective, config.mix, config.backbone) if is_custom(part)]
    if own and not passing and (place := users_line(error)):
        said = f"{place}: {' with '.join(own)} fails in its first step: {reason(error)}"
        raise ConfigError([Problem((), said)]) from error
    return f"could not be timed here ({config.method}, {config.backbone}): {reason(error)}"


def kind_of(config: TrialConfig) -> Kind:
    less = () if config.train == "all" else (config.train,)
    return (*(str(getattr(config, name)) for name in _KIND), *less)


def _speeds(past: Iterable[FinishedTrial], wanted: set[Kind]) -> dict[Kind, float]:
    """Median images a second of finished trials of each wanted kind."""
    found: dict[Kind, list[float]] = {}
    for finished in past if wanted else ():
        kind = tuple(finished.params.get(name, "None") for name in _KIND)
        if kind in wanted and (speed := finished.metrics.get("train/images_per_second")):
            found.setdefault(kind, []).append(speed)
    return {kind: median(values) for kind, values in found.items()}


def measure(config: TrialConfig, data: TrialData, cpus: int, gpu: bool) -> Cost:
    """Time a few steps of this very trial on this machine. About two seconds, more for a large network."""
    device = pick_device("auto" if gpu else "cpu")
    torch.set_num_threads(cpus)
    if config.train == "none":
        few = replace(data.test["known"], rows=data.test["known"].rows[:200], labels=data.test["known"].labels[:200])
        return Cost(0, _of_evaluation(network_of(config, len(data.classes), data.image_size).to(device), few, config))
    few = replace(data.train, rows=data.train.rows[:200], labels=data.train.labels[:200])
    # A copy's images on a GPU go with it: the memory is the trials'.
    data = replace(data, train=replace(data.train), outliers=replace(data.outliers) if data.outliers else None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, data, device, untrained_weights(config, data, Path(folder)))

    order = torch.arange(trainer.batch_size, device=device)
    passes = config.objective_settings.passes

    def step(number: int) -> float:
        trainer.objective.pass_number = number % passes
        started = time.perf_counter()
        trainer.step(order).item()
        return time.perf_counter() - started

    if device.type == "cuda":  # loads kernels and tries algorithms, for each side of a coin: seconds, once a trial
        for number in range(STEPS):
            step(number)
        _of_evaluation(trainer.model, few, config)
    image = _of_evaluation(trainer.model, few, config)
    first = step(0)
    steps = [first] if first > 3 else [step(number) for number in range(STEPS)]
    size = trainer.batch_size
    if device.type == "cuda":
        del trainer
        torch.cuda.empty_cache()
    return Cost(sum(steps) / len(steps) / size, image)


def _of_evaluation(model: Network, few: Samples, config: TrialConfig) -> float:
    """Seconds that an image takes."""
    started = time.perf_counter()
    score_samples(model, "val", {"known": few}, next(model.parameters()).device, config.precision)
    return (time.perf_counter() - started) / len(few)


def _alike(kind: Kind, costs: Mapping[Kind, Cost]) -> Cost:
    """The mean of the known costs of the same network, or of all where it has none."""
    same = [cost for other, cost in costs.items() if other[2] == kind[2]] or list(costs.values())
    return Cost(fmean(cost.trained for cost in same), fmean(cost.evaluated for cost in same))


def seconds_of_trial(config: TrialConfig, data: TrialData, cost: Cost) -> float:
    validated, tested = (sum(map(len, part.values())) for part in (data.validation, data.test))
    epochs = config.epochs if config.train != "none" else 0
    trained = epochs * config.objective_settings.passes * len(data.train) * cost.trained
    return trained + (epochs * validated + tested) * cost.evaluated


def _bytes(config: TrialConfig, data: TrialData) -> int:
    """Of the files of a finished trial: weights, and a line for each sample."""
    samples = sum(len(s) for part in (data.validation, data.test) for s in part.values())
    kind = (config.objective, config.backbone, len(data.classes), data.image_size)
    if kind not in _WEIGHTS:
        with torch.device("meta"):
            state = network_of(config, *kind[2:]).state_dict()
        _WEIGHTS[kind] = sum(t.numel() * t.element_size() for t in state.values())
    return _WEIGHTS[kind] + samples * (60 + 4 * len(data.classes))


_WEIGHTS: dict[tuple[str, str, int, int], int] = {}  # bytes, by objective, backbone, classes and image size
