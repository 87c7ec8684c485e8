"""What settings may not mean together, though each is right by itself."""

from __future__ import annotations

from collections.abc import Iterator

from trainables.protocols.class_names import class_names
from trainables.protocols.origins import COLLECTIONS, same_collection
from trainables.protocols.protocols import evaluation_sets, part_of_set, protocol_of, stored_size
from trainables.reading.yaml_file import Problem, nearest
from trainables.settings.backbones import convolutional, one_size, parse_backbone, shows_maps, stride
from trainables.settings.config import TrialConfig
from trainables.settings.dummies import OpenMixSettings
from trainables.settings.given import RANDOM, check_name, check_normalisation
from trainables.settings.image_text import ClipSettings
from trainables.settings.libraries import OPEN_CLIP, image_text
from trainables.settings.mixes import BackMixSettings
from trainables.settings.objectives import (
    AsymmetricSettings,
    CatImgSettings,
    CrossEntropySettings,
    OutlierExposureSettings,
    TeacherFreeSettings,
)
from trainables.settings.points import ArplCsSettings
from trainables.settings.score_names import EXTRA_SCORES

_BEYOND_THE_WAVE = (AsymmetricSettings, TeacherFreeSettings, OutlierExposureSettings)  # of a temperature's


def contradictions(config: TrialConfig) -> Iterator[Problem]:
    """Every mistake that single settings cannot show."""
    protocol = protocol_of(config.protocol)
    try:
        classes = config.known_classes
    except ValueError as error:
        yield Problem(("split_family" if config.split_family not in protocol.families else "split",), str(error))
        return
    if config.pseudo_unknown > len(classes) - 2:
        yield Problem(("pseudo_unknown",), f"leaves fewer than 2 of {len(classes)} known classes to train on")
    if config.pseudo_unknown and not config.holdout:
        message = "is told apart from known images that are held out: write a holdout above 0, too"
        yield Problem(("pseudo_unknown",), message)
    if config.pseudo_unknown and config.test:
        yield Problem(
            ("test",),
            "a trial that keeps known classes out of training cannot be tested as if it knew them: set test: false",
        )
    allowed = evaluation_sets(config.protocol, config.split_family)
    for name in config.evaluate or ():
        if name not in allowed:
            yield Problem(
                ("evaluate",),
                f"{name!r} is not an unknown set of {config.protocol}, family {config.split_family}"
                f"{nearest(name, allowed)}; it has {', '.join(allowed)}",
            )
    scores = (*config.recorded_scores, *EXTRA_SCORES)
    if config.score not in scores:
        yield Problem(("score",), f"{config.method} has no score {config.score!r}; it has {', '.join(scores)}")
    if not convolutional(config.backbone):
        family = parse_backbone(config.backbone).family
        if config.objective_settings.own_head:
            whose = {"vit": "a ViT's head is linear", "own": "this network has a head"}
            message = f"{whose.get(family, 'it shows no maps')}, and {config.objective} has one of its own"
            yield Problem(("backbone",), f"{message}: take a convolutional network")
        elif not getattr(config.objective_settings, "head_bias", True):
            yield Problem(("head_bias",), "a ViT's head has one: take a convolutional network")
    if (teacher := config.teacher) and config.objective_settings.starts_from_teacher:
        if teacher.backbone != config.backbone:
            message = f"{config.objective} goes on from its teacher's weights, so both are of one backbone"
            yield Problem(("teacher", "backbone"), f"{message}: {config.backbone}, not {teacher.backbone}")
        if teacher.objective_settings.own_head:
            message = f"{config.objective} goes on from a linear head, and {teacher.objective} has another"
            yield Problem(("teacher", "objective"), message)
        if config.weights:
            yield Problem(("weights",), f"{config.objective} begins with its teacher's: write them under teacher")
    if config.crop_padding >= stored_size(config.seen_size):
        message = f"{config.crop_padding} px are not less than the side of an image, {config.seen_size} px"
        yield Problem(("crop_padding",), message)
    if config.training_view != "raw" and not protocol.masks:
        yield Problem(
            ("training_view",), f"{config.training_view} needs masks of the objects: {config.protocol} has none"
        )
    if config.optimizer == "sgd" and config.nesterov and config.momentum == 0:
        yield Problem(("momentum",), "Nesterov needs a momentum above 0, or nesterov: false")
    yield from _of_schedule(config)
    yield from _of_weights(config)
    of_towers = list(_of_image_text(config))
    yield from of_towers
    if not any(problem.path == ("backbone",) for problem in of_towers):  # else it has no maps of which more can be said
        yield from _of_method(config)


def _of_image_text(config: TrialConfig) -> Iterator[Problem]:
    """What a method needs whose network is a model of images and texts."""
    learnt = config.objective_settings
    if not learnt.image_text:
        if config.weights == RANDOM:
            yield Problem(("weights",), f"{RANDOM} are towers of an image-text model, and {config.objective} has none")
        return
    method = config.objective
    if not image_text(config.backbone):
        take = f"take a CLIP whose towers are transformers, as {OPEN_CLIP}ViT-B-16-quickgelu"
        yield Problem(("backbone",), f"{method} opens up a model of images and texts, and this is none: {take}")
        return
    if config.weights is None:
        said = f"{method} leaves its towers as they are given: name their weights, or write {RANDOM} to try it out"
        yield Problem(("weights",), said)
    wanted = "none" if isinstance(learnt, ClipSettings) else "head"
    if config.train != wanted:
        what = "nothing" if wanted == "none" else "prompts alone"
        yield Problem(("train",), f"{method} trains {what}, its towers are frozen: write train: {wanted}")
    if config.head != "split":
        yield Problem(("head",), f"{method} has its own, in the order of the split: leave it out")
    for template in getattr(learnt, "templates", ()):
        if template.count("{}") != 1 or template.count("{") != 1:
            yield Problem(("templates",), f"{template!r}: write {{}} once, where the name of a class belongs")
    try:
        class_names(config.protocol)
    except ValueError as error:
        yield Problem(("protocol",), str(error))


def _of_weights(config: TrialConfig) -> Iterator[Problem]:
    if config.weights is None:
        for name in ("head", "train"):
            if (value := getattr(config, name)) != TrialConfig.__dataclass_fields__[name].default:
                yield Problem((name,), f"{value} is said of `weights`, and there are none: name their file")
        return
    try:
        check_name(config.weights, config.backbone)
    except ValueError as error:
        yield Problem(("weights",), str(error))
        return
    if config.train != "all":
        try:
            check_normalisation(config.weights, config.normalisation)
        except ValueError as error:
            yield Problem(("normalisation",), str(error))
    if config.train != "none":
        return
    if config.head == "new":
        yield Problem(("head",), "a new head has to be trained: write train: head, or all")
    if config.objective == "clip" and config.mix != "none":
        yield Problem(("mix",), "clip trains nothing, so nothing is mixed: leave mix out, or take coop or locoop")
    elif config.teacher or config.mix != "none":
        yield Problem(("train",), f"none trains nothing, and {config.method} is about training: write method: plain")
    if config.normalisation == "training":
        yield Problem(("normalisation",), "training is that of training images: write the one that the weights had")


def _of_schedule(config: TrialConfig) -> Iterator[Problem]:
    if config.schedule == "multistep" and not config.milestones:
        yield Problem(("milestones",), "multistep needs them: epochs after which the lr falls, as [60, 120, 160]")
    late = [m for m in config.milestones if not 0 < m < config.epochs]
    if config.schedule == "multistep" and late:
        yield Problem(("milestones",), f"{late[0]} is not between the first and the last of {config.epochs} epochs")
    parts = config.restarts + 1
    if config.schedule == "cosine" and config.restarts and (config.epochs % parts or config.epochs < 2 * parts):
        message = f"{config.restarts} cut {config.epochs} epochs into {parts} parts: these have to be equal, and of 2"
        yield Problem(("restarts",), f"{message} epochs or more, or the lr is high where training ends")
    if config.temperature_period and config.temperature_period >= 2 * config.epochs:
        message = (
            f"{config.temperature_period} is twice the {config.epochs} epochs or more: the last half of a period is "
        )
        yield Problem(("temperature_period",), f"{message}constant, so nothing of the wave is left")
    if config.warmup_epochs >= config.epochs:
        yield Problem(("warmup_epochs",), f"{config.warmup_epochs} leaves none of {config.epochs} epochs to train in")


def _of_method(config: TrialConfig) -> Iterator[Problem]:
    learnt, mix = config.objective_settings, config.mix_settings
    if reason := learnt.refuses(mix):
        yield Problem(("mix",), f"{config.objective} {reason}, not {config.mix}")
    if config.temperature_period and isinstance(learnt, _BEYOND_THE_WAVE):
        said = f"the wave divides the logits of cross-entropy with labels, and {config.objective} has other terms"
        yield Problem(("temperature_period",), f"{said} beside it: leave it out")
    if isinstance(learnt, AsymmetricSettings) and learnt.distill_on == "features" and learnt.distillation == "kl":
        yield Problem(("distillation",), "kl is of logits: write distill_on: logits, or distillation: dist")
    if isinstance(learnt, CrossEntropySettings):
        yield from _of_smoothing(learnt, len(config.known_classes) - config.pseudo_unknown)
    if isinstance(learnt, TeacherFreeSettings) and learnt.tau_lower > learnt.tau_upper:
        yield Problem(("tau_lower",), f"{learnt.tau_lower:g} is above tau_upper, {learnt.tau_upper:g}")
    if isinstance(learnt, OpenMixSettings) and not learnt.kinds:
        yield Problem(("openmixup",), "makes no image, nor do opencutout and opencutmix: nothing is left to learn from")
    image_size = config.seen_size
    try:
        side = config.map_side
    except ValueError as error:
        yield Problem(("backbone",), str(error))
        return
    if isinstance(mix, BackMixSettings):
        yield from _of_backmix(config, mix, side)
    if config.objective == "catimg" and one_size(config.backbone):
        whose = "a ViT" if config.backbone.startswith("vit") else config.backbone
        yield Problem(("backbone",), f"{whose} has one image size; catimg shows it pictures of twice the height")
    if isinstance(learnt, ArplCsSettings) and (image_size < 32 or image_size & (image_size - 1)):
        message = f"its generator doubles 4 px until they are 32, 64, 128, …: it makes no images of {image_size} px"
        yield Problem(("image_size",), message)
    if isinstance(learnt, CatImgSettings):
        yield from _of_outliers(config, learnt.outlier_set)


def _of_smoothing(learnt: CrossEntropySettings, classes: int) -> Iterator[Problem]:
    """A label that speaks against its own class."""
    if learnt.smoothing_over == "others" and learnt.label_smoothing * classes > classes - 1:
        yield Problem(
            ("label_smoothing",),
            f"{learnt.label_smoothing:g} over the others of {classes} classes leaves less to the true class than to "
            f"each of them: take {classes - 1}/{classes} or less",
        )


def _of_outliers(config: TrialConfig, name: str) -> Iterator[Problem]:
    """Outliers that are known, by name, to show what the trial learns or is judged on; `leaks` compares pixels."""
    tested = dict.fromkeys(part_of_set(config.protocol, s).images for s in config.evaluation_sets)
    for other, where in [*((t, "tested") for t in tested), *((t, "trained") for t in config.training_sets[:1])]:
        if name == other:
            yield Problem(("outlier_set",), f"{name} is what the trial is {where} on: outliers come from another set")
            return
        if same_collection(name, other):
            yield Problem(
                ("outlier_set",),
                f"{name} shows images of {COLLECTIONS[name]}, as {other} does, which the trial is {where} on: choose "
                "outliers of another collection",
            )
            return


def _of_backmix(config: TrialConfig, mix: BackMixSettings, side: int) -> Iterator[Problem]:
    if not config.objective_settings.image_text and not shows_maps(config.backbone):
        if not config.objective_settings.own_head:  # else it has been said
            message = f"{config.backbone!r} shows no maps, by which BackMix tells object from background"
            yield Problem(("backbone",), f"{message}: take a convolutional network or a vit-…")
        return
    if side == 1:
        yield Problem(
            ("backbone",),
            f"{config.backbone!r} sees an image of {config.seen_size} px as one position: BackMix cannot tell object "
            "from background there",
        )
    px = stride(config.backbone, config.seen_size)
    if config.seen_size % px and not config.objective_settings.image_text:
        yield Problem(
            ("image_size",),
            f"{config.seen_size} px are no multiple of the {px} px of {config.backbone!r}'s stride: BackMix lays its "
            "maps evenly over the image",
        )
    if mix.cam_from == "raw":
        return
    for name in ("augment_first", "augment"):
        if (moving := getattr(config, name)) not in ("none", "randomized-quantization"):
            message = f"{moving} moves pixels, so maps of its images do not fit the stored ones: set cam_from: raw"
            yield Problem((name,), message)
    if config.objective == "catimg":
        yield Problem(
            ("cam_from",),
            "catimg trains on pictures of twice the height, whose maps fit no stored image: set cam_from: raw",
        )
