"""A plan carried out: every trial trained or found, with every run of MLflow closed whatever happens."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from platform.files.spec import Resources
from platform.files.trial_settings import judged_on
from platform.planning.best import best_params
from platform.planning.plan import ImageSets, Plan, Sweep
from platform.planning.results import Results
from platform.planning.search import Study, made_with
from platform.running.budget import HoursLeft
from platform.running.cluster import LostError
from platform.running.interrupt import Interrupt, ignored
from platform.running.pace import Pace
from platform.running.queue import Queue
from platform.terminal.progress import LiveView
from platform.tracking.claims import ClaimOutcome
from platform.tracking.errors import TrackingError
from platform.tracking.index import FinishedTrial
from platform.tracking.store import End
from platform.tracking.sweeps import OpenSweep
from platform.tracking.tracker import LONGEST_TAG, Tracker
from platform.tracking.trials import Listener, Place, TrialState
from trainables.storage.folder import Folder
from trainables.storage.weights import keep_weights, kept_weights


@dataclass(frozen=True)
class Locations:
    """Where a command reads and writes."""

    data_root: Path
    storage: Folder  # of what nodes share: checkpoints of running trials, weights of teachers
    local: Path  # of what this process alone writes: studies, records that MLflow has not taken yet


def execute(
    plan: Plan,
    finished: Mapping[str, FinishedTrial],
    tracker: Tracker,
    console: Console,
    interrupt: Interrupt,
    place: Locations,
    *,
    worker: Callable[[], type[Any]],
    give_up: Callable[[Results], None],
    again: str,
    pace: Pace,
    budget: HoursLeft | None = None,
    listeners: Sequence[Listener] = (),
    fresh: bool = False,
    joined: bool = False,
) -> Results:
    """Run the sweeps on actors of the class that `worker` gives, and record them; `again` is the command that does the
    same, `joined`: on a cluster that is connected already.

    Interrupted, refused by the store, or without its cluster all at once, it returns what there is, with everything
    kept and closed. Where Ray's core holds the main thread for good, `give_up` gets that in another one, and ends the
    process.
    """
    results = Results()
    outcome: End = "KILLED"
    runs: dict[str, OpenSweep] = {}

    def close() -> None:
        _conclude(tracker, runs, plan, results, outcome)
        with console.status("delivering the last records to MLflow …"):
            for problem in tracker.close():
                results.undelivered = True
                console.print(problem, style="yellow", soft_wrap=True)

    try:
        studies = {
            sweep.name: Study(sweep.spec, plan.identity(sweep.search), place.local / "studies", fresh=fresh)
            for sweep in plan.sweeps
            if sweep.search
        }
        for sweep in plan.sweeps:
            if sweep.search:
                studies[sweep.name].begin_with(sweep.start)
            runs[sweep.name] = _start(tracker, sweep, plan.images, again)
            results.runs[sweep.name] = runs[sweep.name].run_id
        objectives = {s.name: s.spec.objectives[0] for s in plan.sweeps if s.search}
        view = LiveView(console, results, objectives)
        store = _Store(tracker, runs, place.storage / "teachers", fresh)
        queue = Queue(plan, store, results, studies, _at_once, view.say, budget, lambda: interrupt.asked)
        queue.finished |= finished
        queue.fill()
        _record(tracker, runs, plan, results)
        if _has_work(queue, results):
            from platform.running import connection, launch  # Ray's imports take seconds

            def held(error: LostError) -> None:
                connection.abandon()
                results.interrupted, results.lost = True, str(error)
                view.close()
                close()
                give_up(results)

            try:
                if not joined:
                    with console.status("starting Ray on this machine …"):
                        connection.connect(None)
                        interrupt.listen()  # Ray's core has just put its own handlers, which abort, in place of ours
                site = launch.Site(place.data_root, place.storage, tracker.store, plan.images.fingerprints)
                with view:
                    view.begin(queue.expected, lambda: pace.left_of(queue))
                    run = launch.Run(
                        queue,
                        (tracker, pace, view, *listeners),
                        site,
                        interrupt,
                        view.say,
                        lambda: tracker.to_end,
                    )
                    launch.work_off(run, worker(), held, joined=joined)
            except LostError as error:
                results.interrupted, results.lost = True, str(error)
            except (TrackingError, OSError) as error:
                _end(results, error)
            finally:
                with ignored():
                    if results.lost:
                        connection.abandon()
                    elif not joined:
                        connection.disconnect()
        if not results.interrupted:
            outcome = "FAILED" if results.count("failed", "left out") else "FINISHED"
    except KeyboardInterrupt:
        results.interrupted = True
    finally:
        with ignored():  # a second Ctrl-C must not leave runs open
            close()
    return results


def _has_work(queue: Queue, results: Results) -> bool:
    """Whether a worker is needed; not where the store refuses the very first claim."""
    try:
        return queue.has_work()
    except TrackingError as error:
        _end(results, error)
        return False


def _end(results: Results, error: Exception) -> None:
    results.interrupted = True
    results.problem = f"{error}: the sweep ends here, with everything kept that was finished"


def _at_once(needs: Resources) -> int:
    """How many trials fit together on the nodes that are there now."""
    from platform.running import connection

    return connection.cluster().at_once(needs)


@dataclass
class _Store:
    """What the queue asks of MLflow and of the folder of weights."""

    tracker: Tracker
    runs: Mapping[str, OpenSweep]
    teachers: Folder
    fresh: bool

    def claim(self, trial: TrialState, *, fresh: bool = False) -> ClaimOutcome:
        return self.tracker.claim(trial, self.runs[trial.place.sweep], fresh=fresh or self.fresh)

    def fetch_scores(self, run_id: str) -> pd.DataFrame:
        with tempfile.TemporaryDirectory() as scratch:
            scores = self.tracker.fetch(run_id, "scores.parquet", Path(scratch))
            if scores is None:
                raise TrackingError(f"run {run_id} has no scores.parquet to search a score by: --fresh trains it again")
            return pd.read_parquet(scores)

    def fetch_weights(self, finished: FinishedTrial) -> bool:
        try:
            if kept_weights(self.teachers, finished.identity) is not None:
                return True
            with tempfile.TemporaryDirectory() as scratch:
                weights = self.tracker.fetch(finished.run_id, "weights.pt", Path(scratch))
                if weights:
                    keep_weights(weights, self.teachers, finished.identity)
            return weights is not None
        except (TrackingError, OSError):  # no answer, or no room
            return False


def _start(tracker: Tracker, sweep: Sweep, images: ImageSets, again: str) -> OpenSweep:
    """The sweep's own run. The same file, profile and overrides go on with the one that they have.

    Its tag `images` says on which image sets the command trained: a report finds the trials by it, without images.
    """
    spec, config = sweep.spec, sweep.config
    tags = {
        "file": str(sweep.file),
        "command": again[:LONGEST_TAG],
        "profile": sweep.profile,
        "changed": " ".join(sweep.changed),
        "split_family": config.split_family,
        "protocol": config.protocol,
        "images": json.dumps(images.trained_on),
    }
    params = {"profile": sweep.profile, **spec.base}
    if spec.search:
        params |= {"trials": spec.trials, "objective": ", ".join(o.metric for o in spec.objectives)}
        params |= dict(zip(("splits", "seeds"), judged_on(spec), strict=True))
        params["optuna"] = made_with(spec)
        params |= {"known_results": len(sweep.start.known)} if spec.start_from else {}
    key = hashlib.sha256(f"{sweep.profile}\n{spec.model_dump_json(by_alias=True)}".encode()).hexdigest()[:16]
    shown = [o.metric for o in spec.objectives] if spec.search else []
    name = f"sweep {spec.name} ({sweep.profile})"
    return tracker.start_sweep(spec.name, name, key, params, tags, [sweep.file], shown)


def _conclude(tracker: Tracker, runs: Mapping[str, OpenSweep], plan: Plan, results: Results, outcome: End) -> None:
    """What came of the sweeps that were started, and the end of their runs."""
    if set(runs) == {sweep.name for sweep in plan.sweeps}:
        _record(tracker, runs, plan, results)
    for sweep in plan.sweeps:
        if sweep.name in runs:
            tracker.log_result(runs[sweep.name], *_found(sweep, results))
            tracker.end_sweep(runs[sweep.name], outcome)


def _record(tracker: Tracker, runs: Mapping[str, OpenSweep], plan: Plan, results: Results) -> None:
    """`cells.json` of every sweep: what each of its requests is, and which run has it."""
    for sweep in plan.sweeps:
        ended = (*results.earlier, *results.outcomes)
        found = {_key(o.place): o for o in ended if o.place.sweep == sweep.name}
        wanted = {_key(r.place): r for r in sweep.requests}
        requests = []
        for key in sorted({*found, *wanted}):
            request = found.get(key) or wanted[key]
            place = request.place
            entry = {"phase": place.phase, "row": place.row, "column": place.column, "split": place.split}
            entry |= {"seed": place.seed, "identity": request.identity}
            entry |= {"proposal": place.proposal} if place.phase == "search" else {}
            done = found.get(key)
            entry |= {"status": done.status if done else "planned", "run_id": done.run_id if done else ""}
            requests.append(entry)
        tracker.requests(runs[sweep.name], requests)


def _key(place: Place) -> tuple[str, int, int, int]:
    return (place.phase, place.number, place.seed, place.split)


def _found(sweep: Sweep, results: Results) -> tuple[dict[str, float], dict[str, object]]:
    """What the whole sweep found: means of its rows, and once its search has ended the best settings."""
    metrics, spec = dict(results.summary(sweep.name, sweep.columns)), sweep.spec
    if (best := results.best.get(sweep.name)) is None:
        return metrics, {}
    metrics |= results.of_best(sweep.name, [o.metric for o in spec.objectives])
    return metrics, best_params(best, spec.search, spec.confirm.top if spec.confirm else 1)
