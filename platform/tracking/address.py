"""Where a store is: its address in one form, and whether anything answers there."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from platform.tracking.errors import TrackingError
from trainables.addresses import showable, without_user
from trainables.cache import cache_folder


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, None for any other."""
    kind, _, rest = uri.partition("?")[0].partition(":///")
    return Path(rest).resolve() if kind == "sqlite" and rest else None


def absolute(uri: str) -> str:
    """The same for the same store, wherever the command is started."""
    file = sqlite_file(uri)
    _, mark, options = uri.partition("?")
    return f"sqlite:///{file}{mark}{options}" if file else uri


def short_name(uri: str) -> str:
    """In the names of what this machine keeps for a store."""
    return sha256(absolute(uri).encode()).hexdigest()[:16]


def index_file(uri: str) -> Path:
    """Where this machine keeps what it knows of a store's runs."""
    return cache_folder() / f"index-{short_name(uri)}.sqlite"


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

    Raises `TrackingError` where nothing answers, or no folder for the database can be made.
    """
    shown = showable(uri)
    if file := sqlite_file(uri):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingError(f"MLflow at {shown} cannot be used: {error}") from error
    elif uri.startswith(("http://", "https://")):
        try:
            with urlopen(f"{without_user(uri).rstrip('/')}/health", timeout=10):
                pass
        except HTTPError:
            pass  # it answers: a server behind a login may refuse this page and still take runs
        except OSError as error:
            raise TrackingError(f"MLflow at {shown} does not answer: {error}. Is the server running?") from error
