"""One trial: train, evaluate, keep what lasts. It can be stopped between two reports, and continued from there."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from trainables.data.trial_data import TrialData
from trainables.models.given import load_given
from trainables.objectives import network_of
from trainables.processes import ALONE, Processes
from trainables.scoring.evaluation import fit_head, score_samples
from trainables.scoring.extra_scores import extra_scores
from trainables.scoring.measured import metrics_of
from trainables.settings.config import TrialConfig, config_yaml
from trainables.storage.folder import Folder
from trainables.storage.weights import WeightsError
from trainables.training.checkpoint import Checkpoints
from trainables.training.loop import Trainer, advice
from trainables.training.teacher import read_weights

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
            if self.processes.first and (self.data.validation or last):
                metrics |= _evaluate(self.config, self.data, trainer.model, self.device, out if last else None)
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


class Ticks:
    """When about `seconds` have passed since the last tick. Steps are looked at, the same in all processes.

    The first process's clock counts. With several, it is not asked at each step, but says how many to take first.
    """

    def __init__(self, seconds: float | None, processes: Processes) -> None:
        self.seconds = seconds
        self.processes = processes
        self.since = time.perf_counter()
        self.steps = 0  # since the last tick
        self.quiet = 0  # steps to take before the clock is asked again

    def due(self) -> bool:
        """To be called after each step, by each process."""
        if self.seconds is None:
            return False
        self.steps += 1
        if self.quiet > 0:
            self.quiet -= 1
            return False
        passed = time.perf_counter() - self.since
        left = max(self.seconds - passed, 0.0)
        # Half of the steps that would fit, by their speed so far: the first steps of a trial are slow.
        quiet = int(min(left * self.steps / passed / 2, 64)) if self.processes.size > 1 else 0
        over, self.quiet = self.processes.broadcast((left == 0, quiet))
        if over:
            self.since, self.steps = time.perf_counter(), 0
        return over


def run_trial(
    config: TrialConfig, data: TrialData, device: torch.device, out: Path, teacher: Path | None = None
) -> Iterator[Report]:
    """Train `config` on `data` in one go, one `Report` an epoch, as `Trial.reports` does; nothing is kept meanwhile.

    `teacher` is the teacher's `weights.pt`, where the method has one.
    """
    yield from Trial(config, data, device, teacher=teacher).reports(out)


def evaluate_again(
    config: TrialConfig, data: TrialData, device: torch.device, out: Path, weights: Path
) -> dict[str, float]:
    """All metrics of finished `weights`, on the sets and with the scores that `config` has now; without training.

    `out` gets the files of a trial. Raises `WeightsError` where the weights are missing or of another network.
    """
    model = read_weights(config, data, weights, device)
    return _evaluate(config, data, model, device, out, fitted=True)


def evaluate_given(config: TrialConfig, data: TrialData, device: torch.device, out: Path) -> dict[str, float]:
    """All metrics of weights that others trained, as they are. `out` gets the files of a trial, the weights as ours.

    Raises `WeightsError` where they do not fit, or their classes are in another order than the split's.
    """
    torch.manual_seed(0)  # a network is drawn before its weights are put in
    model = network_of(config, len(data.classes), data.image_size)
    load_given(model, config, data.classes)
    model.to(device).to(memory_format=torch.channels_last)
    metrics = _evaluate(config, data, model, device, out, fitted=True)
    if not config.test:
        return metrics
    known = pd.read_parquet(out / "scores.parquet", columns=["set", "label", "prediction"]).query("set == 'known'")
    if order := misordered(known["label"].to_numpy(), known["prediction"].to_numpy(), len(data.classes)):
        named = [data.classes[label] for label in order]
        instead = "write head: sorted" if named == sorted(named) else f"it seems to be {named}"
        raise WeightsError(
            f"{config.weights_file or config.weights} gives {metrics['test/accuracy']:.0%} of the known images their "
            f"class, and most of them one and the same other: the head's classes are in another order than the "
            f"split's, {list(data.classes)}; {instead}"
        )
    return metrics


def misordered(label_N: npt.NDArray[np.int64], prediction_N: npt.NDArray[np.int64], classes: int) -> list[int]:
    """The labels that a head's places seem to stand for, where they are not 0..K-1: each place the class that most of
    its images have, if these are at least half of all and twice as many as those that get their own. Else empty."""
    confusion = np.bincount(label_N * classes + prediction_N, minlength=classes**2).reshape(classes, classes)
    labels, places = linear_sum_assignment(confusion, maximize=True)
    best, own = confusion[labels, places].sum(), np.trace(confusion)
    if best < len(label_N) / 2 or best < 2 * own:
        return []
    return labels[np.argsort(places)].tolist()


def _evaluate(
    config: TrialConfig,
    data: TrialData,
    model: torch.nn.Module,
    device: torch.device,
    out: Path | None,
    fitted: bool = False,
) -> dict[str, float]:
    """Validation metrics; with `out`, at the end of training, those of the test set and the files too. A head that was
    `fitted` before is left as it is."""
    parts = {"val": data.validation} | ({"test": data.test} if out else {})
    own = config.objective_settings.own_scores
    try:
        if own and not fitted:
            fit_head(model, data.train, device, config.precision)
        extra = extra_scores(config.scores_on_request(last=out is not None), config, model, data.train, device)
        present = {part: sets for part, sets in parts.items() if sets}
        tables = [score_samples(model, *one, device, config.precision, extra, own) for one in present.items()]
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}: {advice(config)}") from error
    metrics: dict[str, float] = {}
    if tables:
        table = pd.concat(tables, ignore_index=True)
        for part in parts:
            metrics |= metrics_of(table, part, len(data.classes), config.score)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        if tables:
            _write(out, "scores.parquet", lambda file: table.to_parquet(file, index=False))
        _write(out, "weights.pt", lambda file: torch.save(model.state_dict(), file))
        threads = torch.get_num_threads()
        again = f"# python -m trainables.trial config.yaml --device {device.type} --threads {threads}\n"
        _write(out, "config.yaml", lambda file: file.write((again + config_yaml(config)).encode()))
    return metrics


def _write(out: Path, name: str, content: Callable[[io.BytesIO], object]) -> None:
    """A file that is on the disk as a whole before the checkpoints go that it could be made from."""
    file = io.BytesIO()
    content(file)
    file.seek(0)
    Folder.at(out).write(file, name)


def gpu_memory() -> int:
    """Bytes of the smallest GPU that this process sees; 0 where it sees none."""
    return min((torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())), default=0)


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU where torch sees one, else the CPU. Raises `RuntimeError` where there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    torch.empty(0, device=device)
    return device
