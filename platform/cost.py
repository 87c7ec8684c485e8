"""How long a plan will take, from a few steps of each kind of its trials, timed on this machine."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from platform.plan import Plan, confirm_trials
from trainables.config import TrialConfig
from trainables.data.trial_data import TrialData
from trainables.evaluation import score_samples
from trainables.teacher import untrained_weights
from trainables.training import Trainer
from trainables.trial import pick_device

STARTUP_SECONDS = 20.0  # Ray's start and the workers' imports, measured on two cores
STEPS = 6  # timed ones: a coin decides what a mixing step costs


@dataclass(frozen=True)
class Cost:
    """Seconds on one worker: of a training step, and of evaluating one image."""

    step: float
    image: float


def measure(config: TrialConfig, data: TrialData, cpus: int, gpu: bool) -> Cost:
    """Time a few steps of this very trial on this machine. About two seconds, more for a large network."""
    device = pick_device("auto" if gpu else "cpu")
    torch.set_num_threads(cpus)
    few = replace(data.train, rows=data.train.rows[:200], labels=data.train.labels[:200])
    # A copy's images on a GPU go with it: the memory is the trials'.
    data = replace(data, train=replace(data.train), outliers=replace(data.outliers) if data.outliers else None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, data, device, untrained_weights(config, data, Path(folder)))
    started = time.perf_counter()
    score_samples(trainer.model, "val", {"known": few}, device, config.precision)
    image = (time.perf_counter() - started) / len(few)
    order = torch.arange(trainer.batch_size, device=device)

    def step() -> float:
        started = time.perf_counter()
        trainer.step(order).item()
        return time.perf_counter() - started

    first = step()  # pays for the allocator's and the kernels' warm-up
    steps = [first] if first > 3 else [step() for _ in range(STEPS)]
    if device.type == "cuda":
        del trainer
        torch.cuda.empty_cache()
    return Cost(sum(steps) / len(steps), image)


def seconds_of_trial(config: TrialConfig, data: TrialData, cost: Cost) -> float:
    steps = max(len(data.train) // config.batch_size, 1)
    validated, tested = (sum(map(len, part.values())) for part in (data.validation, data.test))
    return config.epochs * (steps * cost.step + validated * cost.image) + tested * cost.image


def estimate(plan: Plan, cpus: int, gpu: bool, at_once: int) -> float:
    """Seconds for the whole sweep with `at_once` trials running together, if none is stopped early and no teacher is
    there yet. Each method is timed once with each backbone."""
    trials = [plan.search] * plan.spec.trials
    top = min(plan.spec.confirm.top, plan.spec.trials) if plan.spec.confirm else 0
    planned = [*confirm_trials(plan.spec, [{}] * top), *plan.teachers]
    trials += [TrialConfig.from_settings(p.settings) for p in planned]
    costs: dict[tuple[str, str], Cost] = {}
    seconds = 0.0
    for config in trials:
        data = plan.search_data if config.pseudo_unknown or not plan.final_data else plan.final_data
        key = (config.method, config.backbone)
        if key not in costs:
            costs[key] = measure(config, data, cpus, gpu)
        seconds += seconds_of_trial(config, data, costs[key])
    return STARTUP_SECONDS + seconds / at_once
