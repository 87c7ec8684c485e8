"""What is left to do of a plan, each trial once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from platform.files.spec import Resources
from platform.files.trial_settings import of_score, proposed
from platform.planning.plan import Plan
from platform.planning.search import Study
from platform.tracking.evaluations import lacks
from platform.tracking.index import FinishedTrial
from trainables.settings.config import TrialConfig


@dataclass
class Work:
    """What is left to do of a plan, each trial once."""

    train: list[tuple[TrialConfig, Resources]] = field(default_factory=list)
    evaluate: list[TrialConfig] = field(default_factory=list)  # finished ones, on sets that they have not seen
    cached: dict[str, FinishedTrial] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)  # proposals that a search knows of, without a finished run
    teachers: int = 0  # of those to train
    cached_teachers: int = 0

    @property
    def nothing(self) -> bool:
        return not self.train and not self.evaluate


def work(plan: Plan, finished: Mapping[str, FinishedTrial], studies: Mapping[str, Study]) -> Work:
    """`finished` are the finished trials by identity, `studies` the searches that some process began, by sweep."""
    todo = Work()
    seen: set[str] = set()
    searching = {sweep.name for sweep in plan.sweeps if sweep.search}

    def want(config: TrialConfig, identity: str, needs: Resources) -> None:
        found = finished.get(identity)
        if found and not lacks(found, config, plan.images.tested(config)):
            todo.cached[identity] = found
        elif identity not in seen:
            seen.add(identity)
            if found:
                todo.evaluate.append(config)
            else:
                _train(todo, plan, finished, seen, config, needs)

    for sweep in plan.sweeps:
        needs = sweep.spec.resources
        for request in sweep.requests:
            want(request.config, request.identity, needs)
        if sweep.search:
            study = studies.get(sweep.name)
            told = list(study.history()) if study else []
            for one in told:
                if one.status == "failed":
                    continue
                for config in proposed(sweep.spec, one.proposal.settings):
                    identity = plan.identity(config)
                    if one.status == "running":
                        want(config, identity, needs)
                    elif identity in finished:
                        todo.cached[identity] = finished[identity]
                    elif one.status == "finished" or one.ran(config.split, config.seed):
                        todo.ended.add(identity)
            left = study.left if study else sweep.spec.trials
            if of_score(sweep.spec):
                for config in sweep.searched:
                    want(config, plan.identity(config), needs)
            else:
                for config in left * sweep.searched:
                    _train(todo, plan, finished, seen, config, needs)
            if not left and not any(one.status == "running" for one in told):
                searching.remove(sweep.name)
    for sweep in plan.sweeps:
        for waiting in sweep.waiting:
            if waiting.search in searching:
                for config in plan.configs(sweep, waiting.row):
                    _train(todo, plan, finished, seen, config, sweep.spec.resources)
            else:  # what its search found is known
                for best in studies[waiting.search].best(waiting.rank + 1)[waiting.rank :]:
                    for config in plan.configs(sweep, waiting.row, best.settings):
                        want(config, plan.identity(config), sweep.spec.resources)
    return todo


def _train(
    todo: Work, plan: Plan, finished: Mapping[str, FinishedTrial], seen: set[str], config: TrialConfig, needs: Resources
) -> None:
    todo.train.append((config, needs))
    teacher = config.teacher
    if teacher is None or (identity := plan.identity(teacher)) in seen:
        return
    seen.add(identity)
    if identity in finished:
        todo.cached_teachers += 1
    else:
        todo.train.append((teacher, needs))
        todo.teachers += 1


Kind = tuple[str, ...]  # what makes trials equally fast an image


@dataclass(frozen=True)
class Cost:
    """Seconds on one worker: of an image in training, and of evaluating one."""

    trained: float
    evaluated: float


@dataclass(frozen=True)
class Estimate:
    """Of all that is to be trained, if no trial is stopped early."""

    seconds: float  # from start to end
    device_hours: float  # hours of GPUs, or of CPU cores where trials take no GPU
    disk: int  # bytes that stay, in MLflow's store
    source: str
    costs: Mapping[Kind, Cost] = field(default_factory=dict, repr=False)
