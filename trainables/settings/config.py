"""The vocabulary of a trial: its settings, their ranges, and its identity.

A trial is written as a flat mapping of settings (`{method: backmix, epochs: 20, mask_ratio: 0.25}`).
`TrialConfig.from_settings` resolves it; nothing here imports torch, so a driver can read it cheaply.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import yaml

from trainables.protocols.protocols import evaluation_sets, images_key, known_classes, protocol_of, stored_size
from trainables.reading.values import convert, misread, shown
from trainables.reading.yaml_file import SHOWN_PROBLEMS, ConfigError, Problem, nearest, under
from trainables.settings.backbones import parse_backbone
from trainables.settings.contradictions import contradictions
from trainables.settings.custom import is_custom, settings_of
from trainables.settings.identity import identity
from trainables.settings.methods import METHODS, CatImgSettings, DistillSettings, MethodSettings, Range

RecordedScore = Literal["msp", "mls", "energy", "feature_norm"]  # one forward pass gives them: every trial has them
RequestedScore = Literal["odin", "mahalanobis"]  # further passes
SCORE_NAMES: tuple[str, ...] = get_args(RecordedScore)
EXTRA_SCORES: tuple[str, ...] = get_args(RequestedScore)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One training, fully resolved. Fields up to `pseudo_unknown` shape the weights and make the identity."""

    method: str
    learner: MethodSettings

    protocol: str = "digits"  # a name of trainables.protocols.protocols, or the file of one's own
    split_family: str = "agc"
    split: Annotated[int, Range(0)] = 0
    seed: Annotated[int, Range(0)] = 0
    backbone: str = "wrn40-4"  # a name that trainables.settings.backbones reads
    epochs: Annotated[int, Range(1)] = 200
    batch_size: Annotated[int, Range(2)] = 128
    lr: Annotated[float, Range(0, open_low=True)] = 0.1
    momentum: Annotated[float, Range(0, 0.9999)] = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Range(0)] = 5e-4
    optimizer: Literal["sgd", "adam"] = "sgd"  # momentum and nesterov are SGD's
    schedule: Literal["cosine", "multistep", "constant"] = "cosine"
    milestones: tuple[int, ...] = ()  # epochs after which `multistep` multiplies the lr by `lr_factor`
    lr_factor: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    restarts: Annotated[int, Range(0)] = 0  # of `cosine`, in equal parts
    warmup_epochs: Annotated[int, Range(0)] = 0  # the lr grows from 0 linearly, batch by batch
    image_size: Annotated[int, Range(8, 1024)] | None = None  # px that the network sees; None: the protocol's
    normalisation: Literal["half", "cifar10", "training"] = "half"  # of pixels; see trainables.data.augment
    training_view: Literal["raw", "fg", "fg-raw", "fg-bg"] = "raw"  # where images have masks: BackMix, Table I
    crop_padding: Annotated[int, Range(0, 16)] = 4
    crop_fill: Literal["reflect", "black"] = "reflect"  # CSSR's recipe reflects; both official codes pad with black
    flip: bool | None = None  # whether half of the images are mirrored; None: all but signs (the protocol's)
    augment_first: Literal["none", "agc-randaugment"] = "none"  # before crop and flip: the asymmetric code, and AGC's
    augment: Literal["none", "randaugment", "augmix", "randomized-quantization"] = "none"  # after crop and flip
    randaugment_ops: Annotated[int, Range(1, 14)] = 1  # N of either; the asymmetric code has (1, 9) for every set
    randaugment_magnitude: Annotated[int, Range(0, 30)] = 9  # M of either
    precision: Literal["fp32", "bf16"] = "fp32"
    images_per_class: Annotated[int, Range(2)] | None = None  # the training set cut to so many first; None: all
    holdout: Annotated[float, Range(0, 0.5)] = 0.0  # share of the known training images kept for validation
    pseudo_unknown: Annotated[int, Range(0)] = 0  # known classes kept out of training, unknown in validation

    score: Literal[RecordedScore, RequestedScore] = "msp"  # what `test/auroc` and `val/auroc` mean
    extra_scores: tuple[RequestedScore, ...] | None = None  # recorded at the end of the trial beside those of every one
    odin_temperature: Annotated[float, Range(0, open_low=True)] = 1000.0
    odin_epsilon: Annotated[float, Range(0)] = 0.0014  # of a pixel in 0..1, as the released code has it
    evaluate: tuple[str, ...] | None = None  # unknown sets; None: the protocol's own
    test: bool = True  # False: the test set is not even loaded

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> TrialConfig:
        """Resolve a flat mapping. Settings of other methods are dropped, so one base serves many rows.

        Raises `ConfigError` that lists every unknown key, wrong type and impossible value.
        """
        checked, problems = check_settings(settings)
        if problems:
            raise ConfigError(problems)
        method = checked.get("method")
        if method is None:
            raise ConfigError([Problem(("method",), f"is missing; one of {', '.join(METHODS)}")])
        learner_type = settings_of(method)
        recipe, _ = check_settings(learner_type.recipes[checked.get("recipe", "paper")], [method])
        merged = {**recipe, **checked}
        own = {name: merged[name] for name in _OWN if name in merged}
        if own.get("image_size") == protocol_of(own.get("protocol", cls.protocol)).image_size:
            del own["image_size"]  # said or not, it is the same trial
        chosen = {name: merged[name] for name in _names_of(method) if name in merged}
        if issubclass(learner_type, DistillSettings):
            chosen["teacher"] = teacher_settings(checked, chosen.get("teacher", {}))
        try:
            learner = learner_type(**chosen)
        except ValueError as error:  # what a method of one's own checks in __post_init__
            raise ConfigError([Problem(("method",), f"{method}: {error}")]) from error
        config = cls(learner=learner, **own)
        if problems := list(contradictions(config)):
            raise ConfigError(problems)
        return config

    def at(self, split: int, seed: int) -> TrialConfig:
        """The same trial on another split and with another seed; its teacher too.

        Much cheaper than to resolve the settings once more. Raises `ValueError` for a split that the family lacks.
        """
        if (split, seed) not in self._moved:
            known_classes(self.protocol, self.split_family, split)
            other = replace(self, split=split, seed=seed)
            if self.teacher:
                other.__dict__["teacher"] = self.teacher.at(split, seed)
            self._moved[split, seed] = other
        return self._moved[split, seed]

    @cached_property
    def _moved(self) -> dict[tuple[int, int], TrialConfig]:
        return {}  # by split and seed: a teacher is moved with each of its students

    def settings(self) -> dict[str, Any]:
        """The flat mapping again, with every default written out: what `config.yaml` holds."""
        flat = {name: getattr(self, name) for name in _OWN}
        flat["evaluate"] = list(self.evaluation_sets)
        return {**flat, **{name: getattr(self.learner, name) for name in _names_of(self.method)}}

    @property
    def known_classes(self) -> tuple[int, ...]:
        """All known classes of the split, pseudo-unknown ones included."""
        return known_classes(self.protocol, self.split_family, self.split)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        return self.evaluate or evaluation_sets(self.protocol, self.split_family)[:1]

    @property
    def seen_size(self) -> int:
        """The side of the images that the network sees, in px."""
        return self.image_size or protocol_of(self.protocol).image_size

    @property
    def flips(self) -> bool:
        """Whether half of the training images are mirrored."""
        return protocol_of(self.protocol).flip if self.flip is None else self.flip

    @property
    def training_sets(self) -> tuple[str, ...]:
        """Image sets whose training images shape the weights: the protocol's, then a set of outliers."""
        own = protocol_of(self.protocol).image_set
        return (own, self.learner.outlier_set) if isinstance(self.learner, CatImgSettings) else (own,)

    @property
    def training_images(self) -> tuple[str, ...]:
        """What `training_sets` are called among fingerprints, at the size at which they are stored."""
        stored = stored_size(self.seen_size)
        return tuple(images_key(name, stored) for name in self.training_sets)

    @cached_property
    def teacher(self) -> TrialConfig | None:
        """The trial whose weights this one needs: on the same images, divided in the same way."""
        if not isinstance(self.learner, DistillSettings):
            return None
        shared = {name: getattr(self, name) for name in _OWN if name in _SHARED_WITH_TEACHER}
        settings = {**shared, **self.learner.teacher}
        key = repr(sorted(settings.items()))
        if key not in _TEACHERS:
            _remember(_TEACHERS, key, TrialConfig.from_settings(settings))
        return _TEACHERS[key]

    def scores_on_request(self, *, last: bool) -> tuple[str, ...]:
        """Which of `EXTRA_SCORES` an evaluation computes: `score` always, since a search is judged by it after any
        epoch; those of `extra_scores` only in the `last`, since they cost more than the rest of it."""
        asked = {self.score, *((self.extra_scores or ()) if last else ())}
        return tuple(score for score in EXTRA_SCORES if score in asked)

    def identity(self, fingerprints: Mapping[str, str]) -> str:
        """Hash of what shapes the weights, given the fingerprint of each of `training_images`: 16 hex digits."""
        images = tuple(fingerprints[name] for name in self.training_images)
        if images not in self._identities:
            self._identities[images] = identity(self, fingerprints)
        return self._identities[images]

    @cached_property
    def _identities(self) -> dict[tuple[str, ...], str]:
        return {}  # by fingerprints: a teacher is asked for its own by each of its students


def config_yaml(config: TrialConfig) -> str:
    """The resolved settings as the file that `python -m trainables.trial` runs."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in config.settings().items()}
    return yaml.safe_dump(plain, sort_keys=False)


# What a teacher cannot have otherwise than its student: the images, their division, and how it is judged.
_SHARED_WITH_TEACHER = {"protocol", "split_family", "split", "seed", "images_per_class", "holdout", "pseudo_unknown"}
_SHARED_WITH_TEACHER |= {"image_size", "normalisation", "training_view"}
_SHARED_WITH_TEACHER |= {"score", "extra_scores", "odin_temperature", "odin_epsilon", "evaluate", "test"}


# A table has few teachers, each of many trials.
_TEACHERS: dict[str, TrialConfig] = {}
_TEACHER_SETTINGS: dict[str, dict[str, Any]] = {}
_TEACHER_PROBLEMS: dict[str, list[Problem]] = {}
_NOT_ITS_OWN = "is its student's: a teacher sees the same images, divided in the same way"


def _remember(kept: dict[str, Any], key: str, value: Any) -> None:
    if len(kept) >= 10_000:
        kept.clear()
    kept[key] = value


def teacher_settings(student: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a teacher that is its own: all that is written of its student, its recipe too, with `changes`
    laid over; `plain` unless said. What the teacher's method lacks of it stays out, a recipe that it lacks as well.

    Raises `ConfigError`, with paths under `teacher`.
    """
    # What does not reach the result stays out of what it is remembered by: the split is its student's to check.
    method = changes.get("method", "plain")
    known = settings_table([method])
    given = {n: v for n, v in student.items() if n in known and n not in ("split", "seed", "method", "teacher")}
    if "recipe" in given and check_settings({"method": method, "recipe": given["recipe"]})[1]:
        del given["recipe"]
    given = {**given, "method": method, **changes}
    key = repr(sorted(given.items()))
    if key not in _TEACHER_SETTINGS:
        _remember(_TEACHER_SETTINGS, key, _teacher_settings(given))
    return dict(_TEACHER_SETTINGS[key])


def _teacher_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        teacher = TrialConfig.from_settings(given)
    except ConfigError as error:
        raise ConfigError([Problem(("teacher", *p.path), p.message) for p in error.problems]) from error
    if teacher.teacher or len(teacher.training_sets) > 1:
        needs = "a teacher" if teacher.teacher else "outliers"
        raise ConfigError([Problem(("teacher", "method"), f"{teacher.method} needs {needs}: it cannot be a teacher")])
    return {name: value for name, value in teacher.settings().items() if name not in _SHARED_WITH_TEACHER}


@dataclass(frozen=True)
class Setting:
    """One setting: its type as annotated, and the methods that have it (empty: every trial has it)."""

    annotation: Any
    methods: tuple[str, ...] = ()


_OWN: tuple[str, ...] = tuple(f.name for f in fields(TrialConfig) if f.name != "learner")


@cache
def _names_of(method: str) -> tuple[str, ...]:
    """The settings that a method has beside those of every trial."""
    return tuple(f.name for f in fields(settings_of(method)))


def _known_settings() -> dict[str, Setting]:
    hints = get_type_hints(TrialConfig, include_extras=True)
    table = {name: Setting(hints[name]) for name in _OWN}
    table["method"] = Setting(Literal[tuple(METHODS)])
    table["recipe"] = Setting(Literal[tuple(dict.fromkeys(r for m in METHODS.values() for r in m.recipes))])
    for method, learner in METHODS.items():
        table |= _settings_of_method(method, learner, table)
    return table


def _settings_of_method(
    method: str, learner: type[MethodSettings], table: Mapping[str, Setting]
) -> Iterator[tuple[str, Setting]]:
    """Each setting of a method, which joins the methods of `table` that have it too."""
    for name, hint in get_type_hints(learner, include_extras=True).items():
        if get_origin(hint) is not ClassVar:
            owners = table[name].methods if name in table else ()
            yield name, Setting(hint, (*owners, method))


SETTINGS: dict[str, Setting] = _known_settings()  # of the built-in methods


def settings_table(methods: Iterable[str] = ()) -> dict[str, Setting]:
    """`SETTINGS`, and those of every method of one's own among `methods`; one that cannot be used adds nothing."""
    return _table(tuple(sorted({m for m in methods if is_custom(m) and not _trouble(m)})))


@cache
def _table(custom: tuple[str, ...]) -> dict[str, Setting]:
    """Raises `ValueError` where two methods mean different values by one name."""
    table = dict(SETTINGS)
    for method in custom:
        settings = settings_of(method)
        for name, setting in _settings_of_method(method, settings, table):
            if name in table and not table[name].methods:
                raise ValueError(f"{settings.__name__}.{name} has the name of a setting of every trial: choose another")
            if name in table and table[name].annotation != setting.annotation:
                raise ValueError(
                    f"{settings.__name__}.{name} is a setting of {', '.join(table[name].methods)} too, with other "
                    "values: choose another name, or their type"
                )
            table[name] = setting
        recipes = dict.fromkeys([*get_args(table["recipe"].annotation), *settings.recipes])
        table["recipe"] = Setting(Literal[tuple(recipes)])
    return table


@cache
def _trouble(method: str) -> str:
    """Why a method of one's own cannot be used; empty where it can."""
    try:
        table = _table((method,))
        for recipe, bundle in settings_of(method).recipes.items():
            _, problems = _check(bundle, table)
            if problems:
                raise ValueError(f"its recipe {recipe!r}: {ConfigError(problems)}")
    except ValueError as error:
        return str(error)
    return ""


def check_settings(settings: Mapping[str, Any], methods: Iterable[str] = ()) -> tuple[dict[str, Any], list[Problem]]:
    """Type and range of each setting by itself: the values, converted, and what is wrong with the others.

    Settings of the built-in methods are known, and those of the mapping's own `method` and of `methods`.
    """
    method = settings.get("method")
    named = [*methods, method] if isinstance(method, str) else methods
    return _check(settings, settings_table(named))


def _check(settings: Mapping[str, Any], table: Mapping[str, Setting]) -> tuple[dict[str, Any], list[Problem]]:
    checked: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in settings.items():
        if name not in table:
            near = nearest(str(name), table) if len(problems) < SHOWN_PROBLEMS else ""  # which takes its time
            problems.append(Problem((str(name),), f"unknown setting{near}"))
            continue
        try:
            if name == "method":
                checked[name] = _method(value)
                continue
            checked[name] = convert(value, table[name].annotation)
            if name == "backbone":
                parse_backbone(checked[name])
            if name == "protocol":
                protocol_of(checked[name])
            if name == "teacher":
                problems += _teacher_problems(checked[name])
        except ValueError as error:
            problems.append(Problem((name,), str(error)))
    method = checked.get("method")
    recipe = checked.get("recipe")
    if method is not None and recipe is not None and recipe not in settings_of(method).recipes:
        problems.append(Problem(("recipe",), f"{method} has no recipe {recipe!r}"))
    return checked, problems


def _method(value: Any) -> str:
    if is_custom(value):
        if trouble := _trouble(value):
            raise ValueError(trouble)
    elif not isinstance(value, str) or value not in METHODS:
        hint = nearest(value, METHODS) if isinstance(value, str) else misread(value)
        raise ValueError(f"{shown(value)} is not one of {', '.join(METHODS)}{hint}, nor package.module:Class")
    return str(value)


def _teacher_problems(changes: Mapping[str, Any]) -> list[Problem]:
    key = repr(changes)
    if key not in _TEACHER_PROBLEMS:
        _, problems = check_settings(changes)
        shared = [Problem((name,), _NOT_ITS_OWN) for name in changes if name in _SHARED_WITH_TEACHER]
        _remember(_TEACHER_PROBLEMS, key, list(under(("teacher",), [*problems, *shared])))
    return _TEACHER_PROBLEMS[key]
