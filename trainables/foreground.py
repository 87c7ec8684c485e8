"""A trial in the foreground: a line an epoch, checkpoints until it ends, and its teacher first where none is there."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType

import torch

from trainables.data.trial_data import TrialData, build
from trainables.device import pick_device
from trainables.evaluating import evaluate_given
from trainables.images.listing import DataError
from trainables.one_trial import Trial
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of, weights_fingerprints
from trainables.storage.folder import Folder
from trainables.storage.weights import WeightsError, keep_weights, kept_weights, weights_path
from trainables.training.checkpoint import Checkpoints


def run(config: TrialConfig, args: argparse.Namespace) -> int:
    """Run `config` as the options of `trainables.trial` say; its exit code."""
    try:
        args.out.mkdir(parents=True, exist_ok=True)  # now, not after the training
        device = pick_device(args.device)
        if args.threads or device.type == "cpu":
            torch.set_num_threads(args.threads or 1)
        data = build(config, args.data_root, download=args.download, progress=_print_progress)
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
    try:
        identity = identity_of(config, data.fingerprints | weights_fingerprints(config))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    length = f"{config.epochs} epochs" if config.train != "none" else f"weights {config.weights_file or config.weights}"
    print(f"{config.backbone}, {length}, identity {identity}, device {device}{threads}")
    try:
        with stop_on_signal() as stop:
            teacher = None
            if config.teacher:
                teacher = _find_or_train(config.teacher, args.data_root, device, args.teachers, stop)
            metrics = _run(
                config, data, device, args.out, Folder.at(args.out) / f"checkpoints-{identity}", stop, teacher
            )
        print(json.dumps(metrics, indent=2))
    except (FloatingPointError, OSError, WeightsError) as error:
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
    if config.train == "none":
        return evaluate_given(config, data, device, out)
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
    identity = identity_of(config, data.fingerprints | weights_fingerprints(config))
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
