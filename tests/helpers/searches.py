"""Searches in a real MLflow store, whose trials are ended by hand: plan, queue, study, tracker and reader are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from platform.files.spec import Spec
from platform.planning.best import best_of, best_settings
from platform.planning.plan import ImageSets, Sweep, make_plan
from platform.planning.results import Results
from platform.planning.search import Study
from platform.planning.starting import start
from platform.running.execute import _conclude, _record, _start, _Store
from platform.running.queue import Queue
from platform.running.sweeping import _trials_of
from platform.tracking.reader import Reader
from platform.tracking.tracker import Tracker
from trainables.storage.folder import Folder

SEARCH = """\
name: toy
base: {method: plain, protocol: digits, backbone: wrn10-1, epochs: 3, images_per_class: 20}
search: {lr: {float: [0.01, 0.1]}}
trials: 3
confirm: {splits: [0]}
"""


@dataclass
class Search:
    """A folder in which commands search, one after the other."""

    folder: Path
    uri: str

    def command(
        self,
        values: Sequence[float],
        *,
        text: str = SEARCH,
        changed: Sequence[str] = (),
        cut: bool = False,
        tested: Mapping[str, float] | None = None,
        recorded: pd.DataFrame | None = None,
    ) -> Results:
        """Trials of the search end with `values`; with `cut` there is an interrupt when they are used up. Those of a
        row that is confirmed end with its value of `tested`, else with 0.5. Each
        records `recorded`, as its `scores.parquet`."""
        content = {**yaml.safe_load(text), **dict(map(yaml_pair, changed))}
        file = self.folder / "toy.yaml"
        file.write_text(text)
        of = Sweep(file, Spec.model_validate(content), "paper", tuple(changed))
        self.sweep = of
        plan = make_plan([of], ImageSets(Path()), lambda path, profile: {})
        tracker = Tracker(self.uri, self.folder / "outbox", lambda said: None)
        assert of.search
        finished = tracker.finished()
        of.start = start(plan, of, finished, _trials_of, partial(best_of, sweeps=tracker.sweeps))
        results, study = Results(), Study(of.spec, plan.identity(of.search), self.folder / "studies")
        self.study = study
        study.begin_with(of.start)
        runs = {of.name: _start(tracker, of, plan.images, "again")}
        store = _Store(tracker, runs, Folder.at(self.folder / "teachers"), fresh=False)
        queue = Queue(plan, store, results, {of.name: study}, lambda needs: 1, lambda said: None)
        queue.finished |= finished
        queue.fill()
        _record(tracker, runs, plan, results)
        coming = iter(values)
        while job := queue.next():
            trial = job.trial
            tracker.started(trial)
            value = next(coming, None) if trial.place.phase == "search" else (tested or {}).get(trial.place.row, 0.5)
            if value is None:
                assert cut
                results.interrupted = True
                for interrupted in queue.interrupt():
                    tracker.ended(interrupted)
                break
            trial.status, trial.epoch = "finished", trial.config.epochs
            own = trial.config.score
            scores = [f"test/digits/{score}/{metric}" for score in ("msp", "mls", own) for metric in ("auroc", "oscr")]
            trial.metrics = (
                {f"val/pseudo-unknown/{own}/auroc": value}
                if trial.place.phase == "search"
                else {**dict.fromkeys(scores, value), "test/accuracy": value}
            )
            tracker.reported(trial)
            if recorded is not None:
                trial.files = self.folder / f"files of {trial.identity}"
                trial.files.mkdir(exist_ok=True)
                recorded.to_parquet(trial.files / "scores.parquet", index=False)
            tracker.ended(trial)
            queue.ended(job)
        _conclude(tracker, runs, plan, results, "KILLED" if results.interrupted else "FINISHED")
        assert tracker.close(30) == []
        return results

    @property
    def reader(self) -> Reader:
        found = Reader.open(self.uri)
        assert found is not None
        return found

    def tried(self, changed: str = "") -> list[tuple[float, str]]:
        """From `cells.json` of the newest sweep: of each trial of the search its val/auroc and lr."""
        reader = self.reader
        sweep = next(s for s in reader.sweeps if s.changed == changed)
        ids = [request["run_id"] for request in reader.requests(sweep) if request["phase"] == "search"]
        found = reader.runs(ids)
        return [(found[i][1]["val/pseudo-unknown/msp/auroc"], found[i][0]["lr"]) for i in ids]

    def best(self, changed: str = "") -> dict[str, Any]:
        """As reports read it."""
        return best_settings(next(s for s in self.reader.sweeps if s.changed == changed))

    def best_elsewhere(self) -> dict[str, Any]:
        """As a row of another file takes it."""
        tracker = Tracker(self.uri, self.folder / "another outbox", lambda said: None)
        found = best_of(self.folder / "toy.yaml", "paper", tracker.sweeps)
        tracker.close(30)
        return dict(found)


def yaml_pair(change: str) -> tuple[str, Any]:
    key, _, value = change.partition("=")
    return key, yaml.safe_load(value)
