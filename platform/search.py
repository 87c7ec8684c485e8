"""The one room of Optuna: proposals, early stopping, and a study that outlives the process."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from platform.dimensions import Choice, FloatRange, IntRange
from platform.names import plain
from platform.spec import Spec
from trainables.yaml_file import ConfigError, Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Proposal:
    """Settings that Optuna proposed, and their number in the study."""

    number: int
    settings: dict[str, Any]


class Study:
    """The search of one file. What it knows is in Optuna's storage: a process that comes later goes on with it.

    `context` is what trials of this search must share to be comparable (the images, the settings that are fixed):
    another context is another study.
    """

    def __init__(self, spec: Spec, context: str, folder: Path, *, fresh: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spec = spec
        storage, name = _open(spec, folder), _name(spec, context)
        if fresh and name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            directions=["maximize" if o.mode == "max" else "minimize" for o in spec.objectives],
            pruner=_pruner(spec),
        )
        # With the same seed, a study that goes on would be proposed its first points again.
        self._study.sampler = _sampler(spec, spec.optuna.seed + len(self._trials()))
        self._asked = {t.number: t._trial_id for t in self._trials(TrialState.RUNNING)}
        self.left = spec.trials - len(self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def unfinished(self) -> list[Proposal]:
        """What an earlier process proposed and did not see the end of, completed where it was killed in between."""
        return [self._suggested(optuna.Trial(self._study, t._trial_id)) for t in self._trials(TrialState.RUNNING)]

    def ask(self) -> Proposal | None:
        """The next proposal, None once as many were made as the file wants."""
        if self.left <= 0:
            return None
        self.left -= 1
        trial = self._study.ask()
        self._asked[trial.number] = trial._trial_id
        return self._suggested(trial)

    def _suggested(self, trial: optuna.Trial) -> Proposal:
        """With a value for each setting that applies: what it has already, else the sampler's."""
        for name in self.spec.search_order():
            if self.spec.applies(name, trial.params):
                _suggest(trial, name, self.spec.search[name])
        return Proposal(trial.number, dict(trial.params))

    def stops(self, number: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Record an epoch's objective; whether the scheduler of the file stops the trial here."""
        if self.spec.scheduler is None or number not in self._asked:
            return False
        trial = optuna.Trial(self._study, self._asked[number])
        trial.report(metrics[self.spec.objectives[0].metric], epoch)
        return trial.should_prune()

    def tell(self, number: int, status: str, metrics: Mapping[str, float]) -> None:
        """A proposal's end: `finished`, `stopped` by the scheduler, or `failed`."""
        if self._asked.pop(number, None) is None:
            return
        state = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}.get(status, TrialState.FAIL)
        told = [metrics[o.metric] for o in self.spec.objectives] if state is TrialState.COMPLETE else None
        self._study.tell(number, told, state, skip_if_finished=True)  # another sweep may have told it

    def best(self, top: int) -> list[Proposal]:
        """The `top` finished proposals; with several objectives those of the Pareto front, by the first of them."""
        first = self.spec.objectives[0]
        finished = self._trials(TrialState.COMPLETE) if len(self.spec.objectives) == 1 else self._study.best_trials
        sign = -1 if first.mode == "max" else 1
        ordered = sorted(finished, key=lambda t: sign * t.values[0])
        distinct = {json.dumps(t.params, sort_keys=True): t for t in reversed(ordered)}
        chosen = {id(t) for t in distinct.values()}
        return [Proposal(t.number, dict(t.params)) for t in ordered if id(t) in chosen][:top]

    def history(self) -> Iterator[tuple[Proposal, str, dict[str, float]]]:
        """Every proposal with how it ended and its objectives, in order."""
        names = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
        for t in self._trials():
            values = t.values or ([t.value] if len(self.spec.objectives) == 1 and t.value is not None else [])
            metrics = {o.metric: v for o, v in zip(self.spec.objectives, values, strict=False)}
            yield Proposal(t.number, dict(t.params)), names.get(t.state, "running"), metrics


def proposed(spec: Spec, context: str, folder: Path) -> int:
    """How many trials of a search are behind it, in a study that some process began; nothing is created."""
    if not spec.optuna.storage and not _journal(spec, folder).is_file():
        return 0
    storage, name = _open(spec, folder), _name(spec, context)
    if name not in optuna.get_all_study_names(storage):
        return 0
    study = optuna.load_study(study_name=name, storage=storage)
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _name(spec: Spec, context: str) -> str:
    space = {name: [str(_distribution(d)), d.when] for name, d in spec.search.items()}
    content = json.dumps([context, space, [[o.metric, o.mode] for o in spec.objectives]], sort_keys=True)
    return f"{spec.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _journal(spec: Spec, folder: Path) -> Path:
    return folder / f"{plain(spec.name)}.log"


def _suggest(trial: optuna.Trial, name: str, dimension: FloatRange | IntRange | Choice) -> None:
    match dimension:
        case FloatRange(bounds=[low, high], log=log, step=step):
            trial.suggest_float(name, low, high, log=log, step=step)
        case IntRange(bounds=[low, high], log=log, step=step):
            trial.suggest_int(name, low, high, log=log, step=step)
        case Choice(choices=choices):
            trial.suggest_categorical(name, choices)


def _distribution(dimension: FloatRange | IntRange | Choice) -> BaseDistribution:
    match dimension:
        case FloatRange(bounds=[low, high], log=log, step=step):
            return FloatDistribution(low, high, log=log, step=step)
        case IntRange(bounds=[low, high], log=log, step=step):
            return IntDistribution(low, high, log=log, step=step)
        case Choice(choices=choices):
            return CategoricalDistribution(choices)
    raise TypeError(dimension)


def _open(spec: Spec, folder: Path) -> BaseStorage:
    """Optuna's storage: the file's `optuna.storage`, else a journal in `folder`. optuna-dashboard opens either."""
    place = spec.optuna.storage
    try:
        if place and "://" in place:
            return RDBStorage(place)
        path = (Path(place) if place else _journal(spec, folder)).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Its lock is a link to the path it is given: one that led nowhere would never be taken for a dead process's.
        lock = JournalFileSymlinkLock(str(path))
        _cut_torn_line(path, lock)
        return JournalStorage(JournalFileBackend(str(path), lock))
    except Exception as error:  # a driver's, a database's or the file system's own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError([Problem((), f"optuna.storage {place or folder}: {reason}")]) from error


def _cut_torn_line(journal: Path, lock: JournalFileSymlinkLock) -> None:
    """Remove a last line that a power cut or a full disk tore: Optuna would write the next one onto it."""
    if not journal.exists():
        return
    lock.acquire()
    try:
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)
    finally:
        lock.release()


def _pruner(spec: Spec) -> optuna.pruners.BasePruner:
    """Early stopping. Optuna's own, since what it decides by is in the study's storage and so outlives the process."""
    if spec.scheduler is None:
        return optuna.pruners.NopPruner()
    if asha := spec.scheduler.asha:
        return optuna.pruners.SuccessiveHalvingPruner(asha.grace_epochs, asha.reduction_factor)
    median = spec.scheduler.median
    assert median is not None
    return optuna.pruners.MedianPruner(median.startup_trials, median.grace_epochs)


def _sampler(spec: Spec, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler that the file names, seeded. With several trials at a time their order of finishing shapes what is
    proposed, so a second search need not propose the same settings."""
    # The default of 10 random first trials would leave a short search no search at all.
    startup = min(10, max(3, (spec.trials or 0) // 3))
    match spec.optuna.sampler:
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=startup)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, startup))
    conditional = any(d.when for d in (spec.search or {}).values())
    with warnings.catch_warnings():  # `group` is experimental; without it, a condition would make TPE look at nothing
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=conditional)


@dataclass(frozen=True)
class Tried:
    """A trial of a search as it was tracked: what was proposed, each objective, and whether it ran to its end."""

    settings: dict[str, Any]
    values: list[float | None]
    finished: bool


def plots(spec: Spec, tried: Sequence[Tried]) -> dict[str, tuple[str, Figure]]:
    """Optuna's own plots of tracked trials, with what each shows; empty where fewer than two finished."""
    from optuna.visualization import matplotlib as drawn

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize" if o.mode == "max" else "minimize" for o in spec.objectives])
    for trial in tried:
        values = [value for value in trial.values if value is not None]
        done = trial.finished and len(values) == len(spec.objectives)
        state = TrialState.COMPLETE if done else TrialState.PRUNED
        distributions = {name: _distribution(spec.search[name]) for name in trial.settings}
        study.add_trial(
            optuna.trial.create_trial(
                state=state, values=values if done else None, params=trial.settings, distributions=distributions
            )
        )
    if len(study.get_trials(states=(TrialState.COMPLETE,))) < 2:
        return {}
    made: dict[str, tuple[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls these plots experimental
        for number, objective in enumerate(spec.objectives):
            target: dict[str, Any] = {"target_name": objective.metric}
            if len(spec.objectives) > 1:
                target["target"] = lambda t, number=number: t.values[number]
            name = objective.metric.replace("/", "-")
            history = drawn.plot_optimization_history(study, **target)
            made[f"history-{name}"] = ("Objective of each trial in order", history)
            if len(spec.search) > 1:
                with suppress(RuntimeError, ValueError):  # of trials that are all alike, or that share no setting
                    importances = drawn.plot_param_importances(study, **target)
                    said = "How much of the objective's variance each setting explains (fANOVA)"
                    made[f"importances-{name}"] = (said, importances)
            made[f"slices-{name}"] = ("Objective over each searched setting", drawn.plot_slice(study, **target))
        if len(spec.objectives) in (2, 3):
            names = [objective.metric for objective in spec.objectives]
            made["pareto"] = ("The Pareto front", drawn.plot_pareto_front(study, target_names=names))
    return {name: (caption, _canvas(axes)) for name, (caption, axes) in made.items()}


def _canvas(axes: Any) -> Figure:
    """Of one part, or of the first of several."""
    return np.ravel(axes)[0].figure
