"""From a flat mapping of settings (`{method: backmix, epochs: 20, mask_ratio: 0.25}`) to a `TrialConfig`.

Nothing here imports torch, so a driver can read it cheaply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from trainables.protocols.protocols import protocol_of
from trainables.reading.values import convert, misread, shown
from trainables.reading.yaml_file import SHOWN_PROBLEMS, ConfigError, Problem, nearest, under
from trainables.settings.backbones import parse_backbone
from trainables.settings.base import ObjectiveSettings
from trainables.settings.config import TRIAL_SETTINGS, TrialConfig
from trainables.settings.contradictions import contradictions
from trainables.settings.custom import custom_part, is_custom, mix_settings, objective_settings, own_backbone
from trainables.settings.libraries import check_network, of_library
from trainables.settings.methods import METHODS, laid_over, method_of
from trainables.settings.mixes import MIXES, MixSettings
from trainables.settings.objectives import OBJECTIVES
from trainables.settings.score_names import EXTRA_SCORES, SCORE_NAMES, SCORING

Settings = Mapping[str, Any]
OWN_SCORES = tuple(dict.fromkeys(score for objective in OBJECTIVES.values() for score in objective.own_scores))


def resolve(settings: Settings) -> TrialConfig:
    """The trial that a flat mapping means. Settings of other objectives and mixes are dropped, so one base serves many
    rows.

    Raises `ConfigError` that lists every unknown key, wrong type and impossible value.
    """
    checked, problems = check_settings(settings)
    if problems:
        raise ConfigError(problems)
    objective, mix = parts_of(checked)
    learning, mixing = objective_settings(objective), mix_settings(mix)
    recipe = _recipe(objective, mix, checked.get("recipe", "paper"))
    merged = {**learning.defaults, **check_settings(recipe, [objective, mix])[0], **checked}
    own = {name: merged[name] for name in TRIAL_SETTINGS if name in merged} | {"objective": objective, "mix": mix}
    if own.get("image_size") == protocol_of(own.get("protocol", TrialConfig.protocol)).image_size:
        del own["image_size"]  # said or not, it is the same trial
    chosen, mixed = ({f.name: merged[f.name] for f in fields(of) if f.name in merged} for of in (learning, mixing))
    teacher = None
    if "teacher" in (f.name for f in fields(learning)):
        teacher = _teacher_of(checked, chosen.get("teacher", {}))
        chosen["teacher"] = _own_settings(teacher)
    try:
        learnt, mix_of = learning(**chosen), mixing(**mixed)
    except ValueError as error:  # what a part of one's own checks in __post_init__
        raise ConfigError([Problem(("objective",), f"{objective}, {mix}: {error}")]) from error
    config = TrialConfig(**own, objective_settings=learnt, mix_settings=mix_of, teacher=teacher)
    if problems := list(contradictions(config)):
        raise ConfigError(problems)
    return config


def parts_of(settings: Settings) -> tuple[str, str]:
    """The objective and the mix that settings, each right by itself, name.

    Raises `ConfigError` where they name none, or two that contradict each other.
    """
    method = METHODS.get(settings.get("method", ""), {})
    for name, fixed in method.items():
        if settings.get(name, fixed) != fixed:
            message = f"{settings['method']} has the {name} {fixed}: leave one of them out"
            raise ConfigError([Problem((name,), message)])
    named = {**method, **settings}
    if "objective" not in named:
        message = f"is missing; one of {', '.join(METHODS)}, or else an objective ({', '.join(OBJECTIVES)}) and a mix"
        raise ConfigError([Problem(("method",), message)])
    objective = str(named["objective"])
    return objective, str(named.get("mix", objective_settings(objective).defaults.get("mix", "none")))


def owners_of(settings: Settings) -> set[str]:
    """The objective and the mix that settings name, as far as they name them; whatever else is wrong with them."""
    method = METHODS.get(str(settings.get("method")), {})
    objective = method.get("objective", settings.get("objective"))
    try:
        default = objective_settings(str(objective)).defaults.get("mix", "none") if objective else None
    except (KeyError, ValueError):
        default = None
    mix = method.get("mix", settings.get("mix", default))
    return {str(part) for part in (objective, mix) if part}


def called(settings: Settings) -> str:
    """The method of settings, or the objective and the mix that they name."""
    parts = owners_of(settings)
    objective, mix = (next(iter(parts & {*known}), "") for known in (OBJECTIVES, MIXES))
    return method_of(objective, mix) or " with ".join(sorted(parts)) or "nothing"


def has_teacher(settings: Settings) -> bool:
    """Whether the objective that settings name learns from a teacher."""
    parts = owners_of(settings)
    return bool(parts & {*settings_table(parts)["teacher"].owners})


def _recipe(objective: str, mix: str, name: str) -> Settings:
    """What a recipe of both sets. One that mixes do not know (`original`) changes what the objective says alone.

    Raises `ConfigError` where one of them should have a recipe of that name, and has none.
    """
    of_objective, of_mix = objective_settings(objective).recipes, mix_settings(mix).recipes
    lacks = objective if name not in of_objective else mix if name in MixSettings.recipes.keys() - of_mix else ""
    if lacks:
        raise ConfigError([Problem(("recipe",), f"{lacks} has no recipe {name!r}")])
    return {**of_objective[name], **of_mix.get(name, {})}


# What a teacher cannot have otherwise than its student: the images, their division, and how it is judged.
SHARED_WITH_TEACHER = {"protocol", "split_family", "split", "seed", "images_per_class", "holdout", "pseudo_unknown"}
SHARED_WITH_TEACHER |= {"image_size", "normalisation", "training_view"}
SHARED_WITH_TEACHER |= SCORING | {"evaluate", "test"}
_NOT_ITS_OWN = "is its student's: a teacher sees the same images, divided in the same way"
_NOT_OF_A_TEACHER = {
    "split",
    "seed",
    "method",
    "objective",
    "mix",
    "teacher",
    "weights",
    "head",
    "train",
}  # or not before its own are known
_TEACHERS: dict[str, TrialConfig] = {}  # a table has few teachers, each of many trials: by what they are told


def _teacher_of(student: Settings, changes: Settings) -> TrialConfig:
    """The teacher of a student with these settings: all that is written of it, its recipe too, with `changes` laid
    over; `plain` unless said. What the teacher's objective and mix lack stays out, a recipe as well.

    Raises `ConfigError`, with paths under `teacher`.
    """
    told = laid_over({"method": "plain"}, changes)
    known = settings_table(owners_of(told))
    given = {n: v for n, v in student.items() if n in known and n not in _NOT_OF_A_TEACHER}
    if "recipe" in given:
        try:
            _recipe(*parts_of(told), given["recipe"])
        except ConfigError:
            del given["recipe"]
    if given.get("score") in OWN_SCORES and given["score"] not in objective_settings(parts_of(told)[0]).own_scores:
        del given["score"]  # its student's objective alone defines it
    given = {**given, **told}
    key = repr(sorted(given.items()))
    if key not in _TEACHERS:
        if len(_TEACHERS) >= 10_000:
            _TEACHERS.clear()
        _TEACHERS[key] = _resolved_teacher(given)
    return _TEACHERS[key].at(student.get("split", TrialConfig.split), student.get("seed", TrialConfig.seed))


def _resolved_teacher(given: Settings) -> TrialConfig:
    try:
        teacher = resolve(given)
    except ConfigError as error:
        raise ConfigError(under(("teacher",), error.problems)) from error
    if teacher.teacher or len(teacher.training_sets) > 1:
        needs = "a teacher" if teacher.teacher else "outliers"
        raise ConfigError([Problem(("teacher", "method"), f"{teacher.method} needs {needs}: it cannot be a teacher")])
    return teacher


def teacher_settings(student: Settings, changes: Settings) -> dict[str, Any]:
    """Every setting of a teacher that is its own, as `_teacher_of` resolves it.

    Raises `ConfigError`, with paths under `teacher`.
    """
    return _own_settings(_teacher_of(student, changes))


def _own_settings(teacher: TrialConfig) -> dict[str, Any]:
    return {name: value for name, value in teacher.settings().items() if name not in SHARED_WITH_TEACHER}


@dataclass(frozen=True)
class Setting:
    """One setting: its type as annotated, and the objectives and mixes that have it (none: every trial has it)."""

    annotation: Any
    owners: tuple[str, ...] = ()

    def belongs_to(self, parts: Iterable[str]) -> bool:
        """Whether trials with this objective and this mix have it."""
        return not self.owners or not {*self.owners}.isdisjoint(parts)


def _known_settings() -> dict[str, Setting]:
    hints = get_type_hints(TrialConfig, include_extras=True)
    table = {name: Setting(hints[name]) for name in TRIAL_SETTINGS}
    for name, known in (("objective", OBJECTIVES), ("mix", MIXES), ("method", METHODS)):
        table[name] = Setting(Literal[tuple(known)])
    table["score"] = Setting(Literal[(*SCORE_NAMES, *EXTRA_SCORES, *OWN_SCORES)])
    parts: dict[str, type[Any]] = {**OBJECTIVES, **MIXES}
    table["recipe"] = Setting(Literal[tuple(dict.fromkeys(r for part in parts.values() for r in part.recipes))])
    for owner, part in parts.items():
        table |= _settings_of_part(owner, part, table)
    return table


def _settings_of_part(owner: str, part: type[Any], table: Mapping[str, Setting]) -> Iterator[tuple[str, Setting]]:
    """Each setting of an objective or a mix, which joins the owners that have it in `table`."""
    for name, hint in get_type_hints(part, include_extras=True).items():
        if get_origin(hint) is not ClassVar:
            owners = table[name].owners if name in table else ()
            yield name, Setting(hint, (*owners, owner))


SETTINGS: dict[str, Setting] = _known_settings()  # of the built-in objectives and mixes
SCORES: tuple[str, ...] = get_args(SETTINGS["score"].annotation)


def settings_table(parts: Iterable[str] = ()) -> dict[str, Setting]:
    """`SETTINGS`, and those of one's own objectives and mixes among `parts`; what cannot be used adds nothing."""
    return _table(tuple(sorted({part for part in parts if is_custom(part) and not _trouble(part)})))


@cache
def _table(custom: tuple[str, ...]) -> dict[str, Setting]:
    """Raises `ValueError` where two parts mean different values by one name."""
    table = dict(SETTINGS)
    for owner in custom:
        settings = custom_part(owner).settings
        for name, setting in _settings_of_part(owner, settings, table):
            if name in table and not table[name].owners:
                raise ValueError(f"{settings.__name__}.{name} has the name of a setting of every trial: choose another")
            if name in table and table[name].annotation != setting.annotation:
                raise ValueError(
                    f"{settings.__name__}.{name} is a setting of {', '.join(table[name].owners)} too, with other "
                    "values: choose another name, or their type"
                )
            table[name] = setting
        recipes = dict.fromkeys([*get_args(table["recipe"].annotation), *settings.recipes])
        table["recipe"] = Setting(Literal[tuple(recipes)])
        if issubclass(settings, ObjectiveSettings):
            scores = dict.fromkeys([*get_args(table["score"].annotation), *settings.own_scores])
            table["score"] = Setting(Literal[tuple(scores)])
    return table


@cache
def _trouble(part: str) -> str:
    """Why an objective or a mix of one's own cannot be used; empty where it can."""
    try:
        table = _table((part,))
        for recipe, bundle in custom_part(part).settings.recipes.items():
            _, problems = _check(bundle, table)
            if problems:
                raise ValueError(f"its recipe {recipe!r}: {ConfigError(problems)}")
    except ValueError as error:
        return str(error)
    return ""


def check_settings(settings: Settings, parts: Iterable[str] = ()) -> tuple[dict[str, Any], list[Problem]]:
    """Type and range of each setting by itself: the values, converted, and what is wrong with the others.

    Settings of the built-in objectives and mixes are known, and those of one's own that the mapping or `parts` name.
    """
    named = [v for v in (settings.get("objective"), settings.get("mix")) if isinstance(v, str)]
    return _check(settings, settings_table([*parts, *named]))


def _check(settings: Settings, table: Mapping[str, Setting]) -> tuple[dict[str, Any], list[Problem]]:
    checked: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in settings.items():
        if name not in table:
            near = nearest(str(name), table) if len(problems) < SHOWN_PROBLEMS else ""  # which takes its time
            problems.append(Problem((str(name),), f"unknown setting{near}"))
            continue
        try:
            if name in _NAMED:
                checked[name] = _part(name, value)
                continue
            if name == "method" and is_custom(value):
                raise ValueError(f"{shown(value)}: what is one's own is a mix or an objective: write `mix: {value}`")
            checked[name] = convert(value, table[name].annotation)
            if name == "backbone":
                _check_backbone(value)
            if name == "protocol":
                protocol_of(checked[name])
            if name == "teacher":
                problems += _teacher_problems(checked[name])
        except ValueError as error:
            problems.append(Problem((name,), str(error)))
    return checked, problems


def _check_backbone(name: str) -> None:
    """Raises `ValueError` where there is no such network."""
    if is_custom(name):
        own_backbone(name)
    elif of_library(name):
        check_network(name)
    else:
        parse_backbone(name)


_NAMED: dict[str, Callable[[str], type[Any]]] = {"objective": objective_settings, "mix": mix_settings}


def _part(kind: str, value: Any) -> str:
    """The name of an objective or a mix. Raises `ValueError` where there is no such one, or it cannot be used."""
    known: Mapping[str, Any] = OBJECTIVES if kind == "objective" else MIXES
    if is_custom(value):
        if trouble := _trouble(value):
            raise ValueError(trouble)
        _NAMED[kind](value)
    elif not isinstance(value, str) or value not in known:
        hint = nearest(value, known) if isinstance(value, str) else misread(value)
        raise ValueError(f"{shown(value)} is not one of {', '.join(known)}{hint}, nor package.module:Class")
    return str(value)


def _teacher_problems(changes: Settings) -> Iterator[Problem]:
    _, problems = check_settings(changes)
    shared = [Problem((name,), _NOT_ITS_OWN) for name in changes if name in SHARED_WITH_TEACHER]
    yield from under(("teacher",), [*problems, *shared])
