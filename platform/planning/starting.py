"""What a search starts from: trainings of its own that are finished already, and settings that it tries first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

from platform.files.searched import lies_in
from platform.files.spec import Spec
from platform.files.trial_settings import proposed
from platform.planning.plan import BestOf, Plan, Sweep
from platform.planning.search import Known, Start
from platform.tracking.evaluations import own_metrics, scored_otherwise
from platform.tracking.index import FinishedTrial
from trainables.reading import yaml_file
from trainables.reading.yaml_file import ConfigError

Finished = Mapping[str, FinishedTrial]  # by identity


def start(plan: Plan, sweep: Sweep, finished: Finished, stores: Callable[[str], Finished], best_of: BestOf) -> Start:
    """By `start_from` of the sweep's file. `finished` are the trials of its own store, which search files are about;
    `stores` gives those of another one.

    Raises `ConfigError` where a file has found nothing yet.
    """
    known: dict[str, Known] = {}
    guesses: list[Mapping[str, Any]] = []
    for of in sweep.spec.start_from:
        if isinstance(of, dict):
            guesses.append(of)
            continue
        is_store = "://" in of
        found = dict(_known(plan, sweep.spec, stores(of) if is_store else finished))
        known |= found
        if not is_store:
            with suppress(*[ConfigError] if found else []):
                guesses += _inside(sweep.spec, best_of(Path(of), sweep.profile))
    return Start(list(known.values()), guesses)


def _inside(spec: Spec, best: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The best settings of another search, where they are some of this one's."""
    shared = {name: value for name, value in best.items() if name in spec.search}
    found = lies_in(spec, shared)
    return [found] if found else []


def _known(plan: Plan, spec: Spec, finished: Finished) -> Iterator[tuple[str, Known]]:
    """Of trials that are those of a proposal of this search, identity by identity: held out, and judged on the same
    validation images. So nothing that was learnt or measured with more than the training images is among them."""
    same = {name: str(spec.base[name]) for name in ("protocol", "backbone") if name in spec.base}
    for trial in finished.values():
        if any(trial.params.get(name) != value for name, value in same.items()):
            continue  # cheaply
        values = {n: yaml_file.parse(trial.params[n], n).data for n in spec.search if n in trial.params}
        settings = lies_in(spec, values)
        if settings is None:
            continue
        trainings = {plan.identity(config): config for config in proposed(spec, settings)}
        if trial.identity not in trainings or not trainings.keys() <= finished.keys():
            continue
        if any(scored_otherwise(finished[identity], config, [config.score]) for identity, config in trainings.items()):
            continue
        measured = [own_metrics(finished[identity].metrics, config) for identity, config in trainings.items()]
        names = [objective.metric for objective in spec.objectives]
        if all(name in one for name in names for one in measured):
            metrics = {name: fmean(one[name] for one in measured) for name in names}
            yield repr(settings), Known(settings, metrics)
