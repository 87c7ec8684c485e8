"""Figures of what a search tried, as Optuna draws them."""

from __future__ import annotations

import pandas as pd

from platform.files.trial_settings import search_settings
from platform.planning.search import Tried, plots
from platform.reports.figures.drawing import Drawing, MissingError, Runs
from platform.tracking.evaluations import own_metrics
from trainables.reading import yaml_file
from trainables.settings.resolving import resolve


def search(runs: Runs) -> list[Drawing]:
    """Its history, the importance of each setting, slices, and the Pareto front of several objectives."""
    spec = runs.table.spec
    sweep = next((s for s in runs.reader.sweeps if s.run_id == runs.table.sweep_run), None)
    if sweep is None:
        raise MissingError("the search has not run in this profile")
    requests = [r for r in runs.reader.requests(sweep) if r["phase"] == "search" and r["run_id"]]
    found = runs.reader.runs([request["run_id"] for request in requests])
    config = resolve(search_settings(spec))
    tried = []
    for request in requests:
        if request["run_id"] not in found:
            continue
        params, metrics, _ = found[request["run_id"]]
        settings = {name: yaml_file.parse(params[name], name).data for name in spec.search if name in params}
        own = own_metrics(metrics, config)
        values = [own.get(objective.metric) for objective in spec.objectives]
        tried.append(Tried(settings, values, request["status"] in ("finished", "cached")))
    drawn = plots(spec, tried)
    if not drawn:
        raise MissingError("fewer than two trials of the search have finished")
    lines = [
        {**t.settings, **dict(zip((o.metric for o in spec.objectives), t.values, strict=True)), "finished": t.finished}
        for t in tried
    ]
    data = pd.DataFrame(lines)
    return [
        Drawing(f"search-{name}", f"{caption}, of {len(tried)} trials.", figure, data)
        for name, (caption, figure) in drawn.items()
    ]
