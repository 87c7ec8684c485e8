"""Which classes are known, which are unknown, and on what a trial is tested."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from trainables.yaml_file import nearest

UNKNOWN = -1  # the training label of a sample of no known class


@dataclass(frozen=True)
class Protocol:
    """One benchmark of the literature.

    `families` maps a split family to the key of its class lists in `splits/<file>.json`, as
    (file, key); the family `full` trains on all classes and has unknowns from other sets only.
    `parts` are unknown sets that are some classes of another image set: its name, and the key of the split family's
    lists of these classes.
    """

    image_set: str
    num_classes: int
    image_size: int
    families: dict[str, tuple[str, str] | None]
    flip: bool = True  # a mirrored digit is another sign; a mirrored car is a car
    parts: dict[str, tuple[str, str]] = field(default_factory=dict)
    other_sets: tuple[str, ...] = ()


_OTHERS = ("cifar100", "svhn", "tiny-imagenet", "textures")

PROTOCOLS: dict[str, Protocol] = {
    "digits": Protocol("digits", 10, 32, {"agc": ("agc", "mnist")}, flip=False),
    "cifar10": Protocol(
        "cifar10",
        10,
        32,
        {
            "osrci": ("osrci", "cifar10"),
            "agc": ("agc", "cifar10"),
            "cssr": ("cssr", "cifar10"),
            "full": None,
        },
        other_sets=_OTHERS,
    ),
    # Four classes of CIFAR-10, unknown 10 or 50 of CIFAR-100: one training for both.
    "cifar-plus": Protocol(
        "cifar10",
        10,
        32,
        {"osrci": ("osrci", "cifar+10"), "agc": ("agc", "cifar+10")},
        parts={"cifar-plus-10": ("cifar100", "cifar+10"), "cifar-plus-50": ("cifar100", "cifar+50")},
    ),
    "svhn": Protocol(
        "svhn",
        10,
        32,
        {family: (family, "svhn") for family in ("osrci", "agc", "cssr")},
        flip=False,
    ),
    "tiny-imagenet": Protocol(
        "tiny-imagenet",
        200,
        64,
        {family: (family, "tiny-imagenet") for family in ("osrci", "agc", "cssr")},
    ),
}


@cache
def _split_file(name: str) -> dict[str, dict[str, list[list[int]]]]:
    text = (files(__package__) / "splits" / f"{name}.json").read_text(encoding="utf-8")
    content: dict[str, dict[str, list[list[int]]]] = json.loads(text)
    return content


def num_splits(protocol: str, family: str) -> int:
    """How many splits a family has: five in the literature, one where all classes are known."""
    place = PROTOCOLS[protocol].families[family]
    return 1 if place is None else len(_split_file(place[0])["known"][place[1]])


def known_classes(protocol: str, family: str, split: int) -> tuple[int, ...]:
    """Class ids that are known in this split, in the family's order: position = training label.

    Raises `ValueError` for a family or a split that the protocol lacks.
    """
    entry = PROTOCOLS[protocol]
    if family not in entry.families:
        raise ValueError(
            f"{protocol} has no split family {family!r}{nearest(family, entry.families)}; "
            f"it has {', '.join(entry.families)}"
        )
    count = num_splits(protocol, family)
    if not 0 <= split < count:
        raise ValueError(f"split {split} is not in 0..{count - 1} ({protocol}, family {family})")
    place = entry.families[family]
    if place is None:
        return tuple(range(entry.num_classes))
    return tuple(_split_file(place[0])["known"][place[1]][split])


def evaluation_sets(protocol: str, family: str) -> tuple[str, ...]:
    """Names of the unknown sets that a trial may be tested on; the first is the default."""
    entry = PROTOCOLS[protocol]
    own = () if entry.parts or entry.families.get(family) is None else (entry.image_set,)
    return (*own, *entry.parts, *entry.other_sets)


def image_set_of(protocol: str, evaluation_set: str) -> str:
    """The image set whose test images an unknown set consists of."""
    return PROTOCOLS[protocol].parts.get(evaluation_set, (evaluation_set,))[0]


def unknown_classes(protocol: str, family: str, split: int, evaluation_set: str) -> tuple[int, ...] | None:
    """Class ids, in its image set, of an unknown set that the family lists classes for; None where it does not."""
    place = PROTOCOLS[protocol].parts.get(evaluation_set)
    file = PROTOCOLS[protocol].families[family]
    if place is None or file is None:
        return None
    return tuple(_split_file(file[0])["unknown"][place[1]][split])
