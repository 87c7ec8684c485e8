"""The shape of a trial: all that it is told. `trainables.settings.resolving` makes one of a flat mapping."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import yaml

from trainables.protocols.protocols import evaluation_sets, images_key, known_classes, protocol_of, stored_size
from trainables.reading.values import Range
from trainables.settings.backbones import map_side
from trainables.settings.base import ObjectiveSettings
from trainables.settings.given import by_name
from trainables.settings.libraries import clip_patches, image_text
from trainables.settings.methods import method_of
from trainables.settings.mixes import MixSettings
from trainables.settings.objectives import CatImgSettings
from trainables.settings.score_names import EXTRA_SCORES, NEIGHBOURS, SCORE_NAMES, SCORE_SETTINGS, RequestedScore


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One training. Fields up to `pseudo_unknown` shape the weights and make the identity."""

    objective: str  # what is learnt: a name of trainables.settings.objectives, or module:Class
    mix: str  # what is done to a batch: a name of trainables.settings.mixes, or module:Class
    objective_settings: ObjectiveSettings
    mix_settings: MixSettings
    teacher: TrialConfig | None = None  # the trial whose weights this one needs: on the same images, divided alike

    protocol: str = "digits"  # data set(s), classes and unknown sets: a published one, or the file of one's own
    split_family: str = "agc"  # whose lists of known classes; `own` for a file of one's own
    split: Annotated[int, Range(0)] = 0
    seed: Annotated[int, Range(0)] = 0
    backbone: str = "wrn40-4"  # wrn40-4, resnet18, 34, 50, 101, vgg13, 16, 19, 32, mobilenetv2, vit-b16, timm:…, …
    weights: str | None = None  # that it begins with: a file ({split}, {seed}: the trial's), a name (torchvision:…)
    head: Literal["split", "sorted", "new"] = "split"  # of `weights`: classes in the split's order, by id; or a new one
    train: Literal["all", "head", "none"] = "all"  # what is trained of `weights`; none: they are evaluated as they are
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
    lr_floor: Annotated[float, Range(0, 1)] = 0.0  # of `cosine`: what each part ends at, as a share of `lr`
    warmup_epochs: Annotated[int, Range(0)] = 0  # the lr grows from 0 linearly, batch by batch
    temperature_period: Annotated[int, Range(1)] | None = None  # NegCos (ICLR 2026), T: epochs of a wave; None: no wave
    temperature_low: Annotated[float, Range(0, open_low=True)] = (
        0.5  # its tau-: cross-entropy divides logits by the wave
    )
    temperature_high: Annotated[float, Range(0, open_low=True)] = 2.0  # its tau+, which training ends with
    image_size: Annotated[int, Range(8, 1024)] | None = None  # px that the network sees; None: the protocol's
    normalisation: Literal["half", "unit", "none", "cifar10", "imagenet", "clip", "training"] = (
        "half"  # .5, .25; -1..1; 0..1; …
    )
    training_view: Literal["raw", "fg", "fg-raw", "fg-bg"] = "raw"  # with masks: BackMix, Table I
    crop_padding: Annotated[int, Range(0, 16)] = 4
    crop_fill: Literal["reflect", "black"] = "reflect"  # CSSR's recipe reflects; both official codes pad with black
    flip: bool | None = None  # whether half of the images are mirrored; None: all but signs (the protocol's)
    augment_first: Literal["none", "agc-randaugment"] = "none"  # before crop and flip: the asymmetric code, and AGC's
    augment: Literal["none", "randaugment", "augmix", "randomized-quantization", "cssr"] = "none"  # after crop and flip
    randaugment_ops: Annotated[int, Range(1, 14)] = 1  # N of either; the asymmetric code has (1, 9) for every set
    randaugment_magnitude: Annotated[int, Range(0, 30)] = 9  # M of either
    precision: Literal["fp32", "bf16"] = "fp32"
    images_per_class: Annotated[int, Range(1)] | None = None  # the training set cut to so many first; None: all
    holdout: Annotated[float, Range(0, 0.5)] = 0.0  # share of the known training images kept for validation
    pseudo_unknown: Annotated[int, Range(0)] = 0  # known classes kept out of training, unknown in validation

    score: str = "msp"  # what `test/auroc` and `val/auroc` mean: one that is recorded, or on request
    extra_scores: tuple[RequestedScore, ...] | None = None  # recorded at the end of the trial beside those of every one
    odin_temperature: Annotated[float, Range(0, open_low=True)] = 1000.0
    odin_epsilon: Annotated[float, Range(0)] = 0.0014  # of a pixel in 0..1, as the released code has it
    knn_k: Annotated[int, Range(1, NEIGHBOURS)] = 50  # which neighbour: Sun et al. have 50 on CIFAR-10
    evaluate: tuple[str, ...] | None = None  # unknown sets; None: the protocol's own; []: none, known classes alone
    test: bool = True  # False: the test set is not even loaded

    @property
    def method(self) -> str:
        """What the papers call its objective with its mix; both names where they have no name for it."""
        return method_of(self.objective, self.mix) or f"{self.objective} × {self.mix}"

    def at(self, split: int, seed: int) -> TrialConfig:
        """The same trial on another split and with another seed; its teacher too.

        Much cheaper than to resolve the settings once more. Raises `ValueError` for a split that the family lacks.
        """
        if (split, seed) not in self._moved:
            known_classes(self.protocol, self.split_family, split)
            teacher = self.teacher.at(split, seed) if self.teacher else None
            self._moved[split, seed] = replace(self, split=split, seed=seed, teacher=teacher)
        return self._moved[split, seed]

    @cached_property
    def _moved(self) -> dict[tuple[int, int], TrialConfig]:
        return {}  # by split and seed: a teacher is moved with each of its students

    def settings(self) -> dict[str, Any]:
        """The flat mapping again, with every default written out: what `config.yaml` holds."""
        flat = {name: getattr(self, name) for name in TRIAL_SETTINGS}
        flat["evaluate"] = list(self.evaluation_sets)
        return {**flat, **vars(self.objective_settings), **vars(self.mix_settings)}

    @property
    def known_classes(self) -> tuple[int, ...]:
        """All known classes of the split, pseudo-unknown ones included."""
        return known_classes(self.protocol, self.split_family, self.split)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        if self.evaluate is not None:
            return self.evaluate
        return evaluation_sets(self.protocol, self.split_family)[:1]

    @property
    def seen_size(self) -> int:
        """The side of the images that the network sees, in px."""
        return self.image_size or protocol_of(self.protocol).image_size

    @property
    def map_side(self) -> int:
        """How many positions the maps of what it sees have along one side. The image tower of an image-text model sees
        every image at the side that it was made for."""
        of_tower = self.objective_settings.image_text and image_text(self.backbone)
        return clip_patches(self.backbone) if of_tower else map_side(self.backbone, self.seen_size)

    @property
    def flips(self) -> bool:
        """Whether half of the training images are mirrored."""
        return protocol_of(self.protocol).flip if self.flip is None else self.flip

    @property
    def weights_file(self) -> str | None:
        """The file of the weights that this trial begins with, as its settings name it."""
        if self.weights is None or by_name(self.weights):
            return None
        return self.weights.replace("{split}", str(self.split)).replace("{seed}", str(self.seed))

    @property
    def training_sets(self) -> tuple[str, ...]:
        """Image sets of which training images are needed: the protocol's, then a set of outliers. None where nothing is
        trained, unless some are held out, or a score is fitted to them."""
        own, learnt = protocol_of(self.protocol).image_set, self.objective_settings
        validated = self.holdout or self.pseudo_unknown or not self.test
        if self.train == "none" and not validated and not {"mahalanobis", "knn"} & {*self.scores_on_request(last=True)}:
            return ()
        return (own, learnt.outlier_set) if isinstance(learnt, CatImgSettings) else (own,)

    @property
    def training_images(self) -> tuple[str, ...]:
        """What `training_sets` are called among fingerprints, at the size at which they are stored."""
        stored = stored_size(self.seen_size)
        return tuple(images_key(name, stored) for name in self.training_sets)

    @property
    def shaped_by(self) -> tuple[str, ...]:
        """What shapes the weights from without, as it is called among fingerprints: images, and a file of weights."""
        images = self.training_images if self.train != "none" else ()
        return (*images, self.weights_file) if self.weights_file else images

    @property
    def recorded_scores(self) -> tuple[str, ...]:
        """Scores that every evaluation has, those that only its objective defines included."""
        return (*SCORE_NAMES, *self.objective_settings.own_scores)

    def scores_on_request(self, *, last: bool) -> tuple[str, ...]:
        """Which of `EXTRA_SCORES` an evaluation computes: `score` always, since a search is judged by it after any
        epoch; those of `extra_scores` only in the `last`, since they cost more than the rest of it."""
        asked = {self.score, *((self.extra_scores or ()) if last else ())}
        return tuple(score for score in EXTRA_SCORES if score in asked)

    def score_settings(self, score: str) -> tuple[float, ...]:
        """What its values of a score depend on beside the network, in the order of `SCORE_SETTINGS`."""
        return tuple(getattr(self, name) for name in SCORE_SETTINGS.get(score, ()))

    @cached_property
    def identities(self) -> dict[tuple[str, ...], str]:
        """By fingerprints of `shaped_by`, those that were computed: a teacher is asked for its own by each student."""
        return {}


TRIAL_SETTINGS: tuple[str, ...] = tuple(
    f.name for f in fields(TrialConfig) if f.name not in ("objective_settings", "mix_settings", "teacher")
)


def config_yaml(config: TrialConfig) -> str:
    """The resolved settings as the file that `python -m trainables.trial` runs."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in config.settings().items()}
    return yaml.safe_dump(plain, sort_keys=False)
