"""Where Ray enters on a worker: an actor that runs one trial after the other, itself or on workers of their own."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

# Of Ray Train, before it is imported: two actors, or a message at each report, that nobody here looks at.
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

import ray
import ray.train
import torch
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.data.trial_data import TrialData, build
from trainables.device import pick_device
from trainables.evaluating import evaluate_again, evaluate_given
from trainables.one_trial import Trial
from trainables.processes import ALONE, Processes
from trainables.settings.config import TrialConfig
from trainables.settings.identity import weights_fingerprints
from trainables.settings.resolving import resolve
from trainables.storage.folder import Folder
from trainables.storage.weights import WeightsError, kept_weights
from trainables.training.checkpoint import Checkpoints
from trainables.training.mailbox import Mailbox

TICK = 2.0  # seconds between two reports within an epoch: how long an interrupt waits, and how old what one sees is
Result = dict[str, Any]  # what the driver is told at each report


@dataclass(frozen=True)
class Order:
    """One trial as the driver wants it. Travels as JSON: Tune walks through the settings that it is given."""

    settings: dict[str, Any]
    identity: str
    teacher: str  # the identity of the teacher, where there is one
    evaluates_only: bool  # finished weights lie in the trial's folder
    workers: int
    cpus: int  # of each worker
    gpus: float
    mark: int  # of this attempt, where it has several workers: their group asks for as many bytes of memory
    data_root: str
    storage: str  # the folder of `trials/<store>/<identity>` and `teachers/`, as `Folder.at` reads it
    store: str  # of the driver's records: that of another one may have the same trial trained
    fingerprints: dict[str, str]  # of the images that the sweep was planned with
    tested: dict[str, str]  # the same of its test images, by `known` and unknown set

    @classmethod
    def read(cls, text: str) -> Order:
        return cls(**json.loads(text))

    @property
    def folder(self) -> Folder:
        """Where the trial keeps `checkpoints/` and leaves its `files/`."""
        return Folder.at(self.storage) / "trials" / self.store / self.identity

    @property
    def teachers(self) -> Folder:
        """Weights of finished trials by identity: of teachers, and of what is evaluated again."""
        return Folder.at(self.storage) / "teachers"


class Worker(tune.Trainable):
    """Runs on by one report at each call of `step`. Imports and images stay for the next trial of this process."""

    def setup(self, config: dict[str, Any]) -> None:
        self.running: _Alone | _Several | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial takes over this process."""
        self.cleanup()
        self.order = Order.read(new_config["trial"])
        return True

    def step(self) -> Result:
        """The next report. A failure is one too, so that this process lives on for the next trial."""
        try:
            if self.running is None:
                self.running = _Several(self.order) if self.order.workers > 1 else _Alone(self.order)
            return self.running.step()
        except Exception as error:
            self.cleanup()
            if isinstance(error, torch.AcceleratorError):
                raise  # the GPU's context is gone with it: Ray starts another process
            return failure(error)

    def interrupt(self) -> None:
        """Keep a checkpoint of where the trial is now, for another process to go on from."""
        if self.running:
            self.running.stop(save=True)
            self.running = None

    def cleanup(self) -> None:
        if self.running:
            self.running.stop(save=False)
            self.running = None


def failure(error: Exception) -> Result:
    """The report of a trial that failed."""
    return {"failure": traceback.format_exc(), "again": _may_pass(error), "last": True, "done": True}


def _may_pass(error: Exception) -> bool:
    """Whether the same trial may well succeed when it is tried again: memory, disks and networks come and go."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    passing = (OSError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError, torch.distributed.DistError)
    return isinstance(error, (*passing, ray.exceptions.RayError)) or "out of memory" in str(error)


def _device(order: Order) -> torch.device:
    torch.set_num_threads(order.cpus)
    return pick_device("auto" if order.gpus else "cpu")  # a GPU that Ray did not reserve is somebody else's


def _trial(order: Order, device: torch.device, scratch: Path, processes: Processes = ALONE) -> Trial:
    """The trial, where its last checkpoint left it."""
    config = resolve(order.settings)
    data = _data(order, config)
    teacher = _weights(order.teachers, order.teacher, scratch) if order.teacher else None
    checkpoints = Checkpoints(order.folder / "checkpoints")
    return Trial(config, data, device, teacher=teacher, checkpoints=checkpoints, processes=processes)


def _data(order: Order, config: TrialConfig) -> TrialData:
    """Raises `RuntimeError` where this node's images are not those that the sweep was planned with."""
    data = build(config, Path(order.data_root))
    planned = {**order.fingerprints, **{f"test images of {name}": p for name, p in order.tested.items()}}
    here = {
        **data.fingerprints,
        **weights_fingerprints(config),
        **{f"test images of {name}": c.fingerprint for name, c in data.tested.items()},
    }
    for name, fingerprint in here.items():
        if planned.get(name, fingerprint) != fingerprint:
            raise RuntimeError(
                f"{name} under {order.data_root} on {socket.gethostname()} is not what the sweep was planned with"
            )
    return data


def _weights(folder: Folder, identity: str, scratch: Path) -> Path:
    name = f"{identity}.pt"
    content = kept_weights(folder, identity)
    if content is None:
        where = f"in teachers/ of the storage, as {socket.gethostname()} sees it"
        raise WeightsError(f"{name} is missing or damaged {where}: run the same command again, and it is made again")
    (scratch / name).write_bytes(content)
    return scratch / name


def _results(order: Order, scratch: Path, processes: Processes = ALONE) -> Generator[tuple[Trial | None, Result]]:
    """Each report of a trial, with the trial; the files that last are there before the last one."""
    device = _device(order)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {order.cpus} threads"
    if order.workers > 1:
        name = f"{order.workers} × {name}"
    out = scratch / "out"
    config = resolve(order.settings)
    if order.evaluates_only or config.train == "none":
        data = _data(order, config)
        if order.evaluates_only:
            metrics = evaluate_again(config, data, device, out, _weights(order.teachers, order.identity, scratch))
        else:
            metrics = evaluate_given(config, data, device, out)
        _leave(out, order.folder / "files")
        told = {"epoch": config.epochs, "metrics": metrics, "last": True, "done": True, "device": name}
        yield None, {**told, "tested": data.tested, "history": [], "warnings": []}
        return
    trial = _trial(order, device, scratch, processes)
    lost = list(trial.history)  # reported by an earlier process: perhaps it was not heard
    for report in trial.reports(out, TICK):
        if report.last and processes.first:
            _leave(out, order.folder / "files")
        result = {"epoch": report.progress, "metrics": report.metrics, "last": report.last, "device": name}
        result |= {"tested": trial.data.tested, "history": lost, "warnings": trial.warnings, "done": report.last}
        yield trial, result
        lost = []


def _leave(out: Path, folder: Folder) -> None:
    for file in sorted(out.iterdir()):
        folder.put(file, file.name)


class _Alone:
    """A trial in this process."""

    def __init__(self, order: Order) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="trial-")
        self.trial: Trial | None = None
        self.results = _results(order, Path(self.scratch.name))

    def step(self) -> Result:
        self.trial, result = next(self.results)
        return result

    def stop(self, *, save: bool) -> None:
        if save and self.trial:
            self.trial.save()
        self.results.close()
        self.scratch.cleanup()


class _Trainer(TorchTrainer):
    """Without Ray's actor that frees the group of a trainer that was killed, which the driver does: where there is no
    dashboard, that actor cannot tell, and stays for ever."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [c for c in callbacks if type(c).__name__ != "PlacementGroupCleanerCallback"]


class _InAFile(_TorchBackend):
    """Ranks of one machine meet in a file: the store in which they do by default listens on every interface."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(_set_torch_distributed_env_vars)
        size = len(worker_group)
        common = {
            "backend": "nccl" if worker_group.get_resources_per_worker().get("GPU") else "gloo",
            "world_size": size,
            "init_method": backend_config.init_method,
            "timeout_s": backend_config.timeout_s,
        }
        set_up = _setup_torch_process_group
        ray.get([worker_group.execute_single_async(n, set_up, world_rank=n, **common) for n in range(size)])


def _meeting(folder: Path) -> TorchConfig:
    """How ranks find each other, where `folder` is on this node."""
    if not ip_address(ray.util.get_node_ip_address()).is_loopback:
        return TorchConfig()
    return _InAFileConfig(init_method=f"file://{folder / 'ranks'}")


class _InAFileConfig(TorchConfig):
    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _InAFile


class _Several:
    """A trial on workers of its own: Ray Train starts them, and frees what they held once they return."""

    def __init__(self, order: Order) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self.heard = False
        self.scratch = tempfile.TemporaryDirectory(prefix="train-")
        self.error: Exception | None = None
        # Memory is all that Ray Train passes on to a group: it tells the driver which group to free if we are killed.
        each = {"CPU": order.cpus, "memory": order.mark} | ({"GPU": order.gpus} if order.gpus else {})
        self.trainer = _Trainer(
            _rank,
            train_loop_config={"order": json.dumps(order.__dict__), "mailbox": self.mailbox},
            torch_config=_meeting(Path(self.scratch.name)),
            scaling_config=ray.train.ScalingConfig(
                num_workers=order.workers,
                use_gpu=order.gpus > 0,
                resources_per_worker=each,
            ),
            run_config=ray.train.RunConfig(name=order.identity, storage_path=self.scratch.name),
        )
        self.thread = Thread(target=self._fit, daemon=True)
        self.thread.start()

    def _fit(self) -> None:
        try:
            self.trainer.fit()
        except Exception as error:
            self.error = error

    def step(self) -> Result:
        while True:
            alive = self.thread.is_alive()
            result: Result | None = ray.get(self.mailbox.take.remote())
            if result:
                self.heard = True
                return result
            if not alive:
                raise OSError(f"the workers of the trial were lost: {self.error}") from self.error
            time.sleep(0.1)

    def stop(self, *, save: bool) -> None:
        """Returns when the ranks have: with them goes their placement group. What has not begun is not waited for."""
        ray.get(self.mailbox.stop.remote("save" if save else "stop"))
        self.thread.join(timeout=120 if self.heard else 0)
        self.scratch.cleanup()


def _rank(config: dict[str, Any]) -> None:
    """What each worker of a distributed trial runs."""
    order, mailbox = Order.read(config["order"]), config["mailbox"]
    context = ray.train.get_context()
    processes = Processes(context.get_world_rank(), context.get_world_size())
    with tempfile.TemporaryDirectory(prefix="rank-") as scratch:
        try:
            for trial, result in _results(order, Path(scratch), processes):
                stopping = ray.get(mailbox.put.remote(result)) if processes.first else ""
                if processes.agree(bool(stopping)):
                    if processes.agree(stopping == "save") and trial:
                        trial.save()
                    return
        except Exception as error:
            if not _is_of_another(error):
                ray.get(mailbox.put.remote(failure(error)))
            raise


def _is_of_another(error: Exception) -> bool:
    """Whether a rank has failed only because another one has: NCCL says it by a type of its own, gloo in a word."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
