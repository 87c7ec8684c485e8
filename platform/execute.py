"""A plan carried out: search, then confirm, with every run of MLflow closed whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from platform import launch
from platform.plan import Plan, confirm_trials, search_trial
from platform.progress import LiveView
from platform.results import Results
from platform.tracking import Tracker
from platform.trials import Planned
from trainables.config import TrialConfig
from trainables.teacher import keep_weights, weights_path


def execute(
    plan: Plan, tracker: Tracker, console: Console, *, file: Path, data_root: Path, storage: Path, start_ray: bool
) -> Results:
    """Run the sweep and record it; `start_ray` where no cluster was joined. Ctrl-C passes through."""
    spec, results = plan.spec, Results(plan.spec.objective)
    scratch = storage / f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    teachers = storage / "teachers"
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
                "teachers": teachers,
            }
            missing = [planned for planned in plan.teachers if not _found(planned, plan, tracker, teachers)]
            if missing:
                view.phase("teachers", len(missing))
                launch.run(missing, storage=scratch / "teachers", **common)
                for trial in results.of("teacher"):
                    if trial.files:
                        keep_weights(trial.files / "weights.pt", teachers, trial.identity)

            def ready(planned: list[Planned]) -> list[Planned]:
                """Those that can run; the others' teacher failed, and was reported."""
                able = [p for p in planned if _has_teacher(p, plan, teachers)]
                if len(able) < len(planned):
                    console.print(f"[red]{len(planned) - len(able)} trials are left out[/red]: their teacher failed")
                return able

            if searched := ready([search_trial(spec)]):
                view.phase("search", spec.trials)
                search = launch.Search(spec, plan.search.epochs)
                launch.run(searched, search=search, storage=scratch / "search", **common)
            best = results.best(spec.confirm.top if spec.confirm else 1)
            if spec.confirm and best:
                planned = ready(list(confirm_trials(spec, [t.searched for t in best])))
                view.phase("confirm", len(planned))
                launch.run(planned, storage=scratch / "confirm", **common)
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


def _found(teacher: Planned, plan: Plan, tracker: Tracker, folder: Path) -> bool:
    """Whether a teacher's weights are in `folder`, from an earlier sweep or now from a run that MLflow knows."""
    identity = TrialConfig.from_settings(teacher.settings).identity(plan.fingerprints)
    if weights_path(folder, identity).is_file():
        return True
    with tempfile.TemporaryDirectory() as scratch:
        weights = tracker.fetch_weights(identity, Path(scratch))
        if weights:
            keep_weights(weights, folder, identity)
    return weights is not None


def _has_teacher(planned: Planned, plan: Plan, folder: Path) -> bool:
    """Whether a trial needs no teacher, or its teacher's weights are there."""
    teacher = TrialConfig.from_settings(planned.settings).teacher
    return teacher is None or weights_path(folder, teacher.identity(plan.fingerprints)).is_file()
