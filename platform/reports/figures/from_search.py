"""Figures of what a search tried, as Optuna draws them."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pandas as pd

from platform.files.trial_settings import proposed
from platform.planning.search import Tried, plots
from platform.reports.figures.drawing import Drawing, MissingError, Runs
from platform.tracking.evaluations import own_metrics
from trainables.reading import yaml_file


def search(runs: Runs) -> list[Drawing]:
    """Its history, the importance of each setting, slices, and the Pareto front of several objectives."""
    spec = runs.table.spec
    sweep = next((s for s in runs.reader.sweeps if s.run_id == runs.table.sweep_run), None)
    if sweep is None:
        raise MissingError("the search has not run in this profile")
    requests = [r for r in runs.reader.requests(sweep) if r["phase"] == "search" and r["run_id"]]
    found = runs.reader.runs([request["run_id"] for request in requests])
    configs = proposed(spec, {})
    trainings: dict[int, list[dict[str, Any]]] = {}
    for number, request in enumerate(requests):
        if request["run_id"] in found:
            trainings.setdefault(request.get("proposal", number), []).append(request)
    tried = []
    for own in trainings.values():
        params, _, _ = found[own[0]["run_id"]]
        settings = {name: yaml_file.parse(params[name], name).data for name in spec.search if name in params}
        metrics = [own_metrics(found[request["run_id"]][1], configs[0]) for request in own]
        measured = [[of[o.metric] for of in metrics if o.metric in of] for o in spec.objectives]
        values = [fmean(each) if each else None for each in measured]
        done = [request for request in own if request["status"] in ("finished", "cached")]
        tried.append(Tried(settings, values, len(done) == len(configs)))
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
