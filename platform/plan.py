"""From a checked file to the trials that it means, and to what they will cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from platform.spec import Spec
from platform.trials import Planned
from trainables.config import TrialConfig
from trainables.data.sets import Progress
from trainables.data.trial_data import TrialData, build

STARTUP_SECONDS = 20.0  # Ray's start and the workers' imports, measured on two cores


@dataclass(frozen=True)
class Plan:
    """A profile of a search file, resolved against the images that are there."""

    spec: Spec
    profile: str
    changed: tuple[str, ...]  # what `--set` changed of it
    search: TrialConfig
    search_data: TrialData
    final: TrialConfig | None  # what `confirm` trains, before the best settings are known
    final_data: TrialData | None

    @property
    def fingerprint(self) -> str:
        return self.search_data.fingerprint

    @property
    def confirmed_rows(self) -> int:
        confirm = self.spec.confirm
        return min(confirm.top, self.spec.trials) + len(confirm.baselines) if confirm else 0

    @property
    def confirm_trials(self) -> int:
        confirm = self.spec.confirm
        return self.confirmed_rows * len(confirm.splits) * len(confirm.seeds) if confirm else 0


def make_plan(
    spec: Spec,
    profile: str,
    data_root: Path,
    *,
    changed: Sequence[str] = (),
    download: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Resolve and open the images, test sets included, so that what is missing shows before Ray starts.

    Raises `DataError` where images are missing or broken.
    """

    def load(config: TrialConfig) -> TrialData:
        return build(config, data_root, download=download, progress=progress)

    search = TrialConfig.from_settings(spec.search_settings())
    final = TrialConfig.from_settings({**spec.base, "split": spec.confirm.splits[0]}) if spec.confirm else None
    return Plan(spec, profile, tuple(changed), search, load(search), final, load(final) if final else None)


def search_trial(spec: Spec) -> Planned:
    """The trial that Optuna's proposals are laid over."""
    return Planned("search", spec.name, spec.search_settings())


def confirm_trials(spec: Spec, best: Sequence[Mapping[str, Any]]) -> Iterator[Planned]:
    """Every confirmation: the best settings, then the baselines, × splits × seeds."""
    if spec.confirm is None:
        return
    names = ["best"] if len(best) == 1 else [f"best {i}" for i in range(1, len(best) + 1)]
    rows = [*zip(names, best, strict=True), *((row.name, row.set) for row in spec.confirm.baselines)]
    for name, changes in rows:
        for split in spec.confirm.splits:
            for seed in spec.confirm.seeds:
                yield Planned("confirm", name, {**spec.base, **changes, "split": split, "seed": seed})


@dataclass(frozen=True)
class Cost:
    """Seconds on one worker: of a training step, and of evaluating one image."""

    step: float
    image: float


def measure(config: TrialConfig, data: TrialData, cpus: int, gpu: bool) -> Cost:
    """Time a few steps of this very trial on this machine. About two seconds, more for a large network."""
    import torch

    from trainables.evaluation import score_samples
    from trainables.training import Trainer
    from trainables.trial import pick_device

    device = pick_device("auto" if gpu else "cpu")
    torch.set_num_threads(cpus)
    trainer = Trainer(config, data, device)
    order = torch.arange(trainer.batch_size, device=device)

    def step() -> float:
        started = time.perf_counter()
        trainer.step(order).item()
        return time.perf_counter() - started

    first = step()  # pays for the allocator's and the kernels' warm-up
    steps = [first] if first > 3 else [step() for _ in range(5)]
    few = replace(data.train, rows=data.train.rows[:200], labels=data.train.labels[:200])
    started = time.perf_counter()
    score_samples(trainer.model, "val", {"known": few}, device, config.precision)
    return Cost(sorted(steps)[len(steps) // 2], (time.perf_counter() - started) / len(few))


def seconds_of_trial(config: TrialConfig, data: TrialData, cost: Cost) -> float:
    steps = max(len(data.train) // config.batch_size, 1)
    validated, tested = (sum(map(len, part.values())) for part in (data.validation, data.test))
    return config.epochs * (steps * cost.step + validated * cost.image) + tested * cost.image


def estimate(plan: Plan, cost: Cost, at_once: int) -> float:
    """Seconds for the whole sweep with `at_once` trials running together, if none is stopped early."""
    rounds = -(-plan.spec.trials // at_once)
    total = STARTUP_SECONDS + rounds * seconds_of_trial(plan.search, plan.search_data, cost)
    if plan.final and plan.final_data:
        rounds = -(-plan.confirm_trials // at_once)
        total += rounds * seconds_of_trial(plan.final, plan.final_data, cost)
    return total
