"""What a search may not mean: what is searched, under which conditions, judged by what, confirmed on what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from platform.files.check_rows import too_many_trials
from platform.files.dimensions import Choice, FloatRange, IntRange, within
from platform.files.searched import search_order
from platform.files.spec import Row, Spec
from platform.files.trial_settings import OF_SCORE, of_score, validation_settings, with_teacher
from trainables.reading.values import shown
from trainables.reading.yaml_file import ConfigError, KeyPath, Problem, nearest, under
from trainables.scoring.metric_names import PSEUDO_UNKNOWN, MetricName
from trainables.scoring.metrics import OPEN_SET_METRICS, RANKING_METRICS
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import SCORES, called, check_settings, owners_of, resolve
from trainables.settings.score_names import EXTRA_SCORES, SCORE_NAMES, SCORE_SETTINGS, SCORING

# How trials are divided and judged: a search over these would choose its own judge.
NOT_SEARCHABLE = {
    "method",
    "objective",
    "recipe",
    "protocol",
    "split_family",
    "split",
    "seed",
    "images_per_class",
    "teacher",
}
NOT_SEARCHABLE |= {"holdout", "pseudo_unknown", "evaluate", "test"}
NOT_SEARCHABLE |= SCORING
NOT_IN_BASELINE = NOT_SEARCHABLE - SCORING - {"method", "objective", "recipe", "teacher", "images_per_class", "holdout"}
JUDGES_SCORES = ("val/auroc", "val/oscr")  # whatever the score
STORAGES = ("sqlite", "mysql", "postgresql")  # what Optuna's URLs begin with, maybe with +driver

Dimension = FloatRange | IntRange | Choice


def search_problems(spec: Spec) -> Iterator[Problem]:
    """What is wrong with one key by itself."""
    for name, dimension in spec.search.items():
        yield from _dimension_problems(name, dimension, spec)
    try:
        search_order(spec)
    except ValueError as error:
        yield Problem(("search", str(error).split()[0], "when"), str(error))
    for name in ("split", "seed"):
        if name in spec.base and f"{name}s" in spec.model_fields_set:
            yield Problem(("base", name), f"stands beside `{name}s`: take one of them out")
    yield from _objective_problems(spec)
    if of_score(spec):
        yield from _of_score_problems(spec)
    yield from _optuna_problems(spec)
    for i, start in enumerate(spec.start_from):
        for name, value in start.items() if isinstance(start, dict) else ():
            if name not in spec.search:
                yield Problem(("start_from", i, name), f"is not searched{nearest(name, spec.search)}")
            elif not within(value, spec.search[name]):
                yield Problem(("start_from", i, name), f"{shown(value)} is not in what is searched")
    for figure in spec.figures:
        if figure == "grid":
            yield Problem(("figures",), "grid shows two settings of a grid against each other: a search has none")
    if spec.scheduler and len({objective.metric for objective in spec.objectives}) > 1:
        message = "stops trials by one objective, and this search has several: take it out, or all objectives but one"
        yield Problem(("scheduler",), message)
    if spec.confirm:
        yield from _baseline_problems(spec, spec.confirm.baselines)
        yield from too_many_trials(spec, spec.confirm.top + len(spec.confirm.baselines))


def _dimension_problems(name: str, dimension: Dimension, spec: Spec) -> Iterator[Problem]:
    path: KeyPath = ("search", name)
    if name not in spec.table:
        yield Problem(path, f"unknown setting{nearest(name, spec.table)}")
        return
    if name == "odin_epsilon":
        yield Problem(
            path, "cannot be searched: it changes images, and a score is searched by the logits of each as it is"
        )
        return
    if name in OF_SCORE and not of_score(spec):
        yield Problem(path, "is a setting of the score, which needs no training: search it in a file of its own")
        return
    if name in NOT_SEARCHABLE - OF_SCORE:
        yield Problem(path, "cannot be searched: it decides how trials are divided or judged")
        return
    setting, mixes = spec.table[name], spec.search.get("mix")
    if not setting.belongs_to([*owners_of(spec.base), *(mixes.choices if isinstance(mixes, Choice) else [])]):
        yield Problem(path, f"{called(spec.base)} has no such setting; {', '.join(setting.owners)} has")
    if name in spec.base:
        yield Problem(path, "is searched here and fixed in base: remove one of them")
    for value in ends(dimension):
        if problems := check_settings({name: value}, spec.parts)[1]:
            yield Problem(path, problems[0].message)
            return
    for other, wanted in dimension.when.items():
        yield from _condition_problems((*path, "when", other), other, wanted, spec)


def _condition_problems(path: KeyPath, other: str, wanted: list[Any], spec: Spec) -> Iterator[Problem]:
    if other in spec.search:
        if not any(within(value, spec.search[other]) for value in wanted):
            yield Problem(path, f"is never true: the search of {other} has no {_either(wanted)}")
    elif other in spec.base:
        if spec.base[other] not in wanted:
            yield Problem(path, f"is never true: base has {other}: {shown(spec.base[other])}")
    else:
        known = [*spec.search, *spec.base]
        yield Problem(
            path, f"is neither searched nor in base{nearest(other, known)}: a condition names a setting there"
        )


def _either(wanted: list[Any]) -> str:
    return " or ".join(shown(value) for value in wanted)


def ends(dimension: Dimension) -> list[Any]:
    """The values of a dimension that stand for all of them: every choice, or both bounds."""
    return list(dimension.choices if isinstance(dimension, Choice) else dimension.bounds)


def validation_metrics(scores: Iterable[str]) -> list[str]:
    """Names that a search may be judged by where validation computes `scores`: they come from training images alone."""
    names = ["val/auroc", "val/accuracy", "val/auc", "val/oscr", f"val/{PSEUDO_UNKNOWN}/feature_cosine"]
    each = [*RANKING_METRICS, *OPEN_SET_METRICS, "f1.test95"]
    return names + [str(MetricName("val", m, PSEUDO_UNKNOWN, score)) for score in scores for m in each]


def _of_score_problems(spec: Spec) -> Iterator[Problem]:
    """What a search over nothing but settings of the score cannot have."""
    for i, objective in enumerate(spec.objectives):
        if objective.metric not in JUDGES_SCORES:
            path: KeyPath = ("objective", i, "metric") if len(spec.objectives) > 1 else ("objective", "metric")
            yield Problem(path, f"a score is searched by {' or '.join(JUDGES_SCORES)}, whichever it is")
    if spec.scheduler:
        yield Problem(("scheduler",), "has nothing to stop: scores are searched when training has ended")
    if "search" in spec.figures:
        yield Problem(("figures",), "search shows trials, and the scores that are tried here are none")
    scores = spec.search.get("score")
    tried = ends(scores) if scores else [spec.base.get("score", TrialConfig.score)]
    recorded = {"odin", spec.base.get("score"), *(spec.base.get("extra_scores") or ())}
    for score in tried:
        if score in EXTRA_SCORES and score not in recorded:
            yield Problem(("search", "score"), f"{score} is recorded only with `extra_scores: [{score}]` in the base")
    if "odin" in tried and spec.base.get("odin_epsilon", TrialConfig.odin_epsilon) != 0:
        said = "is not 0: a score is searched by the logits of images as they are. Write `odin_epsilon: 0`"
        yield Problem(("base", "odin_epsilon"), said)
    for score, settings in SCORE_SETTINGS.items():
        if score not in tried:
            for name in spec.search.keys() & {*settings}:
                yield Problem(("search", name), f"changes nothing: no score that is tried is {score}")


def _objective_problems(spec: Spec) -> Iterator[Problem]:
    allowed = validation_metrics([*SCORE_NAMES, *(s for s in SCORES if s == spec.base.get("score"))])
    metrics = [objective.metric for objective in spec.objectives]
    for i, metric in enumerate(metrics):
        path: KeyPath = ("objective", i, "metric") if len(metrics) > 1 else ("objective", "metric")
        if metric.startswith("test/"):
            instead = "val/" + metric.split("/")[-1]
            instead = instead if instead in allowed else "val/auroc"
            yield Problem(
                path,
                f"{metric} would choose settings on the test set, and the result would no longer say how the method "
                f"does on unseen unknowns. Use {instead}, from training images; `confirm` reports the test set",
            )
        elif metric not in allowed and metric in validation_metrics(SCORES):
            score = MetricName.parse(metric).score
            yield Problem(path, f"{score} is not computed in every validation unless base has `score: {score}`")
        elif metric not in allowed:
            yield Problem(path, f"unknown metric {metric!r}{nearest(metric, allowed)}")
        elif metric in metrics[:i]:
            yield Problem(path, f"{metric} is an objective twice")


def _optuna_problems(spec: Spec) -> Iterator[Problem]:
    sampler, path = spec.optuna.sampler, ("optuna", "sampler")
    conditional = [name for name, dimension in spec.search.items() if dimension.when]
    choices = [name for name, dimension in spec.search.items() if isinstance(dimension, Choice)]
    instead = "take tpe"
    if sampler in ("cmaes", "gp") and conditional:
        yield Problem(path, f"{sampler} cannot search {conditional[0]}, which has a condition: {instead}")
    elif sampler == "cmaes" and choices:
        yield Problem(path, f"cmaes searches numbers, and {choices[0]} is a choice: {instead}")
    elif sampler == "cmaes" and len(spec.objectives) > 1:
        yield Problem(path, "cmaes has one objective: take tpe or nsga2")
    elif sampler == "cmaes" and len(spec.search) < 2:
        yield Problem(path, f"cmaes needs two settings or more to search: {instead}")
    if spec.optuna.storage:
        yield from _storage_problems(spec.optuna.storage, ("optuna", "storage"))


def _storage_problems(storage: str, path: KeyPath) -> Iterator[Problem]:
    scheme, url, _ = storage.partition("://")
    if url and scheme.split("+")[0] not in STORAGES:
        known = ", ".join(f"{name}://" for name in STORAGES)
        yield Problem(
            path, f"{storage!r}: Optuna has no storage {scheme}://{nearest(scheme, STORAGES)}; it has {known}"
        )
    elif not url and (reason := _unreadable(storage)):
        yield Problem(path, f"{shown(storage)} can be no file here ({reason}): name a journal file, as optuna.log")
    elif not url and Path(storage).is_dir():
        yield Problem(path, f"{storage!r} is a folder: name a journal file in it, as {Path(storage) / 'optuna.log'}")
    elif not url and not Path(storage).parent.is_dir():
        yield Problem(path, f"there is no folder {str(Path(storage).parent)!r}; a URL begins as sqlite:///")


def _unreadable(path: str) -> str:
    """Why nothing can be at a path: it is too long, or in a folder that one may not look into. Empty: no reason."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", error))
    return ""


def _baseline_problems(spec: Spec, baselines: list[Row]) -> Iterator[Problem]:
    seen = set()
    for i, row in enumerate(baselines):
        path: KeyPath = ("confirm", "baselines", i)
        if row.name in seen or re.fullmatch(r"best( \d+)?", row.name):
            yield Problem((*path, "name"), "baselines need distinct names, and `best` is the search's own row")
        seen.add(row.name)
        for key in ("grid", "best_of", "published"):
            if getattr(row, key):
                yield Problem((*path, key), "is for the rows of an ablation: a baseline has a name and a set")
        if row.set is None:
            yield Problem((*path, "set"), "is missing: what the baseline changes from the base, {} for nothing")
        yield from under((*path, "set"), check_settings(row.set or {}, spec.parts)[1])
        for name in sorted(NOT_IN_BASELINE & set(row.set or {})):
            message = "would make the row another experiment than the one it is compared with"
            yield Problem((*path, "set", name), message)


def search_trial_problems(spec: Spec) -> Iterator[Problem]:
    """Contradictions that single settings cannot show, in every trial that the file means."""

    def problems_of(changes: Mapping[str, Any], path: KeyPath, validation: Mapping[str, Any]) -> Iterator[Problem]:
        try:
            resolve({**with_teacher(spec, changes), **validation})
        except ConfigError as error:
            for problem in error.problems:
                yield Problem(path or ("base", *problem.path), problem.message)

    if problems := list(problems_of({}, (), {})):
        yield from problems
        return
    validation = validation_settings(spec)
    yield from problems_of({}, (), validation)
    for i, split in enumerate(spec.splits if "splits" in spec.model_fields_set else []):
        yield from problems_of({"split": split}, ("splits", i), validation)
    proposed = [
        (name, changes)
        for name, dimension in spec.search.items()
        for value in ends(dimension)
        if (changes := _proposed(spec, name, value)) is not None
    ]
    alone = [problem for name, changes in proposed for problem in problems_of(changes, ("search", name), validation)]
    yield from alone
    # Two searched settings may be at odds where each is right beside the base.
    for (one, first), (other, second) in combinations(proposed, 2) if not alone else ():
        if one != other and all(second.get(name, value) == value for name, value in first.items()):
            yield from problems_of({**first, **second}, ("search", other), validation)
    yield from _scheduler_problems(spec)
    for i, split in enumerate(spec.confirm.splits if spec.confirm else []):
        yield from problems_of({"split": split}, ("confirm", "splits", i), {})
    for i, row in enumerate(spec.confirm.baselines if spec.confirm else []):
        yield from problems_of(row.set or {}, ("confirm", "baselines", i, "set"), {})


def _proposed(spec: Spec, name: str, value: Any) -> dict[str, Any] | None:
    """`name` at `value`, and what it is searched with: what its condition wants. None where that cannot be."""
    changes = {name: value}
    for other, wanted in spec.search[name].when.items():
        if other in spec.search:
            first = next(v for v in wanted if within(v, spec.search[other]))
            more = _proposed(spec, other, first)
            if more is None or any(changes.get(n, v) != v for n, v in more.items()):
                return None
            changes |= more
    return changes


def _scheduler_problems(spec: Spec) -> Iterator[Problem]:
    if spec.scheduler is None or "epochs" in spec.search:
        return
    name, scheduler = ("asha", spec.scheduler.asha) if spec.scheduler.asha else ("median", spec.scheduler.median)
    epochs = resolve(with_teacher(spec, {})).epochs
    if scheduler and scheduler.grace_epochs >= epochs:
        yield Problem(
            ("scheduler", name, "grace_epochs"),
            f"{scheduler.grace_epochs} is not below the {epochs} epochs of a trial, so nothing would ever be stopped",
        )
