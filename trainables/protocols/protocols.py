"""Which classes are known, which are unknown, and on what a trial is tested."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from trainables.protocols.custom import SUFFIXES, custom_protocol, is_custom_protocol
from trainables.reading.values import shown
from trainables.reading.yaml_file import nearest

UNKNOWN = -1  # the training label of a sample of no known class
LARGE = 224  # px; from this size on, images are stored somewhat larger than a network sees them

CORRELATIONS = (0.5, 0.7, 0.9, 0.95)  # of Waterbirds: Ming et al. (2022), and Sagawa et al. (2020)

Lists = tuple[tuple[int, ...], ...]  # known classes, by split


@dataclass(frozen=True)
class Part:
    """An unknown set that is some classes of an image set, or images with another background.

    `known` and `unknown` say how the known and the unknown images are shown, where the set has masks: as they are
    (`raw`), the object alone on grey (`fg`), or before another image's background (`fg-bg`).
    """

    images: str  # an image set
    classes: str = ""  # keys of the split family's lists of unknown classes; empty: all that are not known
    known: str = "raw"
    unknown: str = "raw"


@dataclass(frozen=True)
class Protocol:
    """One benchmark of the literature.

    `families` maps a split family to the key of its class lists in `splits/<file>.json`, as (file, key), or to the
    lists themselves; in a family with None all classes are known and unknowns come from other sets only.
    """

    image_set: str
    num_classes: int
    image_size: int  # px, of what a network sees
    families: Mapping[str, tuple[str, str] | Lists | None]
    flip: bool = True  # unless `TrialConfig.flip` says otherwise; a mirrored digit is another sign, a car is a car
    parts: Mapping[str, Part] = field(default_factory=dict)
    other_sets: tuple[str, ...] = ()
    masks: bool = False  # every image comes with the mask of its object


def stored_size(image_size: int) -> int:
    """The side at which images are stored, of which a network sees a crop: 256 for 224, 512 for 448 px.

    Small images are stored as they are seen, and padded for a crop.
    """
    return image_size if image_size < LARGE else round(image_size * 8 / 7)


def images_key(image_set: str, stored: int) -> str:
    """The name of an image set's fingerprint: pixels depend on the size at which they are stored, which is said where
    it is not that of the set's own protocol."""
    own = next((stored_size(p.image_size) for p in PROTOCOLS.values() if p.image_set == image_set), 32)
    return image_set if stored == own else f"{image_set}@{stored}px"


_CIFAR_PAIRS = (
    *("cifar100", "svhn", "tiny-imagenet", "lsun-crop", "lsun-resize", "lsun-fix"),
    *("imagenet-crop", "imagenet-resize", "imagenet-fix", "isun", "places", "textures", "inaturalist"),
    *("imagenet-samples", "mnist", "fashion-mnist"),
)


def _ssb(name: str, num_classes: int) -> Protocol:
    """The Semantic Shift Benchmark (Vaze et al., 2022): unknown classes by how alike they are to known ones. What its
    tables call Hard is Medium and Hard together."""
    parts = {f"{name}-{level}": Part(name, f"{name}-{level}") for level in ("easy", "medium", "hard")}
    parts[f"{name}-medium-hard"] = Part(name, f"{name}-medium {name}-hard")
    return Protocol(name, num_classes, 448, {"ssb": ("ssb", name)}, parts=parts)


def _views(name: str, images: str) -> dict[str, Part]:
    """The test images as they are, known ones on others' backgrounds, and all without background: BackMix, Table I."""
    return {
        name: Part(images),
        f"{name}-fg-bg": Part(images, known="fg-bg"),
        f"{name}-fg": Part(images, known="fg", unknown="fg"),
    }


def _medical(name: str, num_classes: int, others: tuple[str, ...]) -> Protocol:
    return Protocol(name, num_classes, 32, {"full": None}, flip=False, other_sets=others)


PROTOCOLS: dict[str, Protocol] = {
    "digits": Protocol("digits", 10, 32, {"agc": ("agc", "mnist")}, flip=False),
    # What BackMix's Table I takes, on images that come with scikit-learn.
    "cut-digits": Protocol(
        "cut-digits",
        10,
        32,
        {"agc": ("agc", "mnist")},
        flip=False,
        parts=_views("cut-digits", "cut-digits"),
        masks=True,
    ),
    "mnist": Protocol(
        "mnist",
        10,
        32,
        {"agc": ("agc", "mnist"), "full": None},
        flip=False,
        other_sets=("emnist-letters", "fashion-mnist"),
    ),
    "svhn": Protocol(
        "svhn",
        10,
        32,
        {family: (family, "svhn") for family in ("osrci", "agc", "cssr")},  # mirrored, as all codes of the field do it
    ),
    "cifar10": Protocol(
        "cifar10",
        10,
        32,
        {**{family: (family, "cifar10") for family in ("osrci", "agc", "cssr")}, "full": None},
        other_sets=_CIFAR_PAIRS,
    ),
    # Four classes of CIFAR-10, unknown 10 or 50 of CIFAR-100: one training for both.
    "cifar-plus": Protocol(
        "cifar10",
        10,
        32,
        {family: (family, "cifar+10") for family in ("osrci", "agc")},
        parts={f"cifar-plus-{n}": Part("cifar100", f"cifar+{n}") for n in (10, 50)},
    ),
    "cifar100": Protocol(
        "cifar100", 100, 32, {"full": None}, other_sets=("cifar10", *(s for s in _CIFAR_PAIRS if s != "cifar100"))
    ),
    "tiny-imagenet": Protocol(
        "tiny-imagenet",
        200,
        64,
        {**{family: (family, "tiny-imagenet") for family in ("osrci", "agc", "cssr")}, "full": None},
        other_sets=("imagenet21k-easy", "imagenet21k-hard", "textures"),
    ),
    "imagenet30": Protocol(
        "imagenet30",
        30,
        224,
        {"backmix": ("backmix", "imagenet30")},
        other_sets=("textures", "places", "inaturalist"),
    ),
    # Which five are known, the paper does not say (supplement, Table VIII): the first of its list.
    "strong-correlation": Protocol("strong-correlation", 10, 224, {"backmix": (tuple(range(5)),)}),
    "cub": _ssb("cub", 200),
    "stanford-cars": _ssb("stanford-cars", 196),
    "aircraft": _ssb("aircraft", 100),
    # One training, its test images shown in three ways: the columns of BackMix's Table I.
    "coco": Protocol(
        "coco",
        18,
        224,
        {"backmix": ("backmix", "coco")},
        parts=_views("coco", "coco"),
        other_sets=("inaturalist",),
        masks=True,
    ),
    **{
        f"waterbirds-{r:g}": Protocol(
            f"waterbirds-{r:g}", 2, 224, {"full": None}, other_sets=("landscapes", "svhn", "isun", "lsun-resize")
        )
        for r in CORRELATIONS
    },
    "octmnist": _medical("octmnist", 4, ("pneumoniamnist", "chestmnist")),
    "pneumoniamnist": _medical("pneumoniamnist", 2, ("chestmnist", "octmnist")),
}


def protocol_of(name: str) -> Protocol:
    """A protocol by its name, or of one's own by its file. Raises `ValueError` where there is none such."""
    if is_custom_protocol(name):
        return _own(name)
    if name not in PROTOCOLS:
        near = nearest(str(name), PROTOCOLS)
        raise ValueError(
            f"{shown(name)} is not a protocol{near}: one of {', '.join(PROTOCOLS)}, or a file *{SUFFIXES[0]}"
        )
    return PROTOCOLS[name]


def _own(name: str) -> Protocol:
    own = custom_protocol(name)
    known = tuple(range(len(own.known)))
    parts = _views("unknown", name) if own.masks else {"unknown": Part(name)}
    return Protocol(name, len(own.classes), own.image_size, {"own": (known,)}, own.flip, parts, masks=own.masks)


@cache
def _split_file(name: str) -> dict[str, dict[str, list[list[int]]]]:
    text = (files(__package__) / "splits" / f"{name}.json").read_text(encoding="utf-8")
    content: dict[str, dict[str, list[list[int]]]] = json.loads(text)
    return content


def _known_lists(protocol: str, family: str) -> Lists:
    entry = protocol_of(protocol)
    place = entry.families[family]
    if place is None:
        return (tuple(range(entry.num_classes)),)
    if isinstance(place[0], str):
        return tuple(tuple(classes) for classes in _split_file(place[0])["known"][str(place[1])])
    return place


def num_splits(protocol: str, family: str) -> int:
    """How many splits a family has: five in most of the literature, one where all classes are known."""
    return len(_known_lists(protocol, family))


def known_classes(protocol: str, family: str, split: int) -> tuple[int, ...]:
    """Class ids that are known in this split, in the family's order: position = training label.

    Raises `ValueError` for a family or a split that the protocol lacks.
    """
    families = protocol_of(protocol).families
    if family not in families:
        raise ValueError(
            f"{protocol} has no split family {family!r}{nearest(family, families)}; it has {', '.join(families)}"
        )
    lists = _known_lists(protocol, family)
    if not 0 <= split < len(lists):
        raise ValueError(f"split {split} is not in 0..{len(lists) - 1} ({protocol}, family {family})")
    return lists[split]


def evaluation_sets(protocol: str, family: str) -> tuple[str, ...]:
    """Names of the unknown sets that a trial may be tested on; the first is the default."""
    entry = protocol_of(protocol)
    own = () if entry.parts or entry.families.get(family) is None else (entry.image_set,)
    return (*own, *entry.parts, *entry.other_sets)


def part_of_set(protocol: str, evaluation_set: str) -> Part:
    """What an unknown set consists of."""
    return protocol_of(protocol).parts.get(evaluation_set, Part(evaluation_set))


def unknown_classes(protocol: str, family: str, split: int, evaluation_set: str) -> tuple[int, ...] | None:
    """Class ids, in its image set, of an unknown set that the family lists classes for; None where it does not."""
    keys = part_of_set(protocol, evaluation_set).classes.split()
    file = protocol_of(protocol).families[family]
    if not keys or file is None:
        return None
    lists = _split_file(str(file[0]))["unknown"]
    return tuple(c for key in keys for c in lists[key][split])


def partition(protocol: str, family: str, split: int) -> object:
    """What a split divides classes into, whatever their order: known ones, and the listed unknown ones of each set.

    Two splits of `agc` are the same partition for most protocols: as evidence they count once.
    """
    sets = evaluation_sets(protocol, family)
    listed = tuple(frozenset(unknown_classes(protocol, family, split, name) or ()) for name in sets)
    return frozenset(known_classes(protocol, family, split)), listed
