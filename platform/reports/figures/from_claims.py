"""The power of a table's claims."""

from __future__ import annotations

from typing import Any

import pandas as pd

from platform.deciding.looks import looks
from platform.deciding.power import needed, power
from platform.files.spec import Decided
from platform.reports.figures.drawing import Drawing, MissingError, Runs, canvas

WIDEST = 60  # units: beyond, a curve is a flat line


def power_curves(runs: Runs) -> list[Drawing]:
    """With how many units each claim's published difference is found, by the spread that was measured; a dot where the
    table is."""
    until = runs.table.spec.until
    asked = until or Decided()
    lines: list[dict[str, Any]] = []
    for one in runs.table.comparisons:
        found = one.interval
        if not (one.published and found and found.spread):
            continue
        looked = looks(until.max_seeds, found.strata, asked.alpha) if until else ()
        limits = {look.n: look.critical for look in looked}
        first, last = (looked[0].n, looked[-1].critical) if looked else (2, 0.0)
        enough = needed(one.published, found.spread, found.strata, asked.power, asked.alpha, looked) or WIDEST
        claim = f"{one.claim.row} − {one.claim.over}, {one.column} ({one.published:+.1f})"
        for n in range(first, min(WIDEST, max(enough + 2, found.n + 2, 8)) + 1):
            chance = power(one.published, n, found.spread, found.strata, asked.alpha, limits.get(n, last))
            lines.append({"claim": claim, "n": n, "power": chance, "measured": n == found.n})
    if not lines:
        raise MissingError("no claim with a published difference has a spread")
    data = pd.DataFrame(lines)
    drawn = canvas(1, width=5.5, height=3.6)
    (axes,) = drawn.axes
    for name, curve in data.groupby("claim", sort=False):
        (line,) = axes.plot(curve["n"], curve["power"], label=str(name))
        here = curve[curve["measured"]]
        axes.plot(here["n"], here["power"], "o", color=line.get_color())
    axes.axhline(asked.power, color="grey", linewidth=0.8, linestyle=":")
    sequential = bool(until)
    unit = (
        "seeds" if sequential or any(c.found and c.found.unit == "seeds" for c in runs.table.comparisons) else "splits"
    )
    axes.set(xlabel=unit, ylabel="power", ylim=(0, 1.03))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    kind = f"sequential, at the look after n {unit}" if sequential else f"fixed n, over {unit}"
    caption = f"How likely n {unit} find each published difference, by the measured spread ({kind}); dots: this table."
    return [Drawing("power", caption, drawn, data)]
