"""The one room of Optuna: the space of a search file and the sampler that proposes from it."""

from __future__ import annotations

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from platform.spec import Choice, FloatRange, IntRange, Spec


def space(spec: Spec) -> dict[str, BaseDistribution]:
    """Optuna's distribution for each searched setting."""
    return {name: _distribution(dimension) for name, dimension in spec.search.items()}


def _distribution(dimension: FloatRange | IntRange | Choice) -> BaseDistribution:
    match dimension:
        case FloatRange(bounds=[low, high], log=log):
            return FloatDistribution(low, high, log=log)
        case IntRange(bounds=[low, high]):
            return IntDistribution(low, high)
        case Choice(choices=choices):
            return CategoricalDistribution(choices)
    raise TypeError(dimension)


def sampler(spec: Spec) -> optuna.samplers.BaseSampler:
    """TPE or random, seeded. With several trials at a time their order of finishing shapes TPE's proposals,
    so a second search need not propose the same settings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if spec.optuna.sampler == "random":
        return optuna.samplers.RandomSampler(seed=spec.optuna.seed)
    # The default of 10 random first trials would leave a short search no search at all.
    startup = min(10, max(3, spec.trials // 3))
    return optuna.samplers.TPESampler(seed=spec.optuna.seed, n_startup_trials=startup, multivariate=True)
