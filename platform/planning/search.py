"""The one room of Optuna: proposals, early stopping, and a study that outlives the process."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from platform.files.dimensions import Choice, FloatRange, IntRange
from platform.files.searched import applies, search_order
from platform.files.spec import Spec
from platform.files.trial_settings import judged_on
from platform.planning.studies import open_storage, read_storage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Proposal:
    """Settings that Optuna proposed, and their number in the study."""

    number: int
    settings: dict[str, Any]


class Known(NamedTuple):
    """What settings are known to give, though this study has not proposed them."""

    settings: dict[str, Any]
    metrics: dict[str, float]  # its objectives


class Start(NamedTuple):
    """What a search starts from."""

    known: Sequence[Known] = ()
    guesses: Sequence[Mapping[str, Any]] = ()  # which are proposed first


class Ran(NamedTuple):
    """A training of a proposal: its run, and the epoch that it came to."""

    split: int
    seed: int
    run_id: str  # of MLflow; empty where that did not answer
    epoch: float


@dataclass(frozen=True)
class Told:
    """A proposal, and what became of it: `finished`, `stopped`, `failed` or still `running`."""

    proposal: Proposal
    status: str
    metrics: dict[str, float]  # its objectives
    runs: Sequence[Ran] = ()  # of its trainings, those that began
    known: bool = False  # before the study began

    def ran(self, split: int, seed: int) -> Ran | None:
        return next((run for run in self.runs if (run.split, run.seed) == (split, seed)), None)


# What the study keeps of a trial beside Optuna's own.
_RUNS = "runs"
_KNOWN = "known"  # before the study began
_WITHDRAWN = "withdrawn"  # another process had made the last proposal at the same moment


class Study:
    """The search of one file. What it knows is in Optuna's storage: a process that comes later goes on with it, and one
    that works beside this one shares it.

    `context` is what trials of this search must share to be comparable (the images, the settings that are fixed):
    another context is another study.
    """

    def __init__(self, spec: Spec, context: str, folder: Path, *, fresh: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage, name = open_storage(spec, folder), _name(spec, context)
        if fresh and name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            directions=["maximize" if o.mode == "max" else "minimize" for o in spec.objectives],
            pruner=_pruner(spec),
        )
        self._begin(spec, study, storage)

    @classmethod
    def there(cls, spec: Spec, context: str, folder: Path) -> Study | None:
        """The study that some process began, to be read alone: nothing is created or written."""
        storage, name = read_storage(spec, folder), _name(spec, context)
        if storage is None or name not in optuna.get_all_study_names(storage):
            return None
        study = cls.__new__(cls)
        study._begin(spec, optuna.load_study(study_name=name, storage=storage), storage)
        return study

    def _begin(self, spec: Spec, study: optuna.Study, storage: BaseStorage) -> None:
        self.spec, self._study, self._storage = spec, study, storage
        self._known = self._numbers_known()
        self._id = storage.get_study_id_from_name(study.study_name)
        self._own = spec.trials - self._counted()  # a failed proposal is replaced by the next process, not by this one

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _trial(self, number: int) -> optuna.Trial:
        return optuna.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(self._id, number))

    def _numbers_known(self) -> list[int]:
        return [trial.number for trial in self._trials(TrialState.COMPLETE) if _KNOWN in trial.user_attrs]

    def _counted(self, before: int | None = None) -> int:
        """Proposals that are done or under way in any process, those with a number below `before` alone."""
        there = self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        if before is None:
            return len(there) - len(self._known)
        return sum(trial.number < before for trial in there) - sum(number < before for number in self._known)

    def begin_with(self, start: Start) -> None:
        """Tell it what is known, and have it propose the guesses first; both but once, however often this is called."""
        tried = [self._settings(trial.params) for trial in self._trials()]
        for one in start.known:
            if one.settings not in tried:
                tried.append(one.settings)
                values = [one.metrics[o.metric] for o in self.spec.objectives]
                distributions = {name: _distribution(self.spec.search[name]) for name in one.settings}
                more: dict[str, Any] = {"params": one.settings, "user_attrs": {_KNOWN: True}}
                self._study.add_trial(optuna.trial.create_trial(values=values, distributions=distributions, **more))
        self._known = self._numbers_known()
        for guess in start.guesses:
            if not any(guess.items() <= settings.items() for settings in tried):
                self._study.enqueue_trial(dict(guess), skip_if_exists=True)

    @property
    def left(self) -> int:
        """How many proposals this process may still make."""
        return max(0, min(self._own, self.spec.trials - self._counted())) if self._own > 0 else 0

    def unfinished(self) -> list[Proposal]:
        """What some process proposed and no process has told the end of, completed where one was killed in between."""
        return [self._proposed(t.number) for t in self._trials(TrialState.RUNNING)]

    def ask(self) -> Proposal | None:
        """The next proposal, None once as many were made, by all processes together, as the file wants."""
        if self.left == 0:
            return None
        trial = self._study.ask()
        # Numbers are the storage's: of processes that ask at once, those with the lowest ones have asked first.
        if self._counted(before=trial.number) >= self.spec.trials:
            trial.set_user_attr(_WITHDRAWN, True)
            self._study.tell(trial.number, state=TrialState.FAIL)
            return None
        self._own -= 1
        return self._proposed(trial.number)

    def _proposed(self, number: int) -> Proposal:
        """With a value for each setting that applies: what it has already, else the sampler's.

        What is drawn depends on the search's seed, the proposal's number and what has ended by now, not on the process.
        """
        self._study.sampler = _sampler(self.spec, number)
        trial = self._trial(number)
        for name in search_order(self.spec):
            if applies(self.spec, name, self._settings(trial.params)):
                _suggest(trial, name, self.spec.search[name])
        return Proposal(number, self._settings(trial.params))

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _written(value, self.spec.search[name]) for name, value in params.items()}

    def stops(self, number: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Record the objective after so many epochs, of all its trainings; whether the scheduler of the file stops the
        proposal here."""
        value = metrics.get(self.spec.objectives[0].metric)  # None: by a score that another sweep's trial has last
        if self.spec.scheduler is None or value is None:
            return False
        trial = self._trial(number)
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # told by a process that took this one for dead
            trial.report(value, epoch)
            return trial.should_prune()
        return False

    def tell(self, number: int, status: str, metrics: Mapping[str, float], runs: Sequence[Ran] = ()) -> None:
        """A proposal's end: `finished`, `stopped` by the scheduler, or `failed`."""
        state = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}.get(status, TrialState.FAIL)
        values = [metrics[o.metric] for o in self.spec.objectives] if state is TrialState.COMPLETE else None
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process has told it
            self._trial(number).set_user_attr(_RUNS, runs)
            self._study.tell(number, values, state, skip_if_finished=True)

    def told(self, number: int) -> Told | None:
        """How a proposal ended, whichever process told it; None where none has."""
        told = self._told(self._trials()[number])
        return None if told.status == "running" else told

    def best(self, top: int) -> list[Proposal]:
        """The `top` finished proposals; with several objectives those of the Pareto front, by the first of them."""
        first = self.spec.objectives[0]
        finished = self._trials(TrialState.COMPLETE) if len(self.spec.objectives) == 1 else self._study.best_trials
        sign = -1 if first.mode == "max" else 1
        ordered = sorted(finished, key=lambda t: sign * t.values[0])
        distinct = {json.dumps(t.params, sort_keys=True): t for t in reversed(ordered)}
        chosen = {id(t) for t in distinct.values()}
        return [Proposal(t.number, self._settings(t.params)) for t in ordered if id(t) in chosen][:top]

    def history(self) -> Iterator[Told]:
        """Every proposal with how it ended, in order."""
        states = set(TrialState) - {TrialState.WAITING}
        return (self._told(trial) for trial in self._trials(*states) if _WITHDRAWN not in trial.user_attrs)

    def _told(self, trial: FrozenTrial) -> Told:
        names = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
        one = len(self.spec.objectives) == 1
        values = trial.values or ([trial.value] if one and trial.value is not None else [])
        metrics = {o.metric: v for o, v in zip(self.spec.objectives, values, strict=False)}
        proposal = Proposal(trial.number, self._settings(trial.params))
        runs = [Ran(*run) for run in trial.user_attrs.get(_RUNS, ())]
        return Told(proposal, names.get(trial.state, "running"), metrics, runs, _KNOWN in trial.user_attrs)


def _name(spec: Spec, context: str) -> str:
    space = {name: [str(_distribution(d)), d.when] for name, d in spec.search.items()}
    wanted: list[Any] = [context, space, [[o.metric, o.mode] for o in spec.objectives]]
    if max(map(len, on := judged_on(spec))) > 1:  # one training is a part of the context
        wanted.append(on)
    content = json.dumps(wanted, sort_keys=True)
    return f"{spec.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


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


def _written(value: Any, dimension: FloatRange | IntRange | Choice) -> Any:
    """A value of an even range as the decimal number that one writes: 0.1 + 3 * 0.2 is 0.7, not 0.7000000000000001."""
    if not isinstance(dimension, FloatRange) or dimension.step is None:
        return value
    low, step = Decimal(str(dimension.bounds[0])), Decimal(str(dimension.step))
    return float(low + round((Decimal(str(value)) - low) / step) * step)


def made_with(spec: Spec) -> dict[str, str]:
    """Optuna's version, since another may propose otherwise, and its sampler and pruner with all that they are told."""

    def said(made: tuple[type, dict[str, Any]]) -> str:
        return f"{made[0].__name__}({', '.join(f'{name}={value}' for name, value in made[1].items())})"

    return {"version": optuna.__version__, "sampler": said(_sampler_of(spec)), "pruner": said(_pruner_of(spec))}


def _pruner(spec: Spec) -> optuna.pruners.BasePruner:
    """Early stopping. Optuna's own, since what it decides by is in the study's storage and so outlives the process."""
    kind, told = _pruner_of(spec)
    return kind(**told)


def _pruner_of(spec: Spec) -> tuple[type[optuna.pruners.BasePruner], dict[str, Any]]:
    if spec.scheduler is None:
        return optuna.pruners.NopPruner, {}
    if asha := spec.scheduler.asha:
        told = {"min_resource": asha.grace_epochs, "reduction_factor": asha.reduction_factor}
        return optuna.pruners.SuccessiveHalvingPruner, told
    median = spec.scheduler.median
    assert median is not None
    told = {"n_startup_trials": median.startup_trials, "n_warmup_steps": median.grace_epochs}
    return optuna.pruners.MedianPruner, told


def _sampler(spec: Spec, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that the file names, seeded for the proposal of a number. All but `random` look at what has ended:
    with several trials at a time their order of finishing shapes what is proposed."""
    kind, told = _sampler_of(spec)
    seed = int(np.random.SeedSequence([spec.optuna.seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():  # TPE's `group` is experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return kind(**{**told, "seed": seed})


def _sampler_of(spec: Spec) -> tuple[type[optuna.samplers.BaseSampler], dict[str, Any]]:
    """With the search's seed, of which each proposal has its own."""
    told: dict[str, Any] = {"seed": spec.optuna.seed}
    # The default of 10 random first trials would leave a short search no search at all.
    startup = min(10, max(3, (spec.trials or 0) // 3))
    match spec.optuna.sampler:
        case "random":
            return optuna.samplers.RandomSampler, told
        case "cmaes":
            return optuna.samplers.CmaEsSampler, told | {"n_startup_trials": startup}
        case "gp":
            return optuna.samplers.GPSampler, told | {"n_startup_trials": startup}
        case "nsga2":
            return optuna.samplers.NSGAIISampler, told | {"population_size": max(4, startup)}
    # Without `group`, a condition would make TPE look at nothing.
    conditional = any(d.when for d in (spec.search or {}).values())
    told |= {"n_startup_trials": startup, "multivariate": True, "group": conditional}
    return optuna.samplers.TPESampler, told


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
