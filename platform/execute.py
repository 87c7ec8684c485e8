"""A plan carried out: search, then confirm, with every run of MLflow closed whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from platform import launch, teachers
from platform.plan import Plan, confirm_trials, search_trial
from platform.progress import LiveView
from platform.results import Results
from platform.tracking import Tracker


def execute(
    plan: Plan, tracker: Tracker, console: Console, *, file: Path, data_root: Path, storage: Path, start_ray: bool
) -> Results:
    """Run the sweep and record it; `start_ray` where no cluster was joined. Ctrl-C passes through."""
    spec, results = plan.spec, Results(plan.spec.objective)
    scratch = storage / f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = storage / "teachers"
    outcome: Literal["FINISHED", "FAILED", "KILLED"] = "KILLED"
    try:
        tags = {
            "profile": plan.profile,
            "changed": " ".join(plan.changed),
            "split_family": plan.search.split_family,
            "protocol": plan.search.protocol,
        }
        params = {"profile": plan.profile, "trials": spec.trials, "objective": spec.objective.metric, **spec.base}
        tracker.start_sweep(f"sweep {spec.name} ({plan.profile})", params, tags, file)
        if start_ray:
            with console.status("starting Ray on this machine …"):
                launch.connect(None)
        with LiveView(console, spec.objective.metric) as view:
            common: dict[str, Any] = {
                "listeners": (tracker, view, results),
                "resources": spec.resources,
                "data_root": data_root,
                "fingerprints": plan.fingerprints,
                "teachers": folder,
            }
            if untrained := teachers.missing(plan, tracker, folder):
                view.phase("teachers", len(untrained))
                launch.run(untrained, storage=scratch / "teachers", **common)
                teachers.keep(results, folder)
            if searched := teachers.taught([search_trial(spec)], plan, folder):
                view.phase("search", spec.trials)
                search = launch.Search(spec, plan.search.epochs)
                launch.run(searched, search=search, storage=scratch / "search", **common)
            else:
                console.print("[red]the search is left out[/red]: its teacher failed")
            best = results.best(spec.confirm.top if spec.confirm else 1)
            if spec.confirm and best:
                planned = list(confirm_trials(spec, [t.searched for t in best]))
                able = teachers.taught(planned, plan, folder)
                if len(able) < len(planned):
                    console.print(f"[red]{len(planned) - len(able)} trials are left out[/red]: their teacher failed")
                if able:
                    view.phase("confirm", len(able))
                    launch.run(able, storage=scratch / "confirm", **common)
        outcome = "FAILED" if results.failed or not best else "FINISHED"
        found = {f"best.{k}": v for k, v in best[0].searched.items()} if best else {}
        tracker.log_result(results.confirmed(), found)
        return results
    finally:
        # A second Ctrl-C must not leave runs open.
        handlers = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
        if start_ray:
            launch.disconnect()
        tracker.close(outcome)
        shutil.rmtree(scratch, ignore_errors=True)  # MLflow has a copy of every file of it
        for number, handler in handlers.items():
            signal.signal(number, handler)
