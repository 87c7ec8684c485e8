"""The one room of Ray on the driver: a cluster, and Tune running trials on it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform.spec import Resources, Spec
from platform.trials import Listener, Planned, TrialState

# Before ray is imported: quiet, private, and without its wrapper that would start every worker by `uv run`.
for _name, _value in {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
}.items():
    os.environ.setdefault(_name, _value)

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch


class ClusterError(RuntimeError):
    """A Ray cluster that does not answer; the message says which."""


@dataclass(frozen=True)
class Cluster:
    """What Ray has to give, in all."""

    cpus: int
    gpus: float

    def at_once(self, resources: Resources) -> int:
        """How many trials fit together; 0 where not even one does."""
        fits = self.cpus // resources.cpus_per_worker
        if resources.gpus_per_worker:
            fits = min(fits, int(self.gpus / resources.gpus_per_worker + 1e-9))
        return int(fits)


def on_interrupt() -> None:
    """From now on SIGTERM, a batch system's notice, is what Ctrl-C is: a KeyboardInterrupt."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def connect(address: str | None) -> Cluster:
    """Join the cluster at `address` (or RAY_ADDRESS), else start Ray on this machine, on loopback only.

    Raises `ClusterError` where no cluster answers.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address or os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(address=address, **options)
        except (ConnectionError, RuntimeError) as error:
            raise ClusterError(f"no Ray cluster at {address or os.environ['RAY_ADDRESS']}: {error}") from error
    else:
        own = local_cluster()
        ray.init("local", num_cpus=own.cpus, num_gpus=int(own.gpus), include_dashboard=False, **options)
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # a failed trial's traceback is the listeners' to tell
    on_interrupt()  # Ray's core has just put its own handler, which aborts, in place of ours
    total = ray.cluster_resources()
    return Cluster(int(total.get("CPU", 0)), float(total.get("GPU", 0)))


def local_cluster() -> Cluster:
    """What this machine, or the container that this is, has to give."""
    import torch
    from joblib import cpu_count

    return Cluster(cpu_count(), torch.cuda.device_count())


def disconnect() -> None:
    ray.shutdown()


@dataclass(frozen=True)
class Search:
    """What Optuna proposes from, how it is judged, and when a trial is stopped early."""

    spec: Spec
    max_epochs: int

    def searcher(self) -> OptunaSearch:
        from platform import search

        objective = self.spec.objective
        return OptunaSearch(
            search.space(self.spec),
            metric=objective.metric,
            mode=objective.mode,
            sampler=search.sampler(self.spec),
        )

    def scheduler(self) -> ASHAScheduler | None:
        if self.spec.scheduler is None:
            return None
        asha = self.spec.scheduler.asha
        return ASHAScheduler(
            time_attr="epoch",
            metric=self.spec.objective.metric,
            mode=self.spec.objective.mode,
            max_t=self.max_epochs + 1,  # a trial's own end is not a stop
            grace_period=asha.grace_epochs,
            reduction_factor=asha.reduction_factor,
        )


class _Relay(tune.Callback):
    """Turns Tune's events into `TrialState`s for the listeners. Stays on the driver."""

    def __init__(
        self, planned: Sequence[Planned], fingerprints: Mapping[str, str], listeners: Sequence[Listener]
    ) -> None:
        self.planned = planned
        self.fingerprints = fingerprints
        self.listeners = listeners
        self.states: dict[str, TrialState] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into a snapshot that nobody reads: live displays stay out

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id in self.states:
            return
        searched = {name: value for name, value in trial.config.items() if name != "trial"}
        position = trial.config["trial"]
        planned = self.planned[position]
        # Proposals are numbered as they come; what was planned keeps its place, whichever starts first.
        number = len(self.states) + 1 if planned.phase == "search" else position + 1
        state = planned.start(number, searched, self.fingerprints)
        self.states[trial.trial_id] = state
        for listener in self.listeners:
            listener.started(state)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        state = self.states[trial.trial_id]
        state.epoch, state.device = result["epoch"], result["device"]
        state.metrics = {k: float(v) for k, v in result.items() if k.split("/")[0] in ("train", "val", "test")}
        if result["last"]:
            state.status = "finished"
        for listener in self.listeners:
            listener.reported(state)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        state = self.states[trial.trial_id]
        if state.status == "finished":
            state.files = Path(trial.checkpoint.path)
        else:
            state.status = "stopped"
        for listener in self.listeners:
            listener.ended(state)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_start(iteration, trials, trial)  # a worker can die before its trial starts
        state = self.states[trial.trial_id]
        state.status, state.error = "failed", _traceback(trial)
        for listener in self.listeners:
            listener.ended(state)


def _traceback(trial: Any) -> str:
    try:
        return Path(trial.error_file).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return str(trial.get_error())


def run(
    planned: Sequence[Planned],
    *,
    listeners: Sequence[Listener],
    resources: Resources,
    storage: Path,
    data_root: Path,
    fingerprints: Mapping[str, str],
    teachers: Path,
    search: Search | None = None,
) -> None:
    """Run every one of `planned`, or with `search` as many proposals on top of the only one.

    `teachers` is the folder of teachers' weights by identity, and `fingerprints` are those of the images planned with.

    Returns when all have ended; failures are the listeners' to count.
    """
    from trainables.worker import train

    function = tune.with_parameters(
        train,
        trials=[dict(p.settings) for p in planned],
        data_root=str(data_root.resolve()),
        cpus=resources.cpus_per_worker,
        gpu=resources.gpus_per_worker > 0,
        fingerprints=dict(fingerprints),
        teachers=str(teachers.resolve()),
    )
    needs = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    config = tune.TuneConfig(reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id)
    space: dict[str, Any] = {"trial": tune.grid_search(list(range(len(planned))))}
    if search is not None:
        config.search_alg = search.searcher()
        config.scheduler = search.scheduler()
        config.num_samples = search.spec.trials
        config.mode, config.metric = None, None
        space = {"trial": 0}
    tune.Tuner(
        tune.with_resources(function, {k: v for k, v in needs.items() if v}),
        param_space=space,
        tune_config=config,
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage.resolve()),
            callbacks=[_Relay(planned, fingerprints, listeners)],
            verbose=0,
        ),
    ).fit()
