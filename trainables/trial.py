"""The command that runs one trial, which needs neither Ray nor MLflow nor Optuna.

python -m trainables.trial config.yaml --data-root DATA --out DIR

Interrupted by Ctrl-C, SIGTERM or a power cut, it goes on where it was when the same command runs again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainables import __version__
from trainables.reading import yaml_file
from trainables.settings.resolving import resolve


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainables.trial",
        description="Run one resolved trial in the foreground, without Ray, MLflow or Optuna.",
        epilog="example: python -m trainables.trial config.yaml --data-root data --out results/one",
    )
    parser.add_argument("--version", action="version", version=f"osr-platform {__version__}")
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
        config = resolve(document.data)
    except yaml_file.ConfigError as error:
        print(yaml_file.ConfigError(error.problems, error.document or document), file=sys.stderr)
        return 2
    from trainables.foreground import run  # only now torch: a mistake in the file has been told at once

    return run(config, args)


if __name__ == "__main__":
    sys.exit(main())
