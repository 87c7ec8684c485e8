"""What the classes of a protocol are called, for models that read their names."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from trainables.protocols.custom import custom_protocol, is_custom_protocol
from trainables.protocols.protocols import protocol_of


def class_names(protocol: str) -> tuple[str, ...]:
    """By class id: the official names of CIFAR, digits as words, the first name of a WordNet id.

    Raises `ValueError` where they have none here.
    """
    if is_custom_protocol(protocol):
        own = custom_protocol(protocol).classes
        if all(name.removeprefix("-").isdigit() for name in own):
            raise ValueError(f"{protocol} names its classes by numbers: a prompt needs words")
        return own
    image_set = protocol_of(protocol).image_set
    if image_set not in _names():
        has = ", ".join(_names())
        raise ValueError(f"the classes of {protocol} have no names here, which prompts are made of; there are of {has}")
    return tuple(_names()[image_set])


@cache
def _names() -> dict[str, list[str]]:
    """By image set. Those of Tiny-ImageNet are in the order of their wnids, as its class ids are."""
    names: dict[str, list[str]] = json.loads((files(__package__) / "class_names.json").read_text(encoding="utf-8"))
    return names
