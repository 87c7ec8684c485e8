"""The vocabulary of a trial: its settings, their ranges, and its identity.

A trial is written as a flat mapping of settings (`{method: backmix, epochs: 20, mask_ratio: 0.25}`).
`TrialConfig.from_settings` resolves it; nothing here imports torch, so a driver can read it cheaply.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from trainables.backbones import parse_backbone
from trainables.contradictions import contradictions
from trainables.data.protocols import PROTOCOLS, evaluation_sets, known_classes
from trainables.identity import identity
from trainables.methods import METHODS, CatImgSettings, DistillSettings, MethodSettings, Range
from trainables.yaml_file import ConfigError, Problem, nearest

RecordedScore = Literal["msp", "mls", "energy", "feature_norm"]  # one forward pass gives them: every trial has them
RequestedScore = Literal["odin", "mahalanobis"]  # further passes
SCORE_NAMES: tuple[str, ...] = get_args(RecordedScore)
EXTRA_SCORES: tuple[str, ...] = get_args(RequestedScore)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One training, fully resolved. Fields up to `pseudo_unknown` shape the weights and make the identity."""

    method: str
    learner: MethodSettings

    protocol: str = "digits"
    split_family: str = "agc"
    split: Annotated[int, Range(0)] = 0
    seed: Annotated[int, Range(0)] = 0
    backbone: str = "wrn40-4"  # a name that trainables.backbones reads
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
    crop_padding: Annotated[int, Range(0, 16)] = 4
    crop_fill: Literal["reflect", "black"] = "reflect"  # CSSR's recipe reflects; BackMix's file pads with black
    augment: Literal["none", "randaugment", "augmix", "randomized-quantization"] = "none"  # after crop and flip
    randaugment_ops: Annotated[int, Range(1, 14)] = 1  # N; the asymmetric code has (1, 9) for every set
    randaugment_magnitude: Annotated[int, Range(0, 30)] = 9  # M
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
        recipe = METHODS[method].recipes[checked.pop("recipe", "paper")]
        merged = {**recipe, **checked}
        own = {f.name: merged[f.name] for f in _own_fields() if f.name in merged}
        learner_type = METHODS[method]
        chosen = {f.name: merged[f.name] for f in fields(learner_type) if f.name in merged}
        if issubclass(learner_type, DistillSettings):
            chosen["teacher"] = teacher_settings(own, chosen.get("teacher", {}))
        config = cls(learner=learner_type(**chosen), **own)
        if problems := list(contradictions(config)):
            raise ConfigError(problems)
        return config

    def settings(self) -> dict[str, Any]:
        """The flat mapping again, with every default written out: what `config.yaml` holds."""
        flat = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "learner"}
        flat["evaluate"] = list(self.evaluation_sets)
        return {**flat, **{f.name: getattr(self.learner, f.name) for f in fields(self.learner)}}

    @property
    def known_classes(self) -> tuple[int, ...]:
        """All known classes of the split, pseudo-unknown ones included."""
        return known_classes(self.protocol, self.split_family, self.split)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        return self.evaluate or evaluation_sets(self.protocol, self.split_family)[:1]

    @property
    def training_sets(self) -> tuple[str, ...]:
        """Image sets whose training images shape the weights: the protocol's, then a set of outliers."""
        own = PROTOCOLS[self.protocol].image_set
        return (own, self.learner.outlier_set) if isinstance(self.learner, CatImgSettings) else (own,)

    @property
    def teacher(self) -> TrialConfig | None:
        """The trial whose weights this one needs: on the same images, divided in the same way."""
        if not isinstance(self.learner, DistillSettings):
            return None
        shared = {f.name: getattr(self, f.name) for f in _own_fields() if f.name in _SHARED_WITH_TEACHER}
        return TrialConfig.from_settings({**shared, **self.learner.teacher})

    def scores_on_request(self, *, last: bool) -> tuple[str, ...]:
        """Which of `EXTRA_SCORES` an evaluation computes: `score` always, since a search is judged by it after any
        epoch; those of `extra_scores` only in the `last`, since they cost more than the rest of it."""
        asked = {self.score, *((self.extra_scores or ()) if last else ())}
        return tuple(score for score in EXTRA_SCORES if score in asked)

    def identity(self, fingerprints: Mapping[str, str]) -> str:
        """Hash of what shapes the weights, given the fingerprint of each of `training_sets`: 16 hex digits."""
        return identity(self, fingerprints)


# What a teacher cannot have otherwise than its student: the images, their division, and how it is judged.
_SHARED_WITH_TEACHER = {"protocol", "split_family", "split", "seed", "images_per_class", "holdout", "pseudo_unknown"}
_SHARED_WITH_TEACHER |= {"score", "extra_scores", "odin_temperature", "odin_epsilon", "evaluate", "test"}


def teacher_settings(student: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a teacher that is its own: its student's, with `changes` laid over, `plain` unless said.

    Raises `ConfigError`, with paths under `teacher`.
    """
    try:
        teacher = TrialConfig.from_settings({**student, "method": "plain", **changes})
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


def _known_settings() -> dict[str, Setting]:
    hints = get_type_hints(TrialConfig, include_extras=True)
    table = {f.name: Setting(hints[f.name]) for f in _own_fields()}
    table["method"] = Setting(Literal[tuple(METHODS)])
    table["protocol"] = Setting(Literal[tuple(PROTOCOLS)])
    table["recipe"] = Setting(Literal[tuple(dict.fromkeys(r for m in METHODS.values() for r in m.recipes))])
    for method, learner in METHODS.items():
        for name, hint in get_type_hints(learner, include_extras=True).items():
            if get_origin(hint) is not ClassVar:
                owners = table[name].methods if name in table else ()
                table[name] = Setting(hint, (*owners, method))
    return table


def _own_fields() -> tuple[Field[Any], ...]:
    return tuple(f for f in fields(TrialConfig) if f.name != "learner")


def check_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Type and range of each setting by itself: the values, converted, and what is wrong with the others."""
    checked, problems = {}, []
    for name, value in settings.items():
        if name not in SETTINGS:
            problems.append(Problem((str(name),), f"unknown setting{nearest(str(name), SETTINGS)}"))
            continue
        try:
            checked[name] = _convert(value, SETTINGS[name].annotation)
            if name == "backbone":
                parse_backbone(checked[name])
            if name == "teacher":
                problems += _teacher_problems(value)
        except ValueError as error:
            problems.append(Problem((name,), str(error)))
    method = checked.get("method")
    recipe = checked.get("recipe")
    if method is not None and recipe is not None and recipe not in METHODS[method].recipes:
        problems.append(Problem(("recipe",), f"{method} has no recipe {recipe!r}"))
    return checked, problems


def _teacher_problems(changes: Mapping[str, Any]) -> Iterator[Problem]:
    _, problems = check_settings(changes)
    for problem in problems:
        yield Problem(("teacher", *problem.path), problem.message)
    for name in changes:
        if name in _SHARED_WITH_TEACHER:
            yield Problem(
                ("teacher", name), "is its student's: a teacher sees the same images, divided in the same way"
            )


def _convert(value: Any, annotation: Any) -> Any:
    """`value` as the annotated type, or `ValueError`. Only what loses nothing is converted (1 to 1.0)."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        number = _convert(value, args[0])
        if number not in args[1]:
            raise ValueError(f"{value!r} is out of range: {args[1]}")
        return number
    if origin in (types.UnionType, Union):
        return None if value is None else _convert(value, next(a for a in args if a is not type(None)))
    if origin is Literal:
        if not isinstance(value, str) or value not in args:
            hint = nearest(value, args) if isinstance(value, str) else ""
            raise ValueError(f"{value!r} is not one of {', '.join(args)}{hint}")
        return value
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"{value!r} is not a mapping of settings, as {{backbone: wrn16-2}}")
        return dict(value)
    if origin is tuple:
        if not isinstance(value, list | tuple) or (args[0] is not int and not value):
            raise ValueError(f"{value!r} is not a list of {'whole numbers' if args[0] is int else 'names'}")
        return tuple(_convert(v, args[0]) for v in value)
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, annotation) or (annotation is not bool and isinstance(value, bool)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ValueError(f"{value!r} is not {names[annotation]}")
    return value


SETTINGS: dict[str, Setting] = _known_settings()
