"""Names of sweeps, rows and columns: what they may be, and how one stands in a metric's name or a file's."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from pydantic import BeforeValidator

from platform.files.dimensions import Text
from trainables.reading.yaml_file import printable

LONGEST = 200  # characters of a name: tables, tags and messages show it whole
LONGEST_PART = 60  # characters of a `plain` name: a phase, a metric and three of them keep to MLflow's 250
LONGEST_SWEEP = 120  # bytes of a sweep's name: it is a part of paths, whose parts have at most 255
_PLAIN = r"\w[\w.\- ]*"  # what MLflow takes in a metric's name and any file system in a file's
_COMPUTED = re.compile("'*[=+@-]")  # what a spreadsheet computes begins so, behind a guard or none
_DIGEST = r".* [0-9a-f]{8}"


def shown_name(name: str) -> str:
    """`name`, or `ValueError` where a table, a terminal or a message cannot show it."""
    if not name.isprintable():
        raise ValueError(f"{name[:50]!r} has a character that cannot be shown: take letters, digits, signs and spaces")
    if name != name.strip():
        raise ValueError(f"{name[:50]!r} begins or ends with a space")
    if len(name) > LONGEST:
        raise ValueError(f"{name[:50] + '…'!r} has {len(name):,} characters: take at most {LONGEST}")
    return name


def for_spreadsheets(value: object) -> object:
    """A value of a CSV. A text that a spreadsheet would compute has a `'` before it, and one more where it has some."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _COMPUTED.match(text) else text


def without_guard(text: str) -> str:
    """The text, as it is printed, that `for_spreadsheets` was given."""
    return text[1:] if text.startswith("'") and _COMPUTED.match(text) else text


def sweep_name(name: str) -> str:
    """`name`, or `ValueError`: folders are called by it, so it neither climbs nor is it absolute."""
    shown_name(name)
    if len(name.encode()) > LONGEST_SWEEP:
        raise ValueError(f"{name[:50] + '…'!r} is too long for a file's name: take at most {LONGEST_SWEEP} bytes")
    if not all(re.fullmatch(r"\w[\w.\- ,=+()]*(?<![. ])", part) for part in name.split("/")):
        raise ValueError(
            f"{name!r} would be no folder of its own: begin with a letter or a digit, go on with those, spaces and "
            "any of _ . - , = + ( ), and write / only between two such names"
        )
    return name


def plain(name: str) -> str:
    """`name` for a metric's or a file's name: as it is, or with what has no place there replaced and a digest added.

    No two names have the same: one that ends like a digest gets one too.
    """
    if re.fullmatch(_PLAIN, name) and len(name) <= LONGEST_PART and not re.fullmatch(_DIGEST, name):
        return name
    readable = re.sub(r"[^\w.\- ]", "_", name)[: LONGEST_PART - 9].lstrip(". -")
    return f"{readable} {hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip()


def _checked(check: object) -> BeforeValidator:
    return BeforeValidator(lambda value: check(value) if isinstance(value, str) and value.strip() else value)  # type: ignore[operator]


Name = Annotated[Text, _checked(shown_name)]  # of a row, a column or a profile
SweepName = Annotated[Text, _checked(sweep_name)]
