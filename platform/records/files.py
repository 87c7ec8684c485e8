"""Where the files of a run are: on this machine by their path, else by the command that gets them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from platform.command import command
from platform.tracking.index import TrialRun
from platform.tracking.reader import Reader
from trainables.reading.addresses import showable

FILES = ("config.yaml", "weights.pt", "scores.parquet", "traceback.txt")


def folder_of(run: TrialRun) -> Path | None:
    """The folder of a run's files, where it is one of this machine."""
    return local_folder(run.tags.get("files", ""))


def local_folder(address: str) -> Path | None:
    """The folder at the address of a run's files, where it is one of this machine."""
    where = urlsplit(address)
    if where.scheme not in ("", "file") or not where.path:
        return None
    folder = Path(unquote(where.path))
    return folder if folder.is_dir() else None


def places(reader: Reader, run: TrialRun) -> dict[str, str]:
    """Where each of the files is that a run has: its path, or the command that fetches it."""
    folder = folder_of(run)
    if folder is not None:
        return {name: str(folder / name) for name in FILES if (folder / name).exists()}
    if run.tags.get("files", "").startswith(("file:", "/")):
        return {}  # of another machine, or none yet
    get = ("mlflow", "artifacts", "download", "--run-id", run.run_id, "--artifact-path")
    there = reader.file_names(run.run_id)
    return {n: f"MLFLOW_TRACKING_URI={showable(reader.uri)} {command(*get, n)}" for n in FILES if n in there}


def fetched(reader: Reader, run: TrialRun, name: str, folder: Path) -> Path | None:
    """A file of a run: where it is on this machine, else copied into `folder`; None where it has none of this name."""
    own = folder_of(run)
    if own is not None:
        return own / name if (own / name).exists() else None
    return reader.fetch(run.run_id, name, folder)


def read(reader: Reader, run: TrialRun, name: str) -> str:
    """A text among the files of a run; empty where it has none of this name."""
    with tempfile.TemporaryDirectory() as scratch:
        file = fetched(reader, run, name, Path(scratch))
        return file.read_text(encoding="utf-8") if file else ""
