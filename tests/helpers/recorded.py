"""A store after a day of work: one sweep whose trials ended in every way, with real weights and scores."""

import json
import shutil
import traceback
from pathlib import Path

import torch
from mlflow import MlflowClient

from platform.tracking.sweeps import OpenSweep
from platform.tracking.tracker import Tracker
from platform.tracking.trials import Place, TrialState
from tests.helpers.database import new_database
from trainables.data.trial_data import build
from trainables.one_trial import run_trial
from trainables.settings.resolving import resolve

BASE = {"method": "plain", "protocol": "digits", "backbone": "wrn10-1", "epochs": 1, "images_per_class": 20}
COMMAND = "python -m platform.sweep toy.yaml --set epochs=1"
TEXT = f"name: toy\nbase: {json.dumps(BASE)}\nrows:\n  - {{name: Plain, set: {{}}}}\n"


def recorded(folder: Path) -> str:
    """The store's address. A finished trial of Plain with its files, one of CutMix, one that failed, one that was
    interrupted, and one whose process is gone; the sweep is over."""
    uri = f"sqlite:///{new_database(folder)}"
    (folder / "toy.yaml").write_text(TEXT)
    tracker = Tracker(uri, folder / "results" / "outbox", print)
    tags = {"profile": "paper", "changed": "epochs=1", "file": "toy.yaml", "command": COMMAND, "images": "{}"}
    sweep = tracker.start_sweep(
        "toy", "sweep toy (paper)", "key", {"profile": "paper", **BASE}, tags, [folder / "toy.yaml"]
    )
    trials = [
        _finished(tracker, sweep, _state("a1", "Plain", 1), folder),
        _finished(tracker, sweep, _state("b2", "CutMix", 2, method="cutmix", lr=0.05), folder),
        _failed(tracker, sweep, _state("c3", "Broken", 3)),
        _interrupted(tracker, sweep, _state("d4", "Broken off", 4)),
    ]
    requests = [{"phase": "row", "row": t.place.row, "identity": t.identity, "run_id": t.run_id} for t in trials]
    tracker.requests(sweep, requests)
    tracker.end_sweep(sweep, "FAILED")
    tracker.close()
    _lost(uri, sweep.run_id)
    return uri


def _state(identity: str, row: str, number: int, **settings: object) -> TrialState:
    return TrialState(Place("toy", "row", row, number), resolve({**BASE, **settings}), identity * 8)


def _finished(tracker: Tracker, sweep: OpenSweep, trial: TrialState, folder: Path) -> TrialState:
    """Trained for real."""
    tracker.claim(trial, sweep)
    tracker.started(trial)
    out = folder / "out"
    out.mkdir()
    torch.manual_seed(0)
    *_, last = run_trial(trial.config, build(trial.config, Path("data")), torch.device("cpu"), out)
    trial.status, trial.epoch, trial.metrics, trial.device, trial.files = "finished", 1, last.metrics, "cpu", out
    tracker.reported(trial)
    tracker.ended(trial)
    shutil.rmtree(out)
    return trial


def _failed(tracker: Tracker, sweep: OpenSweep, trial: TrialState) -> TrialState:
    tracker.claim(trial, sweep)
    tracker.started(trial)
    try:
        torch.zeros(2) @ torch.zeros(3)
    except RuntimeError:
        trial.status, trial.error = "failed", traceback.format_exc()
    tracker.ended(trial)
    return trial


def _interrupted(tracker: Tracker, sweep: OpenSweep, trial: TrialState) -> TrialState:
    tracker.claim(trial, sweep)
    tracker.started(trial)
    trial.status = "interrupted"
    tracker.ended(trial)
    return trial


def _lost(uri: str, sweep: str) -> None:
    """A run that its process left open, and that process is gone."""
    client = MlflowClient(uri)
    of = client.get_run(sweep)
    born = {"host": of.data.tags["host"], "pid": of.data.tags["pid"], "born": "1.0", "driver": "gone"}
    tags = {"kind": "trial", "identity": "e5" * 8, "row": "Gone", "phase": "row", "mlflow.parentRunId": sweep, **born}
    client.create_run(of.info.experiment_id, tags=tags, run_name="Gone, split 0, seed 0")
