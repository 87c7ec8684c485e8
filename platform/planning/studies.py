"""Where studies are kept: a journal file or a database of Optuna's, looked at before anything is written into it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url

from platform.files.names import plain
from platform.files.spec import Spec
from trainables.reading.yaml_file import ConfigError, Problem

_BEGINS = b'{"op_code":'  # what a journal begins with
_TABLES = {"studies", "trials", "version_info"}  # some of those that a database of Optuna's has


def open_storage(spec: Spec, folder: Path) -> BaseStorage:
    """The file's `optuna.storage`, else a journal in `folder`; made where there is none. optuna-dashboard opens either.

    A file or a database that is something else is left as it is: that is a `ConfigError`.
    """
    with _named(spec, folder):
        if (url := _url(spec)) is not None:
            _check_database(url)
            return RDBStorage(url)
        path = _journal(spec, folder)
        _check_journal(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Its lock is a link to the path it is given: one that led nowhere would never be taken for a dead process's.
        lock = JournalFileSymlinkLock(str(path))
        _cut_torn_line(path, lock)
        return JournalStorage(JournalFileBackend(str(path), lock))


def read_storage(spec: Spec, folder: Path) -> BaseStorage | None:
    """The same as it is now, to be read alone; None where there is none yet. Raises `ConfigError` as well."""
    with _named(spec, folder):
        if (url := _url(spec)) is not None:
            return RDBStorage(url, skip_table_creation=True) if _check_database(url) else None
        path = _journal(spec, folder)
        return JournalStorage(_Lines(path)) if _check_journal(path) else None


@contextmanager
def _named(spec: Spec, folder: Path) -> Iterator[None]:
    """What a driver, a database or the file system raises becomes one line that names the storage."""
    try:
        yield
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError([Problem((), f"optuna.storage {spec.optuna.storage or folder}: {reason}")]) from error


def _url(spec: Spec) -> str | None:
    place = spec.optuna.storage
    return place if place and "://" in place else None


def _journal(spec: Spec, folder: Path) -> Path:
    return Path(spec.optuna.storage or folder / f"{plain(spec.name)}.log").absolute()


def _check_database(url: str) -> bool:
    """Whether a database has studies; False where it is empty or not there. Raises `ValueError` for another one."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").is_file():
        return False  # looking into it would make the file
    engine = create_engine(address)
    try:
        tables = inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if tables and not set(tables) >= _TABLES:
        raise ValueError(f"is the database of something else (it has a table {tables[0]}): name one of its own")
    return bool(tables)


def _check_journal(path: Path) -> bool:
    """Whether a journal is there; False where it is empty or not there. Raises `ValueError` for another file."""
    if not path.exists():
        return False
    if not path.is_file():
        raise ValueError("is not a file")
    with path.open("rb") as file:
        begins = file.read(len(_BEGINS))
    if not _BEGINS.startswith(begins):
        database = begins.startswith(b"SQLite")
        instead = f"write sqlite:///{path} for a database" if database else "name another file"
        raise ValueError(f"is no journal of Optuna's, and is left as it is: {instead}")
    return bool(begins)


class _Lines(BaseJournalBackend):
    """The whole lines that a journal has now: nothing is added to them."""

    def __init__(self, path: Path) -> None:
        whole = path.read_bytes().rpartition(b"\n")[0]
        self.records: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self.records[log_number_from:]

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        raise RuntimeError("this study is only read")


def _cut_torn_line(journal: Path, lock: JournalFileSymlinkLock) -> None:
    """Remove a last line that a power cut or a full disk tore: Optuna would write the next one onto it."""
    if not journal.exists():
        return
    lock.acquire()
    try:
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)
    finally:
        lock.release()
