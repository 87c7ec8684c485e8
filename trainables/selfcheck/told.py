"""What a section of the self-check says: lines of Markdown, of which some tell a failure."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

ROOM = str(Path(__file__).parents[1])  # trainables/


class Line(NamedTuple):
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Scope:
    """Where a section checks, how thoroughly, and until when."""

    device: torch.device
    quick: bool
    until: float = float("inf")  # on the monotonic clock: when the section is given up

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def heading(*names: str) -> Iterator[Line]:
    """The first two lines of a table."""
    yield Line("")
    yield row(*names)
    yield row(*("---" for _ in names))


def row(*cells: object, failed: bool = False) -> Line:
    """A line of a table. One that failed says so in its last cell, too."""
    texts = [str(cell).replace("|", "/").replace("\n", " ") for cell in cells]
    if failed:
        texts[-1] = f"**FAILED** {texts[-1]}".rstrip()
    return Line(f"| {' | '.join(texts)} |", failed)


def reason(error: BaseException) -> str:
    """What went wrong in one line, and the last line of `trainables` (the self-check apart) that it came through."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    ours = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(ROOM)]
    ours = [f for f in ours if "selfcheck" not in f.filename] or ours
    where = f" ({Path(ours[-1].filename).relative_to(ROOM)}:{ours[-1].lineno}: `{ours[-1].line}`)" if ours else ""
    return f"{type(error).__name__}: {said}{where}"
