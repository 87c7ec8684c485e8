"""Draws `deciding.png`, the picture of docs/deciding.md: `uv run python -m docs.make_picture`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from platform.deciding.looks import RHO, interval, looks
from platform.reports.figures.drawing import COLOURS, canvas

MOST, TRUE = 20, 0.9  # seeds; points
ONCE, OFTEN, FOUND = COLOURS[1], COLOURS[0], COLOURS[2]
PLAN = looks(MOST)
STUDENT = tuple(replace(look, critical=float(stdtrit(look.n - 1, 0.975))) for look in PLAN)


def main() -> None:
    drawn = canvas(3, width=3.9, height=3.3)
    without, with_it, spent = drawn.axes
    noise = np.random.default_rng(0).standard_normal((100, MOST)).tolist()
    wrong = next(of for of in noise if _ends(of, STUDENT) and not _ends(of, PLAN))
    often = sum(_ends(of, STUDENT) is not None for of in noise), sum(_ends(of, PLAN) is not None for of in noise)
    _paths(without, wrong)
    without.legend(fontsize=7, frameon=False, loc="lower right")
    at = _ends(wrong, STUDENT)
    without.axvline(at, color=ONCE, linestyle=":")
    without.text(at, 3.3, f" stopped at seed {at}:\n a difference that is none", color=ONCE, fontsize=8, va="top")
    without.set_title("Two rows that do not differ", fontsize=9)
    real = [TRUE + value for value in noise[0]]
    _paths(with_it, real)
    stop = _ends(real, PLAN)
    with_it.axvline(stop, color=OFTEN, linestyle=":")
    with_it.text(stop, 3.3, f" decided at seed {stop}:\n {MOST - stop} seeds saved", color=OFTEN, fontsize=8, va="top")
    with_it.set_title(f"Two rows that differ by {TRUE} points", fontsize=9)
    parts = np.diff([0.0, *(5 * (look.n / MOST) ** RHO for look in PLAN)])
    spent.bar([look.n for look in PLAN], parts, color=OFTEN)
    spent.set_title("Where the 5 % go", fontsize=9)
    spent.set(xlabel="seeds", ylabel="may be spent at this look, %")
    print(f"of 100 tables without a difference, stopped for one: {often[0]} by Student's t each time, {often[1]} so")
    for axes in drawn.axes:
        axes.set_xticks([3, 5, 10, 15, 20])
    drawn.savefig(Path(__file__).with_name("deciding.png"), bbox_inches="tight", dpi=110)


def _ends(differences: list[float], plan: Any) -> int | None:
    """After how many seeds an interval has no zero."""
    found = (interval([differences], look) for look in plan)
    return next((one.n for one in found if not one.low <= 0 <= one.high), None)


def _paths(axes: Any, differences: list[float]) -> None:
    for plan, colour, name in ((STUDENT, ONCE, "for one look"), (PLAN, OFTEN, "for all looks together")):
        found = [interval([differences], look) for look in plan]
        seeds = [one.n for one in found]
        axes.plot(seeds, [one.low for one in found], color=colour, label=f"95 % interval {name}")
        axes.plot(seeds, [one.high for one in found], color=colour)
    axes.plot(seeds, [one.mean for one in found], color="black", label="mean difference")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="seeds", ylabel="difference, points", ylim=(-3.5, 3.5))


if __name__ == "__main__":
    main()
