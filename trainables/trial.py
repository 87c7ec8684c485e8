"""One trial: train, evaluate, keep what lasts. Also a command, which needs neither Ray nor MLflow nor Optuna.

python -m trainables.trial config.yaml --data-root DATA --out DIR
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import yaml

from trainables import yaml_file
from trainables.config import TrialConfig
from trainables.data.sets import DataError
from trainables.data.trial_data import TrialData, build
from trainables.evaluation import metrics_of, score_samples
from trainables.extra_scores import extra_scores
from trainables.teacher import TeacherError, keep_weights, weights_path
from trainables.training import Trainer


@dataclass(frozen=True)
class Report:
    """What an epoch showed. The last one has all metrics of the trial, and its files are written."""

    epoch: int  # 1..epochs
    metrics: dict[str, float]
    last: bool


def run_trial(
    config: TrialConfig, data: TrialData, device: torch.device, out: Path, teacher: Path | None = None
) -> Iterator[Report]:
    """Train `config` on `data`, one `Report` an epoch; with the last, `out` holds `config.yaml`,
    `scores.parquet` and `weights.pt`. `teacher` is the teacher's `weights.pt`, where the method has one.

    Raises `FloatingPointError` where the loss stops being finite, `TeacherError` where a teacher's weights do not fit.
    """
    trainer = Trainer(config, data, device, teacher)
    for epoch in range(1, config.epochs + 1):
        started, lr = time.perf_counter(), trainer.optimizer.param_groups[0]["lr"]
        loss = trainer.epoch()
        seconds = time.perf_counter() - started
        images = trainer.steps_per_epoch * trainer.batch_size
        metrics = {"train/loss": loss, "train/lr": lr, "train/images_per_second": images / seconds}
        last = epoch == config.epochs
        if data.validation or last:
            metrics |= _evaluate(config, data, trainer.model, device, out if last else None)
        yield Report(epoch, metrics, last)


def _evaluate(
    config: TrialConfig, data: TrialData, model: torch.nn.Module, device: torch.device, out: Path | None
) -> dict[str, float]:
    """Validation metrics; with `out`, at the end of training, those of the test set and the files too."""
    parts = {"val": data.validation} | ({"test": data.test} if out else {})
    extra = extra_scores(config.scores_on_request(last=out is not None), config, model, data.train, device)
    tables = [score_samples(model, part, sets, device, config.precision, extra) for part, sets in parts.items() if sets]
    metrics: dict[str, float] = {}
    if tables:
        table = pd.concat(tables, ignore_index=True)
        for part in parts:
            metrics |= metrics_of(table, part, len(data.classes), config.score)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        if tables:
            table.to_parquet(out / "scores.parquet", index=False)
        torch.save(model.state_dict(), out / "weights.pt")
        (out / "config.yaml").write_text(config_yaml(config), encoding="utf-8")
    return metrics


def config_yaml(config: TrialConfig) -> str:
    """The resolved settings as the file that `python -m trainables.trial` runs."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in config.settings().items()}
    return yaml.safe_dump(plain, sort_keys=False)


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
    parser.add_argument("--out", type=Path, default=Path("results/trial"), help="folder for scores and weights")
    parser.add_argument(
        "--teachers",
        type=Path,
        default=Path("results/teachers"),
        help="folder of teachers' weights; a missing one is trained first (default: results/teachers)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: the GPU if there is one)")
    args = parser.parse_args(argv)
    document = None
    try:
        document = yaml_file.load(args.config)
        if not isinstance(document.data, dict):
            raise yaml_file.ConfigError([yaml_file.Problem((), "expected settings, one `key: value` a line")], document)
        config = TrialConfig.from_settings(document.data)
        args.out.mkdir(parents=True, exist_ok=True)  # now, not after the training
        device = pick_device(args.device)
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
    print(f"{config.backbone}, {config.epochs} epochs, identity {config.identity(data.fingerprints)}, device {device}")
    try:
        teacher = None
        if config.teacher:
            teacher = _find_or_train(config.teacher, args.data_root, device, args.teachers)
        metrics = _run(config, data, device, args.out, teacher)
        print(json.dumps(metrics, indent=2))
    except (FloatingPointError, TeacherError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"wrote {args.out}/config.yaml, scores.parquet, weights.pt")
    return 0


def _run(
    config: TrialConfig, data: TrialData, device: torch.device, out: Path, teacher: Path | None = None
) -> dict[str, float]:
    """The trial with a line an epoch; the last epoch's metrics."""
    for report in run_trial(config, data, device, out, teacher):
        shown = {name: value for name, value in report.metrics.items() if name.count("/") == 1}
        line = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        print(f"epoch {report.epoch}/{config.epochs}  {line}", flush=True)
    return report.metrics


def _find_or_train(config: TrialConfig, data_root: Path, device: torch.device, folder: Path) -> Path:
    """The weights of the teacher `config`, by its identity."""
    data = build(config, data_root)
    identity = config.identity(data.fingerprints)
    path = weights_path(folder, identity)
    if path.is_file():
        print(f"its teacher is there: {path}")
        return path
    print(f"its teacher first: {config.method}, {config.backbone}, {config.epochs} epochs, identity {identity}")
    with tempfile.TemporaryDirectory() as out:
        _run(config, data, device, Path(out))
        return keep_weights(Path(out) / "weights.pt", folder, identity)


def _print_progress(what: str, done: int, total: int) -> None:
    print(f"\rreading {what}: {done:,}/{total:,}", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
