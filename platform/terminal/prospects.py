"""What a plan can decide, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from platform.deciding.power import MOST
from platform.deciding.told import say_hours, signed
from platform.files.spec import Decided
from platform.planning.claims import Prospect
from platform.planning.plan import Plan, Sweep
from platform.planning.work import Estimate, Work
from platform.terminal.text import in_terminal


def prospects_table(sweep: Sweep, prospects: Sequence[Prospect]) -> Table:
    """A line for each claim; red where the plan cannot decide what the paper claims."""
    asked = sweep.spec.until or Decided()
    table = Table(title=f"What {in_terminal(sweep.name)} can decide", title_justify="left", caption_justify="left")
    for heading in ("claim", "column", "n", "finds from", "published", "needs n", "which takes", "spread, from"):
        table.add_column(heading, justify="left" if heading in ("claim", "column", "spread, from") else "right")
    for one in prospects:
        table.add_row(
            in_terminal(f"{one.claim.row} − {one.claim.over}"),
            in_terminal(one.column),
            f"{one.n} {_unit(one)}",
            "too few" if one.detectable is None else f"{one.detectable:.1f}",
            signed(one.published) if one.published is not None else "higher" if one.claim.sign == "+" else "lower",
            _needs(one),
            "" if one.hours is None else f"{say_hours(one.hours)} {one.devices}-hours",
            f"{one.spread:.2f}, {one.source}",
            style="red" if one.decides is False else None,
        )
    kinds = dict.fromkeys(
        f"{'sequential, n at most' if one.sequential else 'fixed'}, over {one.over}" for one in prospects
    )
    undecided = sum(one.decides is False for one in prospects)
    red = f" Red: {undecided} that this plan cannot decide." if undecided else ""
    found = f"Points found with a power of {asked.power:.0%}, paired, two-sided {asked.alpha:.0%}"
    table.caption = f"{found}; {' and '.join(kinds)}.{red}"
    return table


def _unit(one: Prospect) -> str:
    return "partitions" if one.over == "splits" else "seeds"


def _needs(one: Prospect) -> str:
    if not one.published:
        return ""
    return f"> {MOST:,}" if one.needed is None else f"{one.needed:,} {_unit(one)}"


def plan_as_json(plan: Plan, todo: Work, guess: Estimate | str, prospects: Mapping[str, Sequence[Prospect]]) -> str:
    """What `--dry-run` shows, for programs."""
    time = guess if isinstance(guess, Estimate) else None
    return json.dumps(
        {
            "sweeps": [_sweep(sweep, prospects.get(sweep.name, ())) for sweep in plan.sweeps],
            "to_train": len(todo.train),
            "teachers": todo.teachers,
            "to_evaluate": len(todo.evaluate),
            "cached": len(todo.cached) + len(todo.ended),
            "seconds": time.seconds if time else None,
            "device_hours": time.device_hours if time else None,
            "disk_bytes": time.disk if time else None,
            "from": time.source if time else guess,
        },
        indent=2,
    )


def _sweep(sweep: Sweep, prospects: Sequence[Prospect]) -> dict[str, Any]:
    asked = sweep.spec.until or Decided()
    claims = [
        {
            **asdict(one),
            "claim": {"row": one.claim.row, "over": one.claim.over, "sign": one.claim.sign},
            "decides": one.decides,
        }
        for one in prospects
    ]
    shown: dict[str, Any] = {
        "name": sweep.name,
        "file": str(sweep.file),
        "profile": sweep.profile,
        "changed": list(sweep.changed),
    }
    shown |= {"rows": sweep.rows, "requests": len(sweep.requests)}
    return {**shown, "power": asked.power, "alpha": asked.alpha, "claims": claims}
