"""A table by blocks, which are a split and a seed on every row; and its next seeds, until it is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from platform.deciding.paired import Key
from platform.deciding.stopping import Decision, decisions, seeds_of, wanted_seeds
from platform.planning.plan import Cell, Plan, Sweep
from platform.tracking.evaluations import lacks, own_metrics
from platform.tracking.index import FinishedTrial

Finished = Mapping[str, FinishedTrial]  # by identity


def block_of(sweep: Sweep, cell: Cell) -> int:
    """The number of a cell's block: the first seed on all splits, then the second, since a new split says more than one
    once more. What a search proposes comes first, others wait for it."""
    if cell.place.phase == "search" or cell.config.pseudo_unknown:
        return 0
    of = sweep.spec.confirm or sweep.spec
    seeds = of.seeds if sweep.spec.confirm else seeds_of(sweep.spec)
    return seeds.index(cell.config.seed) * len(of.splits) + of.splits.index(cell.config.split)


def decided(plan: Plan, sweep: Sweep, finished: Finished) -> list[Decision]:
    """What became of the claims of a sweep that runs until decided; nothing for any other."""
    if sweep.spec.until is None:
        return []
    metrics = dict(zip(sweep.spec.columns, sweep.columns, strict=True))
    cells: dict[tuple[str, str], list[tuple[Cell, FinishedTrial]]] = {}
    for cell in sweep.cells:
        found = finished.get(cell.identity)
        if found and not lacks(found, cell.config, plan.images.tested(cell.config)):
            cells.setdefault((cell.place.row, cell.place.column), []).append((cell, found))

    def values(row: str, column: str) -> dict[Key, float]:
        group, metric = metrics[column]
        measured = {}
        for cell, of in cells.get((row, group), []):
            own, name = own_metrics(of.metrics, cell.config), metric.replace("{score}", cell.config.score)
            if name in own:
                measured[cell.config.split, cell.config.seed] = 100 * own[name]
        return measured

    return decisions(sweep.spec, values)


def add_seeds(plan: Plan, sweep: Sweep, finished: Finished) -> list[Cell]:
    """Give the rows that open claims need their next seed, on every split. The cells that are new."""
    seeds, added = seeds_of(sweep.spec), []
    for row, wanted in wanted_seeds(sweep.spec, decided(plan, sweep, finished)).items():
        own = [cell for cell in sweep.cells if cell.place.row == row]
        have = len({cell.config.seed for cell in own})
        for seed in seeds[have:wanted] if own else ():
            added += [_at(plan, cell, seed) for cell in own if cell.config.seed == seeds[0]]
    added.sort(key=lambda cell: block_of(sweep, cell))
    numbered = [_numbered(cell, sweep.planned + number) for number, cell in enumerate(added, 1)]
    sweep.planned += len(added)
    sweep.cells += numbered
    return numbered


def add_all_seeds(plan: Plan, finished: Finished) -> None:
    """Go through what earlier commands finished of the sweeps that run until decided, as they went through it."""
    for sweep in plan.sweeps:
        while sweep.spec.until and add_seeds(plan, sweep, finished):
            pass


def _at(plan: Plan, cell: Cell, seed: int) -> Cell:
    config = cell.config.at(cell.config.split, seed)
    return Cell(replace(cell.place, seed=seed), config, plan.identity(config))


def _numbered(cell: Cell, number: int) -> Cell:
    return replace(cell, place=replace(cell.place, number=number))
