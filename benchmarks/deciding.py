"""Whether intervals and `until: decided` keep their promises: simulated ablations, judged by the product's own code.

python -m benchmarks.deciding

A difference of two rows on split j with seed k is d_jk = mu + a_j + e_jk, normal. The spread of e is that of real pairs
of rows, trained on CIFAR-10 (docs/results). The spread of a, the splits', was not measured with trials of that size: it
is taken as none, as that of e, and as twice that. Exits 1 where more is false than alpha and chance explain.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit

from platform.deciding.looks import Look, interval, looks
from platform.deciding.paired import Over, paired
from platform.deciding.power import ALPHA, needed
from platform.deciding.stopping import Decision, Outcome, decisions
from platform.files import search_file
from platform.files.spec import Spec
from platform.reports.exported import read_exported
from platform.reports.of_file import table_of

RUNS = 2000  # ablations of each kind
LEVEL_RUNS = 10_000  # tables of each kind that are looked at once
RHOS = (1.0, 2.0, 3.0)
TRAINED = {  # for real: the file, the profile, what was changed by hand, and the exported trials
    "CIFAR-10": ("backmix/table4", "reduced", (), "backmix_table4_reduced"),
    "CIFAR-10, few images": ("backmix/supp_fig4", "reduced", (), "backmix_supp_fig4"),
    "PneumoniaMNIST": ("asymmetric/table09", "pneumonia", ("base.precision=bf16",), "asymmetric_table09"),
    "MNIST": ("asymmetric/fig2", "reduced", (), "asymmetric_fig2"),
}

Array = NDArray[Any]


@dataclass(frozen=True)
class Design:
    """An ablation of two rows whose first is said to be better."""

    claimed: float  # points
    splits: int
    most: int  # seeds

    @property
    def said(self) -> str:
        return f"+{self.claimed} on {self.splits} split{'s' * (self.splits > 1)}, at most {self.most} seeds"

    @property
    def spec(self) -> Spec:
        return Spec.model_validate(
            {
                "name": "simulated",
                "base": {"method": "plain"},
                "rows": [
                    {"name": "Ours", "set": {}, "published": {"AUROC": self.claimed}},
                    {"name": "Plain", "set": {}, "published": {"AUROC": 0.0}},
                ],
                "claims": [{"row": "Ours", "over": "Plain", "columns": ["AUROC"]}],
                "splits": [*range(self.splits)],
                "until": {"max_seeds": self.most, "smallest": self.claimed / 2},
            }
        )


DESIGNS = (Design(1.4, 1, 8), Design(1.4, 1, 20), Design(0.5, 5, 10), Design(0.5, 1, 36))


def drawn(rng: np.random.Generator, shape: tuple[int, int, int], spread: float, splits: float, over: Over) -> Array:
    """Differences of (tables, splits, seeds) whose truth is 0: the mean of all splits, or of those that were drawn."""
    shifts = splits * rng.standard_normal((*shape[:2], 1))
    if over == "seeds":
        shifts -= shifts.mean(1, keepdims=True)
    return shifts + spread * rng.standard_normal(shape)


def measured(console: Console) -> float:
    """The spread of a seed's paired difference of AUROC, on CIFAR-10."""
    shown = Table("trained on", "pairs of rows", "seeds", "spread of a seed's difference", title="Real trials")
    spreads = {}
    for name, (file, profile, changed, exported) in TRAINED.items():
        reader = read_exported(Path("docs/results") / f"{exported}.csv", "from")
        of = table_of(search_file.load(Path("search_spaces") / f"{file}.yaml"), profile, changed, reader)
        found = [one.found for one in of.comparisons if one.found and one.column.endswith(("AUROC", "AUC"))]
        squares = [pair.spread**2 for pair in found if pair.spread is not None]
        spreads[name] = math.sqrt(sum(squares) / len(squares))
        shown.add_row(name, str(len(found)), str(found[0].n), f"{spreads[name]:.2f}")
    console.print(shown)
    return spreads["CIFAR-10"]


# Until decided


def told(spec: Spec, differences: Array) -> Decision:
    """What the product decides of one ablation, in which all seeds have finished."""
    ours = dict(np.ndenumerate(differences))
    rows = {"Ours": ours, "Plain": dict.fromkeys(ours, 0.0)}
    (decision,) = decisions(spec, lambda row, column: rows[row])
    return decision


def ablations(console: Console, rng: np.random.Generator, spread: float) -> bool:
    """Whether false decisions are as seldom as alpha says. That a difference is smaller than half of what is claimed is
    false where it is half of it. `fixed`: the seeds of a test of fixed n with the power that was seen."""
    names: tuple[Outcome, ...] = ("holds", "smaller", "reversed", "open")
    shown = Table("ablation", "true", "false decisions, %", *(f"{name}, %" for name in names), "seeds",
                  "fixed", "saved", title=f"until: decided, {RUNS:,} ablations each, spread {spread:.2f}")  # fmt: skip
    level = True
    for design in DESIGNS:
        spec, fixed = design.spec, 0
        for true in (design.claimed, design.claimed / 2, 0.0):
            shape = (RUNS, design.splits, design.most)
            ends = [told(spec, true + of) for of in drawn(rng, shape, spread, spread, "seeds")]
            count = Counter(one.outcome for one in ends)
            wrong = count["reversed"] + count["smaller" if true else "holds"]
            seeds = sum(one.n for one in ends) / RUNS
            if true == design.claimed:
                power = min(count["holds"], RUNS - 1) / RUNS
                fixed = needed(true, spread, design.splits, power) or 0
            level &= wrong / RUNS <= beyond_chance(RUNS)
            shown.add_row(
                design.said if true == design.claimed else "", f"{true:+.2f}", f"{100 * wrong / RUNS:.1f}",
                *(f"{100 * count[name] / RUNS:.1f}" for name in names), f"{seeds:.1f}", str(fixed),
                f"{100 * (1 - seeds / fixed):.0f} %",
            )  # fmt: skip
    console.print(shown)
    return level


def beyond_chance(runs: int) -> float:
    """Alpha and three standard errors."""
    return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def spending(console: Console, rng: np.random.Generator, spread: float) -> None:
    """How late alpha is spent; and what becomes of it where one looks with Student's t each time."""
    shown = Table("ablation", "looks", "found without a difference, %", "power, %", "seeds without", "seeds with",
                  title="How alpha is spent, no `smallest`")  # fmt: skip
    for design in DESIGNS:
        plans = {f"(n/N)^{rho:g}": looks(design.most, design.splits, rho=rho) for rho in RHOS}
        plans["Student's t each time"] = tuple(
            replace(look, critical=float(stdtrit(design.splits * (look.n - 1), 1 - ALPHA / 2)))
            for look in looks(design.most, design.splits)
        )
        noise = drawn(rng, (RUNS, design.splits, design.most), spread, spread, "seeds")
        for name, plan in plans.items():
            without, with_it = ([ended(plan, true + of) for of in noise] for true in (0.0, design.claimed))
            found = [f"{100 * np.mean([one for one, _ in ends]):.1f}" for ends in (without, with_it)]
            seeds = [f"{np.mean([n for _, n in ends]):.1f}" for ends in (without, with_it)]
            shown.add_row(design.said if name == "(n/N)^1" else "", name, *found, *seeds)
    console.print(shown)


def ended(plan: tuple[Look, ...], differences: Array) -> tuple[bool, int]:
    """Whether a look finds a difference, and after how many seeds it ends."""
    for look in plan:
        found = interval(differences.tolist(), look)
        if found and not found.low <= 0 <= found.high:
            return True, look.n
    return False, plan[-1].n


# Intervals of a fixed n


def levels(console: Console, rng: np.random.Generator) -> bool:
    """How often an interval of 95 % lacks the truth: the product's two-level mean, and what else one might take."""
    shown = Table("over", "splits × seeds", "spread of splits / of seeds", "two-level mean, %", "mixed model, %",
                  "all pairs alike, %", title=f"Intervals without the truth: {LEVEL_RUNS:,} tables each")  # fmt: skip
    level = True
    for over, splits, seeds in _sizes():
        for shift in (0.0, 1.0, 2.0):
            tables = drawn(rng, (LEVEL_RUNS, splits, seeds), 1.0, shift, over)
            ours = float(np.mean([lacks_truth(of, over) for of in tables]))
            mixed = f"{100 * np.mean(abs(mixed_model(tables)) > 1.96):.1f}" if over == "splits" else ""
            pairs = tables.reshape(LEVEL_RUNS, -1)
            t = pairs.mean(1) / pairs.std(1, ddof=1) * math.sqrt(splits * seeds)
            alike = np.mean(abs(t) > stdtrit(splits * seeds - 1, 1 - ALPHA / 2))
            level &= ours <= beyond_chance(LEVEL_RUNS)
            shown.add_row(over, f"{splits} × {seeds}", f"{shift:g}", f"{100 * ours:.1f}", mixed, f"{100 * alike:.1f}")
    console.print(shown)
    return level


def _sizes() -> Iterator[tuple[Over, int, int]]:
    for n in (3, 5, 10):
        yield "splits", n, 2
    for n in (3, 5, 10):
        yield "seeds", 5, n


def lacks_truth(differences: Array, over: Over) -> bool:
    one = dict(np.ndenumerate(differences))
    found = paired(one, dict.fromkeys(one, 0.0), {split: split for split in range(len(differences))}, over)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return not found.low <= 0 <= found.high


def mixed_model(tables: Array) -> Array:
    """z of the mean in a model with a random split, by REML: in closed form, since all splits have as many seeds."""
    _, splits, seeds = tables.shape
    means = tables.mean(2)
    within = ((tables - means[..., None]) ** 2).sum((1, 2))
    between = seeds * ((means - means.mean(1, keepdims=True)) ** 2).sum(1)
    mean_square = between / (splits - 1)
    pooled = (between + within) / (splits * seeds - 1)  # where the splits' variance would be negative
    variance = np.where(mean_square > within / (splits * (seeds - 1)), mean_square, pooled)
    return tables.mean((1, 2)) / np.sqrt(variance / (splits * seeds))


def main() -> int:
    console, rng = Console(width=160, highlight=False), np.random.default_rng(0)
    spread = measured(console)
    level = ablations(console, rng, spread)
    spending(console, rng, spread)
    level &= levels(console, rng)
    if not level:
        console.print("[red]More is false than alpha and chance explain.[/red]")
    return 0 if level else 1


if __name__ == "__main__":
    sys.exit(main())
