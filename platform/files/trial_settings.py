"""The settings of a file's trials: its base with what a row, a column or a search changes, and the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from platform.files.spec import Spec
from trainables.settings.config import TrialConfig
from trainables.settings.custom import is_custom
from trainables.settings.methods import laid_over
from trainables.settings.resolving import has_teacher, owners_of, resolve, teacher_settings

# Settings of the score: without training, their values are judged by what a trial recorded of its validation images.
OF_SCORE = frozenset({"score", "odin_temperature", "knn_k"})


def of_score(spec: Spec) -> bool:
    """Whether a search is over nothing but settings of the score."""
    return bool(spec.search) and spec.search.keys() <= OF_SCORE


def judged_on(spec: Spec) -> tuple[list[int], list[int]]:
    """The splits and seeds of a search: a proposal is judged by the mean over them. The file's, else the base's."""
    splits = spec.splits if "splits" in spec.model_fields_set else [spec.base.get("split", 0)]
    seeds = spec.seeds if "seeds" in spec.model_fields_set else [spec.base.get("seed", 0)]
    return splits, seeds


def proposed(spec: Spec, settings: Mapping[str, Any]) -> list[TrialConfig]:
    """The trainings of a proposal, in their order: the first seed on all splits, then the second. Of a search over
    nothing but settings of the score, all proposals have the base's."""
    changes = {} if of_score(spec) else settings
    config, (splits, seeds) = resolve({**search_settings(spec), **changes}), judged_on(spec)
    return [config.at(split, seed) for seed, split in product(seeds, splits)]


def search_settings(spec: Spec) -> dict[str, Any]:
    """The base of a search trial: validated on training images, never tested."""
    return {**with_teacher(spec, {}), **validation_settings(spec)}


def validation_settings(spec: Spec) -> dict[str, Any]:
    """What makes a trial one of the search."""
    hidden = spec.validation.pseudo_unknown
    if hidden is None:
        hidden = len(resolve(with_teacher(spec, {})).known_classes) // 3
    return {"holdout": spec.validation.holdout, "pseudo_unknown": hidden, "test": False}


def with_teacher(spec: Spec, changes: Mapping[str, Any], column: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The base with `changes`, and the teacher written out where the method needs one.

    A teacher comes from the base. What a search or a row changes of the student leaves it as it is, but for what
    a row changes under `teacher`. What a `column` changes, a data set and its recipe, is the teacher's as well.
    """
    base = {**spec.base, **(column or {})}
    settings = laid_over(base, changes)
    if has_teacher(settings):
        student = {name: value for name, value in base.items() if name != "teacher"}
        teacher: dict[str, Any] = {"method": "plain"}
        for of in (spec.base, column or {}, changes):
            teacher = laid_over(teacher, of.get("teacher", {}))
        settings["teacher"] = teacher_settings(student, teacher)
    return _without_foreign(spec, settings)


def _without_foreign(spec: Spec, settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` without those that only other custom objectives and mixes of the file have: resolving would not know
    them."""
    if not any(map(is_custom, spec.parts)):
        return settings
    table, parts = spec.table, owners_of(settings)
    foreign = {n for n, of in table.items() if not of.belongs_to(parts) and all(map(is_custom, of.owners))}
    return {name: value for name, value in settings.items() if name not in foreign}
