"""One trial: train, evaluate, keep what lasts. It can be stopped between two reports, and continued from there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from trainables.data.trial_data import TrialData
from trainables.evaluating import evaluate
from trainables.processes import ALONE, Processes
from trainables.settings.config import TrialConfig
from trainables.training.checkpoint import Checkpoints
from trainables.training.loop import Trainer
from trainables.training.ticks import Ticks

RARE = 20  # times what the latest checkpoint took is what training goes on before the next one: at most 5 % of a trial
LONG = 300.0  # seconds after which a tick makes a checkpoint, however long the epoch


@dataclass(frozen=True)
class Report:
    """What an epoch showed, or between two of its steps how far it is (a tick, without metrics).

    The last one has all metrics of the trial, and its files are written.
    """

    epoch: int  # done: 1..epochs, a tick's 0..epochs-1
    metrics: dict[str, float]
    last: bool
    progress: float  # epochs done, with the part of the one under way


class Trial:
    """One training that can be stopped between any two reports and continued by another `Trial` of the same config.

    With `checkpoints` it begins where the newest of them ended, and keeps new ones. On several `processes` each has
    its own `Trial`, and all go through the same reports; the first evaluates and writes, and the others' reports have
    the training metrics only. On the CPU a continued trial ends as an uninterrupted one, to the last digit.

    Raises what `Trainer` does, and `OSError` where checkpoints are there but cannot be read.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: TrialData,
        device: torch.device,
        *,
        teacher: Path | None = None,
        checkpoints: Checkpoints | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.config, self.data, self.device = config, data, device
        self.processes = processes
        self._teacher = teacher
        self.trainer = Trainer(config, data, device, teacher, processes)
        self.history: list[tuple[int, dict[str, float]]] = []  # of each epoch that was reported, in any process
        self._checkpoints = checkpoints if processes.first else None
        self._told = ""  # what became of a checkpoint that is not simply continued
        self._written = time.perf_counter()  # when the latest checkpoint was
        self._writing = 0.0  # seconds that it took
        self._continue()
        self.resumed_epoch = self.trainer.progress  # 0 where nothing was there to continue from

    @property
    def warnings(self) -> list[str]:
        """What went wrong with checkpoints, one line each; it does not end the trial."""
        if self._checkpoints is None:
            return []
        damaged = [f"a checkpoint was damaged and is left out: {what}" for what in self._checkpoints.damaged]
        return [*damaged, *filter(None, [self._told, self._checkpoints.trouble])]

    def reports(self, out: Path, tick: float | None = None) -> Iterator[Report]:
        """Train to the end: a `Report` for each epoch that is left, the last when `out` holds `config.yaml`,
        `scores.parquet` and `weights.pt`. With `tick`, also about every `tick` seconds between steps.

        Raises `FloatingPointError` where the loss stops being finite.
        """
        trainer, epochs = self.trainer, self.config.epochs
        ticks = Ticks(tick, self.processes)
        while trainer.epochs_done < epochs:
            epoch = trainer.begin_epoch()
            for _ in trainer.steps():
                if ticks.due() and epoch.steps < trainer.steps_per_epoch:
                    if self._unsaved() >= max(LONG, RARE * self._writing):
                        self._write()
                    yield Report(trainer.epochs_done, {}, False, trainer.progress)
            loss = trainer.mean_loss()
            number = trainer.epochs_done + 1
            last = number == epochs
            if last:
                self._write()  # what ends the evaluation or the recording costs no training
            speed = trainer.steps_per_epoch * trainer.batch_size / epoch.seconds
            metrics = {"train/loss": loss, "train/lr": epoch.lr, "train/images_per_second": speed}
            began = time.perf_counter()
            if self.processes.first and (self.data.validation or last):
                metrics |= evaluate(self.config, self.data, trainer.model, self.device, out if last else None)
            before = self.history[-1][1].get("train/seconds", 0.0) if self.history else 0.0
            metrics["train/seconds"] = before + epoch.seconds + time.perf_counter() - began
            trainer.end_epoch()
            self.history.append((number, metrics))
            if not last and (number == 1 or self._unsaved() >= RARE * self._writing):
                self._write()
            yield Report(number, metrics, last, trainer.progress)

    def save(self) -> None:
        """Write a checkpoint now, between two reports; after the last one, what there is will do.

        Where it cannot be written, `warnings` says so. On several processes all must call it, and none returns before
        it is written.
        """
        if self.trainer.epochs_done < self.config.epochs:
            self._write()
        self.processes.agree(True)

    def _unsaved(self) -> float:
        """Seconds since the latest checkpoint."""
        return time.perf_counter() - self._written

    def _write(self) -> None:
        if self._checkpoints is None:
            return
        started = time.perf_counter()
        step = round(self.trainer.progress * self.trainer.steps_per_epoch)
        self._checkpoints.save(step, {"trainer": self.trainer.state(), "history": self.history})
        self._written = time.perf_counter()
        self._writing = self._written - started

    def _continue(self) -> None:
        """Take up the newest checkpoint, if there is one; the first process reads it for all."""
        state = self.processes.broadcast(self._checkpoints.load() if self._checkpoints else None)
        if state is None:
            return
        try:
            trainer = state["trainer"]
            self.history = [(int(epoch), dict(metrics)) for epoch, metrics in state["history"]]
            self.trainer.load_state(trainer)
        except (LookupError, TypeError, ValueError) as error:
            self.history = []
            self.trainer = Trainer(self.config, self.data, self.device, self._teacher, self.processes)
            self._told = f"starting anew: {error}"
            if self._checkpoints:  # the old ones, of later steps, would count as newer
                self._told += f"; its checkpoints are kept aside in {self._checkpoints.set_aside()} until it has ended"
            return
        if trainer["made_on"] != self.device.type:
            self._told = (
                f"goes on at epoch {self.trainer.progress:.2f} on {self.device.type} from a checkpoint made on "
                f"{trainer['made_on']}: random numbers are others from here on"
            )


def run_trial(
    config: TrialConfig, data: TrialData, device: torch.device, out: Path, teacher: Path | None = None
) -> Iterator[Report]:
    """Train `config` on `data` in one go, one `Report` an epoch, as `Trial.reports` does; nothing is kept meanwhile.

    `teacher` is the teacher's `weights.pt`, where the method has one.
    """
    yield from Trial(config, data, device, teacher=teacher).reports(out)
