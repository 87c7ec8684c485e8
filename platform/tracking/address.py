"""Where a store is: its address in one form, and whether anything answers there."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from hashlib import sha256
from http.client import HTTPException, InvalidURL
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from platform.tracking.errors import TrackingError, masked
from trainables.reading.addresses import showable, without_user
from trainables.storage.cache import cache_folder

_DATABASES = ("sqlite:", "mysql", "mssql", "postgresql")
_PATIENCE = 10.0  # seconds for a server to answer


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, None for any other. Raises `TrackingError` where it can be the name of no file."""
    kind, _, rest = uri.partition("?")[0].partition("://")
    if kind != "sqlite":
        return None
    shown = f"MLflow at {showable(uri)!r} cannot be used"
    if not rest.removeprefix("/"):
        raise TrackingError(f"{shown}: name a file, as sqlite:///mlflow.db")
    if not rest.startswith("/"):
        raise TrackingError(f"{shown}: a file has three slashes before it, as sqlite:///mlflow.db")
    try:
        file = Path(rest[1:]).resolve()
        file.exists()
    except (OSError, ValueError) as error:  # too long, or with characters that no path has
        raise TrackingError(f"{shown}: {getattr(error, 'strerror', error)}. Name another file") from error
    return file


def absolute(uri: str) -> str:
    """The same for the same store, wherever the command is started."""
    file = sqlite_file(uri)
    _, mark, options = uri.partition("?")
    return f"sqlite:///{file}{mark}{options}" if file else uri


def short_name(uri: str) -> str:
    """In the names of what is kept for a store: the same whoever logs in, since a password may change."""
    address = absolute(uri)
    if address.startswith(("http://", "https://")):
        with suppress(ValueError):  # half an address, which opening the store tells
            address = without_user(address).rstrip("/")
    return sha256(address.encode()).hexdigest()[:16]


def index_file(uri: str) -> Path:
    """Where this machine keeps what it knows of a store's runs."""
    return cache_folder() / f"index-{short_name(uri)}.sqlite"


def check_writable(uri: str) -> None:
    """Raises `TrackingError` where a SQLite store can be made or changed by somebody else only."""
    file = sqlite_file(uri)
    if file is None:
        return
    there = next(path for path in (file, *file.parents) if path.exists())
    for path in dict.fromkeys((there, file.parent if there == file else there)):  # SQLite's journal lies beside it
        if not os.access(path, os.W_OK):
            raise TrackingError(f"MLflow at {showable(uri)} cannot be used: {path} is not yours to write")


def free_bytes(uri: str) -> int | None:
    """The room on the disk of a SQLite store; None for any other."""
    file = sqlite_file(uri)
    return shutil.disk_usage(next(path for path in file.parents if path.exists())).free if file else None


def state(uri: str) -> str:
    """What changes whenever a SQLite store does: size and time of its file and of its log, and SQLite's own counter of
    changes, since two writes may be closer than a file's time tells. Empty for any other store."""
    file = sqlite_file(uri)
    if file is None:
        return ""
    with file.open("rb") as opened:
        counter = opened.read(28)[24:].hex()
    parts = [p for p in (file, file.with_name(f"{file.name}-wal")) if p.exists()]
    return " ".join([counter, *(f"{part.stat().st_size}:{part.stat().st_mtime_ns}" for part in parts)])


def check_reachable(uri: str) -> None:
    """Ask once, with a short limit: MLflow itself would retry for minutes before it says a word.

    Raises `TrackingError` where nothing answers, or what does is no database.
    """
    shown = showable(uri)
    if uri.startswith(_DATABASES):
        try:
            _ask_database(uri)
        except ModuleNotFoundError as error:
            needs = f"it needs the package of its driver ({error}). Install that beside MLflow"
            raise TrackingError(f"MLflow at {shown} cannot be used: {needs}") from error
        except Exception as error:  # SQLAlchemy's, the driver's or the system's
            raise TrackingError(f"MLflow at {shown} cannot be used: {masked(error)}") from error
    elif uri.startswith(("http://", "https://")):
        try:
            with urlopen(f"{without_user(uri).rstrip('/')}/health", timeout=_PATIENCE):
                pass
        except HTTPError:
            pass  # it answers: a server behind a login may refuse this page and still take runs
        except (ValueError, InvalidURL) as error:
            raise TrackingError(f"MLflow at {shown} cannot be used: {error}. Write http://HOST:PORT") from error
        except (OSError, HTTPException) as error:
            raise TrackingError(f"MLflow at {shown} does not answer: {error}. Is the server running?") from error


def _ask_database(uri: str) -> None:
    """Raises whatever shows that a database cannot be used. One that is locked can: it is waited for later."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if url.host and url.port:
        socket.create_connection((url.host, url.port), timeout=_PATIENCE).close()
    engine = sqlalchemy.create_engine(url)
    file = sqlite_file(uri)
    if file is None or file.exists():
        try:
            sqlalchemy.inspect(engine).get_table_names()
        except sqlalchemy.exc.OperationalError as error:
            if "locked" not in str(error):
                raise
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
    engine.dispose()
