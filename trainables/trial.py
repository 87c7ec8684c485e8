"""One trial: train, evaluate, keep what lasts. Also a command, which needs neither Ray nor MLflow nor Optuna.

python -m trainables.trial config.yaml --data-root DATA --out DIR

Interrupted by Ctrl-C, SIGTERM or a power cut, it goes on where it was when the same command runs again.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import FrameType

import pandas as pd
import torch

from trainables import yaml_file
from trainables.checkpoint import Checkpoints
from trainables.config import TrialConfig, config_yaml
from trainables.data.listing import DataError
from trainables.data.trial_data import TrialData, build
from trainables.distributed import ALONE, Processes
from trainables.evaluation import score_samples
from trainables.extra_scores import extra_scores
from trainables.folder import Folder
from trainables.measured import metrics_of
from trainables.teacher import TeacherError, read_weights
from trainables.training import Trainer, advice
from trainables.weights import keep_weights, kept_weights, weights_path

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
    model = read_weights(config.backbone, data, weights, device)
    return _evaluate(config, data, model, device, out)


def _evaluate(
    config: TrialConfig, data: TrialData, model: torch.nn.Module, device: torch.device, out: Path | None
) -> dict[str, float]:
    """Validation metrics; with `out`, at the end of training, those of the test set and the files too."""
    parts = {"val": data.validation} | ({"test": data.test} if out else {})
    try:
        extra = extra_scores(config.scores_on_request(last=out is not None), config, model, data.train, device)
        scored = (
            score_samples(model, part, sets, device, config.precision, extra) for part, sets in parts.items() if sets
        )
        tables = list(scored)
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


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU where torch sees one, else the CPU. Raises `RuntimeError` where there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    torch.empty(0, device=device)
    return device


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainables.trial",
        description="Run one resolved trial in the foreground, without Ray, MLflow or Optuna.",
        epilog="example: python -m trainables.trial config.yaml --data-root data --out results/one",
    )
    parser.add_argument("config", type=Path, help="flat YAML of settings, as an MLflow run's config.yaml")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="where image sets are (default: data)")
    parser.add_argument("--download", action="store_true", help="fetch missing sets, where torchvision can")
    out = "folder for scores and weights, and for checkpoints until then (default: results/trial)"
    parser.add_argument("--out", type=Path, default=Path("results/trial"), help=out)
    parser.add_argument(
        "--teachers",
        type=Path,
        default=Path("results/teachers"),
        help="folder of teachers' weights; a missing one is trained first (default: results/teachers)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: the GPU if there is one)")
    parser.add_argument(
        "--threads",
        type=int,
        help="of the CPU, on which digits depend: the first line of a run's config.yaml says how many it had "
        "(default: 1 as in a sweep; on a GPU all)",
    )
    args = parser.parse_args(argv)
    document = None
    try:
        document = yaml_file.load(args.config)
        if not isinstance(document.data, dict):
            raise yaml_file.ConfigError([yaml_file.Problem((), "expected settings, one `key: value` a line")], document)
        if "base" in document.data:
            said = f"is a search or an ablation, which has many trials: python -m platform.sweep {args.config}"
            raise yaml_file.ConfigError([yaml_file.Problem((), said)], document)
        config = TrialConfig.from_settings(document.data)
        args.out.mkdir(parents=True, exist_ok=True)  # now, not after the training
        device = pick_device(args.device)
        if args.threads or device.type == "cpu":
            torch.set_num_threads(args.threads or 1)
        data = build(config, args.data_root, download=args.download, progress=_print_progress)
    except yaml_file.ConfigError as error:
        print(yaml_file.ConfigError(error.problems, error.document or document), file=sys.stderr)
        return 2
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"--out {args.out}: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, AssertionError) as error:  # torch says it in either way
        print(f"--device {args.device}: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    print(f"{config.method} on {config.protocol}, family {config.split_family}: {len(data.train):,} training images")
    identity = config.identity(data.fingerprints)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{config.backbone}, {config.epochs} epochs, identity {identity}, device {device}{threads}")
    try:
        with stop_on_signal() as stop:
            teacher = None
            if config.teacher:
                teacher = _find_or_train(config.teacher, args.data_root, device, args.teachers, stop)
            metrics = _run(
                config, data, device, args.out, Folder.at(args.out) / f"checkpoints-{identity}", stop, teacher
            )
        print(json.dumps(metrics, indent=2))
    except (FloatingPointError, OSError, TeacherError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"interrupted{interrupt}: run the same command again to continue", file=sys.stderr)
        return 130
    print(f"wrote {args.out}/config.yaml, scores.parquet, weights.pt")
    return 0


def _run(
    config: TrialConfig,
    data: TrialData,
    device: torch.device,
    out: Path,
    kept: Folder,
    stop: Event,
    teacher: Path | None = None,
) -> dict[str, float]:
    """The trial with a line an epoch, its checkpoints in `kept` until it ends; the last epoch's metrics.

    Raises `KeyboardInterrupt` once a checkpoint is written after `stop` was set.
    """
    checkpoints = Checkpoints(kept)
    trial = Trial(config, data, device, teacher=teacher, checkpoints=checkpoints)
    if trial.resumed_epoch:
        print(f"goes on after {trial.resumed_epoch:.2f} of {config.epochs} epochs")
    told: set[str] = set()
    for report in trial.reports(out, tick=0):
        if report.metrics:
            shown = {name: value for name, value in report.metrics.items() if name.count("/") == 1}
            line = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
            print(f"epoch {report.epoch}/{config.epochs}  {line}", flush=True)
        if stopped := stop.is_set() and not report.last:
            trial.save()
        for warning in trial.warnings:
            if warning not in told:
                print(warning, file=sys.stderr)
                told.add(warning)
        if stopped:
            raise KeyboardInterrupt(f" after {report.progress:.2f} of {config.epochs} epochs")
    checkpoints.clear()
    return report.metrics


@contextmanager
def stop_on_signal() -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets. A second one ends the program at once, as it does elsewhere."""
    stop = Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield stop
    finally:
        restore()


def _find_or_train(config: TrialConfig, data_root: Path, device: torch.device, folder: Path, stop: Event) -> Path:
    """The weights of the teacher `config`, by its identity."""
    data = build(config, data_root)
    identity = config.identity(data.fingerprints)
    path, kept = weights_path(folder, identity), Folder.at(folder)
    if kept_weights(kept, identity) is not None:
        print(f"its teacher is there: {path}")
        return path
    if path.exists():
        print(f"{path} is damaged: the teacher is trained again", file=sys.stderr)
    print(f"its teacher first: {config.method}, {config.backbone}, {config.epochs} epochs, identity {identity}")
    with tempfile.TemporaryDirectory() as out:
        _run(config, data, device, Path(out), kept / f"checkpoints-{identity}", stop)
        keep_weights(Path(out) / "weights.pt", kept, identity)
    return path


def _print_progress(what: str, done: int, total: int) -> None:
    print(f"\rreading {what}: {done:,}/{total:,}", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
