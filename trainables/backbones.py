"""Names of backbones, readable without torch. `trainables.models` builds them."""

from __future__ import annotations

import re


def parse_backbone(name: str) -> tuple[int, int]:
    """Depth and width of `wrn<depth>-<width>`; `ValueError` where there is no such network."""
    match = re.fullmatch(r"wrn(\d+)-(\d+)", name)
    if not match:
        raise ValueError(f"{name!r} is not a backbone; write wrn<depth>-<width>, as wrn40-4 or wrn16-1")
    depth, width = int(match[1]), int(match[2])
    if depth < 10 or (depth - 4) % 6 or width < 1:
        raise ValueError(f"{name!r}: a WRN's depth is 6n+4 (10, 16, 22, 28, 34, 40, …) and its width at least 1")
    return depth, width
