"""Teachers before their students: found by identity, or trained and kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from platform.plan import Plan
from platform.results import Results
from platform.tracking import Tracker
from platform.trials import Planned
from trainables.config import TrialConfig
from trainables.teacher import keep_weights, weights_path


def missing(plan: Plan, tracker: Tracker, folder: Path) -> list[Planned]:
    """The teachers whose weights are neither in `folder` nor in a run that MLflow knows; those it knows are fetched."""
    return [planned for planned in plan.teachers if not _found(planned, plan, tracker, folder)]


def _found(teacher: Planned, plan: Plan, tracker: Tracker, folder: Path) -> bool:
    identity = TrialConfig.from_settings(teacher.settings).identity(plan.fingerprints)
    if weights_path(folder, identity).is_file():
        return True
    with tempfile.TemporaryDirectory() as scratch:
        weights = tracker.fetch_weights(identity, Path(scratch))
        if weights:
            keep_weights(weights, folder, identity)
    return weights is not None


def keep(results: Results, folder: Path) -> None:
    """Copy the weights of every teacher that finished to where its students look for them."""
    for trial in results.of("teacher"):
        if trial.files:
            keep_weights(trial.files / "weights.pt", folder, trial.identity)


def taught(trials: Sequence[Planned], plan: Plan, folder: Path) -> list[Planned]:
    """Those of `trials` that need no teacher, or whose teacher's weights are there."""
    teachers = [TrialConfig.from_settings(planned.settings).teacher for planned in trials]
    return [
        planned
        for planned, teacher in zip(trials, teachers, strict=True)
        if teacher is None or weights_path(folder, teacher.identity(plan.fingerprints)).is_file()
    ]
