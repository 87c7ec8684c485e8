"""A table by blocks, which are a split and a seed on every row; and its next seeds, until it is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from platform.deciding.paired import Key
from platform.deciding.stopping import Decision, decisions, seeds_of, wanted_seeds
from platform.planning.plan import Plan, Request, Sweep
from platform.tracking.evaluations import lacks, own_metrics
from platform.tracking.index import FinishedTrial

Finished = Mapping[str, FinishedTrial]  # by identity


def block_of(sweep: Sweep, request: Request) -> int:
    """The number of a request's block: the first seed on all splits, then the second, since a new split says more than
    one once more. What a search proposes comes first, others wait for it."""
    if request.place.phase == "search" or request.config.pseudo_unknown:
        return 0
    of = sweep.spec.confirm or sweep.spec
    seeds = of.seeds if sweep.spec.confirm else seeds_of(sweep.spec)
    return seeds.index(request.config.seed) * len(of.splits) + of.splits.index(request.config.split)


def decided(plan: Plan, sweep: Sweep, finished: Finished) -> list[Decision]:
    """What became of the claims of a sweep that runs until decided; nothing for any other."""
    if sweep.spec.until is None:
        return []
    metrics = dict(zip(sweep.spec.columns, sweep.columns, strict=True))
    requests: dict[tuple[str, str], list[tuple[Request, FinishedTrial]]] = {}
    for request in sweep.requests:
        found = finished.get(request.identity)
        if found and not lacks(found, request.config, plan.images.tested(request.config)):
            requests.setdefault((request.place.row, request.place.column), []).append((request, found))

    def values(row: str, column: str) -> dict[Key, float]:
        group, metric = metrics[column]
        measured = {}
        for request, of in requests.get((row, group), []):
            own, name = own_metrics(of.metrics, request.config), metric.replace("{score}", request.config.score)
            if name in own:
                measured[request.config.split, request.config.seed] = 100 * own[name]
        return measured

    return decisions(sweep.spec, values)


def add_seeds(plan: Plan, sweep: Sweep, finished: Finished) -> list[Request]:
    """Give the rows that open claims need their next seed, on every split. The requests that are new."""
    seeds, added = seeds_of(sweep.spec), []
    for row, wanted in wanted_seeds(sweep.spec, decided(plan, sweep, finished)).items():
        own = [request for request in sweep.requests if request.place.row == row]
        have = len({request.config.seed for request in own})
        for seed in seeds[have:wanted] if own else ():
            added += [_at(plan, request, seed) for request in own if request.config.seed == seeds[0]]
    added.sort(key=lambda request: block_of(sweep, request))
    numbered = [_numbered(request, sweep.planned + number) for number, request in enumerate(added, 1)]
    sweep.planned += len(added)
    sweep.requests += numbered
    return numbered


def add_all_seeds(plan: Plan, finished: Finished) -> None:
    """Go through what earlier commands finished of the sweeps that run until decided, as they went through it."""
    for sweep in plan.sweeps:
        while sweep.spec.until and add_seeds(plan, sweep, finished):
            pass


def _at(plan: Plan, request: Request, seed: int) -> Request:
    config = request.config.at(request.config.split, seed)
    return Request(replace(request.place, seed=seed), config, plan.identity(config))


def _numbered(request: Request, number: int) -> Request:
    return replace(request, place=replace(request.place, number=number))
