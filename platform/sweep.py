"""The command that runs sweep files: python -m platform.sweep search_spaces/backmix.yaml"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from platform.command import (
    INTERRUPTED,
    NOTHING_DONE,
    Printed,
    add_data_root,
    add_profile,
    add_tracking_uri,
    command,
    consoles,
    new_parser,
    parsed,
)
from platform.files import search_file
from platform.files.search_file import PAPER
from trainables.reading.addresses import showable
from trainables.reading.yaml_file import ConfigError, Problem

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = """examples:
  python -m platform.sweep search_spaces/backmix.yaml
      the whole search: on a GPU the paper's protocol, without one the profile `quick`
  python -m platform.sweep search_spaces/backmix.yaml --dry-run
      show the plan, what is finished already, and the estimated time; start nothing
  python -m platform.sweep one.yaml two.yaml
      plan both together: a trial that both want is trained once
  python -m platform.sweep search_spaces/backmix.yaml --profile small --data-root DATA
      real CIFAR-10 at a scale that two CPU cores finish in an hour
  python -m platform.sweep search_spaces/backmix.yaml --set epochs=30 --set trials=2
      any setting of the base, or any key of the file, with another value
  python -m platform.sweep --list-settings backmix
      what a trial of a method can be told; without a method, every setting

The same command again goes on where it was interrupted, and trains nothing that is finished.
Ctrl-C or SIGTERM keeps a checkpoint of every running trial.
exit codes: 0 all trials done, or all that --hours allows, 1 some failed or are not in MLflow yet, or an error ended it,
2 nothing was started, 130 interrupted"""


def main(argv: list[str] | None = None) -> int:
    console, errors = consoles()
    try:
        args = parsed(_parser(), argv)
        _refuse_lost_results(args)
        if args.format == "json":
            if not args.dry_run:
                raise ConfigError([Problem((), "--format json is of a plan: add --dry-run")])
            console = Console(quiet=True)
        files = [search_file.load(path) for path in args.files]
        for file in files:
            file.check(
                [args.profile] if args.profile else [n for n in ("quick", PAPER) if n in file.profiles], args.set
            )
        with console.status("loading torch and MLflow …"):  # only now: a mistake in a file has been told at once
            from platform.running.sweeping import Command, run
        return run(Command(args, _command(argv), console, errors), files)
    except ConfigError as error:
        errors.print(escape(showable(error)), style="red")
        return NOTHING_DONE
    except KeyboardInterrupt:
        errors.print("interrupted. This goes on from here:")
        errors.print(f"  {_command(argv)}")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "platform.sweep",
        "Run searches and ablations under Ray Tune, each trial once, and track everything in MLflow.",
        EXAMPLES,
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="file", help="as search_spaces/backmix.yaml")
    add_profile(
        parser, profile="a profile of the files; `paper` is a file as it stands", change="change a setting or a key"
    )
    add_data_root(parser)
    parser.add_argument("--download", action="store_true", help="fetch missing image sets, where torchvision can")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, what it can decide, and stop")
    parser.add_argument("--format", choices=("terminal", "json"), default="terminal", help="of a dry run")
    hours = "start no trial that would not end within H hours; of all devices on a cluster that is joined"
    parser.add_argument("--hours", type=float, metavar="H", help=f"{hours} (default: the file's budget, else no limit)")
    parser.add_argument(
        "--notify", metavar="CMD", help="a command that is told by JSON on its stdin when all has ended, failed or not"
    )
    parser.add_argument("--tensorboard", metavar="DIR", help="write the trials' curves there too, as event files")
    parser.add_argument("--fresh", action="store_true", help="train again what is finished, and search anew")
    parser.add_argument("--address", help="a running Ray cluster to join (default: RAY_ADDRESS, else this machine)")
    parser.add_argument(
        "--storage",
        help="folder or s3-like address that all nodes share: checkpoints of running trials, weights of teachers, "
        "studies (default: results)",
    )
    add_tracking_uri(parser)
    schema = "print the JSON schema of a file, for editors (it is also search_spaces/schema.json)"
    parser.add_argument("--schema", action=Printed, nargs=0, text=_schema, help=schema)
    listed = "print every setting with its default, values and meaning; of one method where it is named"
    parser.add_argument("--list-settings", action=Printed, nargs="?", metavar="METHOD", text=_settings, help=listed)
    return parser


def _schema(_: str) -> str:
    from platform.files.schema import schema_text

    return schema_text()


def _settings(method: str) -> Table:
    from platform.terminal.settings import settings_table

    return settings_table(method)


def _command(argv: Sequence[str] | None) -> str:
    return command("python", "-m", "platform.sweep", *(sys.argv[1:] if argv is None else argv))


def _refuse_lost_results(args: argparse.Namespace) -> None:
    """A submitted job runs in a temporary folder of a cluster: what it leaves there is lost with it."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    uri = args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    wanted = {"--storage": args.storage, "--tracking-uri": uri}
    for option, value in wanted.items():
        path = (value or "").removeprefix("sqlite:///")
        if "://" not in path and not Path(path).is_absolute():
            raise ConfigError(
                [
                    Problem(
                        (),
                        f"{option} is {'missing' if not value else f'{value}, a path of the job’s own folder'}: a "
                        "submitted job runs in a temporary folder, and what it leaves there is lost. Name a place "
                        "that all nodes share, as --storage /SHARED/results --tracking-uri sqlite:////SHARED/mlflow.db",
                    )
                ]
            )


if __name__ == "__main__":
    sys.exit(main())
