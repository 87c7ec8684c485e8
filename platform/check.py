"""What a search file may not mean, though its shape is right: settings, their ranges, and the objective."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

from platform.spec import Choice, FloatRange, IntRange, Spec
from trainables.config import EXTRA_SCORES, SCORE_NAMES, SETTINGS, TrialConfig, check_settings
from trainables.methods import METHODS
from trainables.metrics import OPEN_SET_METRICS, RANKING_METRICS
from trainables.yaml_file import ConfigError, KeyPath, Problem, nearest

# How trials are divided and judged: a search over these would choose its own judge.
NOT_SEARCHABLE = {"method", "recipe", "protocol", "split_family", "split", "seed", "images_per_class", "teacher"}
NOT_SEARCHABLE |= {"holdout", "pseudo_unknown", "evaluate", "test"}
SCORING = {"score", "extra_scores", "odin_temperature", "odin_epsilon"}
NOT_SEARCHABLE |= SCORING
# What a search file says elsewhere, once for all its rows.
NOT_IN_BASE = {"test": "`confirm` tests, the search never", "pseudo_unknown": "write it under `validation`"}
NOT_IN_ROW = NOT_SEARCHABLE - SCORING - {"method", "recipe", "teacher", "images_per_class", "holdout"}


def problems_of_spec(spec: Spec) -> list[Problem]:
    """Every mistake; contradictions between settings are looked for once each of them is right by itself."""
    return list(_settings_problems(spec)) or list(_trial_problems(spec))


def _settings_problems(spec: Spec) -> Iterator[Problem]:
    """What the models cannot know: settings, their ranges, and the objective."""
    yield from problems_of(spec.base, ("base",))
    method = spec.base.get("method")
    if method is None:
        yield Problem(("base",), f"method is missing; one of {', '.join(METHODS)}")
    for name, instead in NOT_IN_BASE.items():
        if name in spec.base:
            yield Problem(("base", name), f"has no place in a search file's base: {instead}")
    rows = spec.confirm.baselines if spec.confirm else []
    for i, row in enumerate(rows):
        yield from problems_of(row.set, ("confirm", "baselines", i, "set"))
        for name in sorted(NOT_IN_ROW & set(row.set)):
            path = ("confirm", "baselines", i, "set", name)
            yield Problem(path, "would make the row another experiment than the one it is compared with")
    for name, dimension in spec.search.items():
        yield from _dimension_problems(name, dimension, spec)
    yield from _objective_problems(spec)


def problems_of(settings: Mapping[str, Any], path: KeyPath) -> Iterator[Problem]:
    """What is wrong with single settings, at `path` of the file."""
    _, problems = check_settings(settings)
    for problem in problems:
        yield Problem((*path, *problem.path), problem.message)


def _dimension_problems(name: str, dimension: FloatRange | IntRange | Choice, spec: Spec) -> Iterator[Problem]:
    path: KeyPath = ("search", name)
    if name not in SETTINGS:
        yield Problem(path, f"unknown setting{nearest(name, SETTINGS)}")
        return
    if name in NOT_SEARCHABLE:
        yield Problem(path, "cannot be searched: it decides how trials are divided or judged")
        return
    owners, method = SETTINGS[name].methods, spec.base.get("method")
    if owners and method not in owners:
        yield Problem(path, f"{method} has no such setting; {', '.join(owners)} has")
    if name in spec.base:
        yield Problem(path, "is searched here and fixed in base: remove one of them")
    for value in _ends(dimension):
        for problem in problems_of({name: value}, ()):
            yield Problem(path, problem.message)


def _ends(dimension: FloatRange | IntRange | Choice) -> list[Any]:
    return list(dimension.choices if isinstance(dimension, Choice) else dimension.bounds)


def validation_metrics(scores: Iterable[str]) -> list[str]:
    """Names that a search may be judged by where validation computes `scores`: they come from training images alone."""
    names = ["val/auroc", "val/accuracy", "val/oscr", "val/pseudo-unknown/feature_cosine"]
    each = [*RANKING_METRICS, *OPEN_SET_METRICS, "f1.test95"]
    return names + [f"val/pseudo-unknown/{score}/{m}" for score in scores for m in each]


def _objective_problems(spec: Spec) -> Iterator[Problem]:
    metric = spec.objective.metric
    allowed = validation_metrics([*SCORE_NAMES, *(s for s in EXTRA_SCORES if s == spec.base.get("score"))])
    path: KeyPath = ("objective", "metric")
    if metric.startswith("test/"):
        instead = "val/" + metric.split("/")[-1]
        instead = instead if instead in allowed else "val/auroc"
        yield Problem(
            path,
            f"{metric} would choose settings on the test set, and the result would no longer say how the method "
            f"does on unseen unknowns. Use {instead}: it comes from training images; `confirm` reports the test set",
        )
    elif metric not in allowed and metric in validation_metrics(EXTRA_SCORES):
        score = metric.split("/")[2]
        yield Problem(path, f"{score} is not computed in every validation unless base has `score: {score}`")
    elif metric not in allowed:
        yield Problem(path, f"unknown metric {metric!r}{nearest(metric, allowed)}")


def _trial_problems(spec: Spec) -> Iterator[Problem]:
    """Contradictions that single settings cannot show, in every trial that the file means."""

    def resolve(changes: Mapping[str, Any], path: KeyPath, validation: Mapping[str, Any]) -> Iterator[Problem]:
        try:
            TrialConfig.from_settings({**spec.with_teacher(changes), **validation})
        except ConfigError as error:
            for problem in error.problems:
                yield Problem(path or ("base", *problem.path), problem.message)

    if problems := list(resolve({}, (), {})):
        yield from problems
        return
    validation = spec.validation_settings()
    yield from resolve({}, (), validation)
    ends = [(name, value) for name, dimension in spec.search.items() for value in _ends(dimension)]
    alone = [problem for name, value in ends for problem in resolve({name: value}, ("search", name), validation)]
    yield from alone
    # Two searched settings may be at odds where each is right beside the base.
    for (one, first), (other, second) in combinations(ends, 2) if not alone else ():
        if one != other:
            yield from resolve({one: first, other: second}, ("search", other), validation)
    asha = spec.scheduler.asha if spec.scheduler else None
    epochs = TrialConfig.from_settings(spec.base).epochs
    if asha and "epochs" not in spec.search and asha.grace_epochs >= epochs:
        yield Problem(
            ("scheduler", "asha", "grace_epochs"),
            f"{asha.grace_epochs} is not below the {epochs} epochs of a trial, so nothing would ever be stopped",
        )
    for i, split in enumerate(spec.confirm.splits if spec.confirm else []):
        yield from resolve({"split": split}, ("confirm", "splits", i), {})
    for i, row in enumerate(spec.confirm.baselines if spec.confirm else []):
        yield from resolve(row.set, ("confirm", "baselines", i, "set"), {})
