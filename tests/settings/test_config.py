"""What a trial's settings may be, and what makes two trials the same."""

from typing import Any

import pytest

from trainables.reading.yaml_file import ConfigError, parse
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve

BASE: dict[str, Any] = {"method": "backmix", "protocol": "cifar10", "split_family": "osrci"}
RECIPES = ("paper", "official")
IMAGES = {"cifar10": "fingerprint of its training images", "tiny-imagenet@32px": "of outliers"}


def trial(**settings: Any) -> TrialConfig:
    return resolve({**BASE, **settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mask_ration": 0.2}, "mask_ration: unknown setting (did you mean 'mask_ratio'?)"),
        ({"mask_ratio": 1.2}, "mask_ratio: 1.2 is out of range: at least 0 and at most 1"),
        ({"bank_decay": 0}, "bank_decay: 0 is out of range: more than 0 and at most 1"),
        ({"epochs": "many"}, "epochs: 'many' is not a whole number"),
        ({"epochs": 2.5}, "epochs: 2.5 is not a whole number"),
        ({"epochs": True}, "epochs: True is not a whole number"),
        ({"nesterov": 1}, "nesterov: 1 is not true or false"),
        ({"method": "backmixx"}, "method: 'backmixx' is not one of plain, cutout,"),
        ({"method": ["plain", "backmix"]}, "method: ['plain', 'backmix'] is not one of plain, cutout"),
        ({"lr": float("inf")}, "lr: inf is out of range"),
        (
            {"protocol": "cifar"},
            "is not a protocol (did you mean 'cifar10'?): one of digits, ",
        ),
        ({"split_family": "osrc"}, "split_family: cifar10 has no split family 'osrc' (did you mean 'osrci'?)"),
        ({"split": 5}, "split: split 5 is not in 0..4"),
        ({"backbone": "wrn41-4"}, "backbone: 'wrn41-4': a WRN's depth is 6n+4"),
        ({"backbone": "resnet"}, "backbone: 'resnet' is not a backbone (did you mean 'resnet50'?)"),
        ({"backbone": "vit-s5"}, "backbone: 'vit-s5' needs images whose side is a multiple of 5 px, not 32 px"),
        ({"backbone": "vgg16"}, "backbone: 'vgg16' sees an image of 32 px as one position"),
        (
            {"backbone": "resnet18", "image_size": 28},
            "image_size: 28 px are no multiple of the 8 px of 'resnet18''s stride",
        ),
        ({"train": "none"}, "train: none is said of `weights`, and there are none: name their file"),
        ({"head": "new"}, "head: new is said of `weights`"),
        ({"weights": "x.pt", "train": "none"}, "train: none trains nothing, and backmix is about training"),
        (
            {"method": "plain", "weights": "x.pt", "train": "none", "head": "new", "holdout": 0.1},
            "head: a new head has to be trained: write train: head, or all",
        ),
        (
            {"method": "plain", "weights": "x.pt", "train": "none", "normalisation": "training"},
            "normalisation: training is that of training images: write the one that the weights had",
        ),
        (
            {"weights": "torchvision:resnet50/IMAGENET1K_V2", "backbone": "resnet18", "image_size": 32},
            "weights: 'torchvision:resnet50/IMAGENET1K_V2' is not torchvision:resnet18/NAME",
        ),
        (
            {"backbone": "resnet18", "weights": "torchvision:resnet18/IMAGENET1K_V1", "head": "new", "train": "head"},
            "normalisation: 'torchvision:resnet18/IMAGENET1K_V1' were trained with imagenet, and what is frozen",
        ),
        ({"backbone": "timm:resnet10t"}, "backbone: 'timm:resnet10t' sees an image of 32 px as one position"),
        ({"backbone": "open_clip:RN50"}, "backbone: 'open_clip:RN50' shows no maps, by which BackMix tells object"),
        ({"weights": "torchvision:wrn40-4/X"}, "weights: torchvision has no weights of wrn40-4; it has of resnet18"),
        ({"evaluate": ["cifar1000"]}, "evaluate: 'cifar1000' is not an unknown set of cifar10"),
        ({"pseudo_unknown": 5, "test": False}, "pseudo_unknown: leaves fewer than 2 of 6 known classes"),
        ({"pseudo_unknown": 2, "test": False}, "pseudo_unknown: is told apart from known images that are held out"),
        ({"pseudo_unknown": 2}, "test: a trial that keeps known classes out of training cannot be tested"),
        (
            {"score": "mahalanobi"},
            "score: 'mahalanobi' is not one of msp, mls, energy, feature_norm, odin, mahalanobis, knn",
        ),
        (
            {"extra_scores": ["oden"]},
            "extra_scores: 'oden' is not one of odin, mahalanobis, knn (did you mean 'odin'?)",
        ),
        ({"extra_scores": "odin"}, "extra_scores: 'odin' is not a list of names"),
        ({"odin_temperature": 0}, "odin_temperature: 0 is out of range: more than 0"),
        ({"odin_epsilon": -0.1}, "odin_epsilon: -0.1 is out of range: at least 0"),
        ({"momentum": 0.0}, "momentum: Nesterov needs a momentum above 0"),
        ({"schedule": "multistep"}, "milestones: multistep needs them"),
        ({"schedule": "multistep", "milestones": [60, 200]}, "milestones: 200 is not between the first and the last"),
        ({"milestones": ["60"]}, "milestones: '60' is not a whole number"),
        (
            {"method": "plain", "label_smoothing": 0.84, "smoothing_over": "others"},
            "label_smoothing: 0.84 over the others of 6 classes leaves less to the true class than to each of them: "
            "take 5/6 or less",
        ),
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs: 5 leaves none of 5 epochs"),
        ({"augment": "randaugment"}, "augment: randaugment moves pixels, so maps of its images do not fit"),
        ({"augment_first": "agc-randaugment"}, "augment_first: agc-randaugment moves pixels, so maps of its images"),
        ({"image_size": 8, "crop_padding": 8}, "crop_padding: 8 px are not less than the side of an image, 8 px"),
        ({"method": "asymmetric", "temperature_period": 50}, "temperature_period: the wave divides the logits of"),
        ({"method": "oe", "temperature_period": 50}, "temperature_period: the wave divides the logits of"),
        (
            {"method": "asymmetric", "distill_on": "features", "distillation": "kl"},
            "distillation: kl is of logits: write distill_on: logits",
        ),
        ({"method": "proser", "weights": "x.pt"}, "weights: proser begins with its teacher's: write them under"),
        ({"flip": "no mirror"}, "flip: 'no mirror' is not"),
        ({"method": "asymmetric", "mix": "none"}, "mix: asymmetric compares mixed images with the raw ones"),
        ({"method": "teacher-free", "mix": "cutout"}, "mix: teacher-free compares a mix with the two images"),
        ({"method": "teacher-free", "tau_lower": 0.9}, "tau_lower: 0.9 is above tau_upper, 0.8"),
        ({"method": "teacher-free", "recipe": "official"}, "recipe: teacher-free has no recipe 'official'"),
        ({"method": "catimg", "backbone": "vit-ti4"}, "backbone: a ViT has one image size"),
        ({"method": "oe", "outlier_set": "cifar10"}, "outlier_set: cifar10 is what the trial is tested on"),
        ({"method": "oe", "evaluate": ["tiny-imagenet"]}, "outlier_set: tiny-imagenet is what the trial is tested on"),
        ({"method": "distill", "teacher": "resnet50"}, "teacher: 'resnet50' is not a mapping of settings"),
        ({"method": "distill", "teacher": {"backbon": "x"}}, "teacher.backbon: unknown setting"),
        ({"method": "distill", "teacher": {"seed": 3}}, "teacher.seed: is its student's"),
        (
            {"method": "distill", "teacher": {"method": "distill"}},
            "teacher.method: distill needs a teacher: it cannot be a teacher",
        ),
        ({"method": "distill", "teacher": {"method": "oe"}}, "teacher.method: oe needs outliers: it cannot be a"),
        ({"method": "distill", "teacher": {"epochs": 0}}, "teacher.epochs: 0 is out of range"),
    ],
)
def test_a_mistake_is_named_with_its_key(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trial(**settings)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"augment": "randomized-quantization"},  # which moves no pixel
        {"method": "oe", "weights": "x.pt", "train": "none"},  # finished weights, evaluated
        {"method": "proser", "teacher": {"weights": "x.pt"}},
    ],
    ids=str,
)
def test_what_only_looks_like_a_contradiction_is_none(settings: dict[str, Any]) -> None:
    trial(**settings)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        trial(epochs=0, lr=-1, colour="red")
    assert len(caught.value.problems) == 3


def test_settings_of_another_method_are_dropped() -> None:
    plain = trial(method="plain", mask_ratio=0.4)
    assert "mask_ratio" not in plain.settings()


def test_resolved_settings_resolve_to_the_same_trial() -> None:
    distilled = [trial(method=m, recipe=r, teacher={"lr": 0.3}) for m in ("asymmetric", "distill") for r in RECIPES]
    for config in (trial(), trial(recipe="official"), trial(method="plain", epochs=3), *distilled):
        assert identity_of(resolve(config.settings()), IMAGES) == identity_of(config, IMAGES)


def test_a_score_on_request_is_computed_last_and_always_where_it_is_the_score() -> None:
    config = trial(score="odin", extra_scores=["mahalanobis"])
    assert config.scores_on_request(last=False) == ("odin",)
    assert config.scores_on_request(last=True) == ("odin", "mahalanobis")
    assert resolve(config.settings()).scores_on_request(last=True) == ("odin", "mahalanobis")
    assert trial().scores_on_request(last=True) == ()


def test_a_setting_written_at_its_default_is_the_same_trial() -> None:
    assert identity_of(trial(mask_ratio=0.25, lr=0.1, batch_size=128), IMAGES) == identity_of(trial(), IMAGES)


@pytest.mark.parametrize(
    "settings",
    [
        {"mask_ratio": 0.3},
        {"epochs": 3},
        {"seed": 1},
        {"split": 1},
        {"split_family": "agc"},
        {"holdout": 0.1},
        {"images_per_class": 10},
        {"precision": "bf16"},
        {"backbone": "wrn16-1"},
        {"method": "plain"},
    ],
    ids=str,
)
def test_what_shapes_the_weights_changes_the_identity(settings: dict[str, Any]) -> None:
    assert identity_of(trial(**settings), IMAGES) != identity_of(trial(), IMAGES)


@pytest.mark.parametrize(
    "settings",
    [
        {"score": "mls"},
        {"evaluate": ["cifar100"]},
        {"test": False},
        {"extra_scores": ["odin"], "odin_temperature": 10, "odin_epsilon": 0},
    ],
    ids=str,
)
def test_what_only_evaluation_sees_does_not(settings: dict[str, Any]) -> None:
    assert identity_of(trial(**settings), IMAGES) == identity_of(trial(), IMAGES)


@pytest.mark.parametrize(
    "settings",
    [
        {"milestones": [3]},
        {"randaugment_ops": 2},
        {"randaugment_magnitude": 3, "augment_first": "none"},
        {"restarts": 1, "lr_floor": 0.1, "schedule": "constant"},
        {"method": "distill", "mix_alpha": 0.3},
        {"method": "distill", "mix": "cutmix", "cutout_size": 0.1},
        {"optimizer": "adam", "momentum": 0.5},
        {"method": "plain", "smoothing_over": "others"},
    ],
    ids=str,
)
def test_settings_without_effect_are_not_in_it(settings: dict[str, Any]) -> None:
    effective = {k: v for k, v in settings.items() if k in ("method", "mix", "schedule", "optimizer")}
    assert identity_of(trial(**settings), IMAGES) == identity_of(trial(**effective), IMAGES)


def test_labels_smoothed_in_another_way_are_another_identity() -> None:
    smooth = trial(method="plain", label_smoothing=0.3)
    others = trial(method="plain", label_smoothing=0.3, smoothing_over="others")
    assert identity_of(smooth, IMAGES) != identity_of(others, IMAGES)


def test_other_images_are_another_identity() -> None:
    assert identity_of(trial(), IMAGES) != identity_of(trial(), {"cifar10": "other", "tiny-imagenet@32px": "b"})


def test_plain_is_the_same_trial_whatever_backmix_settings_stand_beside_it() -> None:
    assert identity_of(trial(method="plain", mask_ratio=0.9), IMAGES) == identity_of(trial(method="plain"), IMAGES)


def test_a_teacher_is_a_plain_trial_with_its_students_images_and_recipe() -> None:
    student = trial(method="asymmetric", teacher={"backbone": "wrn16-2"}, backbone="wrn16-1", lr=0.05, split=2, seed=3)
    teacher = student.teacher
    assert teacher is not None
    assert (teacher.method, teacher.backbone, teacher.lr, teacher.split, teacher.seed) == (
        "plain",
        "wrn16-2",
        0.05,
        2,
        3,
    )
    alone = trial(method="plain", backbone="wrn16-2", lr=0.05, split=2, seed=3)
    assert identity_of(teacher, IMAGES) == identity_of(alone, IMAGES)


def test_a_teacher_has_what_is_written_of_its_student_that_its_method_has() -> None:
    changes = {"method": "cutmix", "backbone": "wrn10-1"}
    student = {"method": "asymmetric", "recipe": "official", "mix_alpha": 0.3, "label_smoothing": 0.1}
    taught = trial(**student, teacher=changes).teacher
    alone = trial(**{**student, **changes}, mix="cutmix")
    assert taught is not None
    assert identity_of(taught, IMAGES) == identity_of(alone, IMAGES)
    assert (taught.settings()["mix_draw"], taught.settings()["mix_alpha"]) == ("batch", 0.3)
    plain = trial(**student).teacher
    assert plain is not None
    assert (plain.settings()["label_smoothing"], plain.crop_fill) == (0.1, "black")


def test_a_recipe_that_a_teachers_method_lacks_does_not_reach_it() -> None:
    student = trial(method="distill", recipe="official", teacher={"method": "teacher-free"})
    assert student.crop_fill == "black"
    assert student.teacher is not None
    assert student.teacher.crop_fill == "reflect"


def test_a_teacher_keeps_the_images_out_that_its_student_never_sees() -> None:
    teacher = trial(method="distill", holdout=0.1, pseudo_unknown=2, images_per_class=50, test=False).teacher
    assert teacher is not None
    kept = (teacher.holdout, teacher.pseudo_unknown, teacher.images_per_class, teacher.test)
    assert kept == (0.1, 2, 50, False)


def test_another_teacher_is_another_student() -> None:
    one = trial(method="distill", teacher={"backbone": "wrn16-2"})
    assert identity_of(one, IMAGES) != identity_of(trial(method="distill", teacher={"backbone": "wrn16-1"}), IMAGES)
    assert identity_of(one, IMAGES) == identity_of(
        trial(method="distill", teacher={"backbone": "wrn16-2", "lr": 0.1}), IMAGES
    )


def test_other_outliers_are_another_identity() -> None:
    config = trial(method="oe")
    assert config.training_sets == ("cifar10", "tiny-imagenet")
    assert identity_of(config, IMAGES) != identity_of(config, {**IMAGES, "tiny-imagenet@32px": "other"})
    assert identity_of(trial(), IMAGES) == identity_of(trial(), {"cifar10": IMAGES["cifar10"]})


def test_yaml_reads_5e_4_as_a_number() -> None:
    assert parse("weight_decay: 5e-4", "f").data == {"weight_decay": 5e-4}


def test_yaml_refuses_a_key_twice_and_names_its_line() -> None:
    with pytest.raises(ConfigError, match=r"f:2: key 'a' occurs twice"):
        parse("a: 1\na: 2", "f")


def test_yaml_builds_no_python_objects() -> None:
    with pytest.raises(ConfigError, match=r"f:1"):
        parse("!!python/object/apply:os.system [true]", "f")


@pytest.mark.parametrize("text", ["a: {{ x }}", "day: 2001-13-45"])
def test_what_yaml_cannot_build_is_a_mistake_of_the_file(text: str) -> None:
    with pytest.raises(ConfigError, match="f"):
        parse(text, "f")


def test_broken_yaml_names_its_line() -> None:
    with pytest.raises(ConfigError, match=r"f:2"):
        parse("a: [1,\nb: }", "f")


@pytest.mark.parametrize("method", ["cutmix", "asymmetric"])
def test_a_trial_at_another_split_is_the_one_that_its_settings_would_resolve_to(method: str) -> None:
    settings = {"method": method, "protocol": "digits", "teacher": {"backbone": "wrn10-1"}, "epochs": 3}
    moved = resolve(settings).at(3, 7)
    resolved = resolve({**settings, "split": 3, "seed": 7})
    assert moved == resolved
    assert moved.teacher == resolved.teacher
    assert identity_of(moved, {"digits": "images"}) == identity_of(resolved, {"digits": "images"})
    with pytest.raises(ValueError, match="split 5 is not in"):
        moved.at(5, 0)
