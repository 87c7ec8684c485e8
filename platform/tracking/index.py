"""Look up finished trials: a file of this machine keeps them, so that 10,000 of them are found at once.

How the file follows the store of runs:
- The store is read in pages, in the order in which runs ended. Large pages cost least for a run; the last are small.
- Of each page the index keeps the store's token for it, and its first run.
- To refresh, the last page is read again. If it still begins with the same run, nothing before it came or went, and
  only the runs from there on can be new.
- If it does not, an earlier run was deleted, was added or has ended again. Then pages before it are tried (1, 2, 4 …
  further back), until one begins as it did. All pages after that one are read again.
- So a change is seen only if it moves the runs after it. Whoever changes what a finished run counts for ends it again.

Runs that do not count are kept in the same way: people look at what failed as well.

A report needs a few other runs too. They are kept for as long as a SQLite store has not changed at all: then nothing is
asked, and MLflow, whose import takes longer than a report, is not imported. The file can be deleted at any time: it is
made again from the store.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trainables.images.listing import Content
from trainables.settings.score_names import SCORE_SETTINGS

LARGE, SMALL = 1000, 50  # runs of a page
REQUESTS = "cells.json"  # of a sweep: what it wants, and the run that has it
FORMAT = 5  # goes up when the tables or what is kept of a run change
_PATIENCE = 300.0  # seconds to wait for another process that is reading the store into the same file
_TABLES = """
create table pages (number integer primary key, token text, first text not null);
create table runs (
    run_id text primary key, page integer not null, counts integer not null, identity text not null,
    ending text not null, sweep text, row text, phase text, git_sha text, git_dirty text, ended real, seconds real,
    device text, details text
);
create index runs_by_identity on runs (counts, identity, ended);
create index runs_by_page on runs (page);
create table others (number integer primary key, state text not null, content text not null)
"""
_COLUMNS = "identity, run_id, sweep, row, phase, git_sha, git_dirty, ended, seconds, device, details, ending"


@dataclass(frozen=True)
class TrialRun:
    """What the run of a trial tells. `sweep` is the experiment that it was first part of."""

    identity: str
    run_id: str
    sweep: str
    row: str
    phase: str
    git_sha: str
    git_dirty: str
    ended: float  # unix seconds; 0 of one that runs
    seconds: float  # of training
    device: str
    details: str = field(repr=False)  # JSON: parsed when asked for, since most are never looked at
    ending: str = "finished"  # or failed, interrupted, stopped, superseded; running

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        return json.loads(self.details)

    @property
    def params(self) -> dict[str, str]:
        return self._parsed["params"]

    @property
    def metrics(self) -> dict[str, float]:
        return self._parsed["metrics"]

    @property
    def tags(self) -> dict[str, str]:
        """Those that people look at, with `name`, `files` (the address of its files) and `began` (unix seconds)."""
        return self._parsed.get("tags", {})

    @property
    def tested(self) -> dict[str, Content]:
        """The test images that its evaluation saw, by unknown set and `known`; empty where that was not recorded, or in
        another form than today's."""
        with suppress(AttributeError, TypeError):
            return {name: Content(*content) for name, content in self._parsed.get("tested", {}).items()}
        return {}

    @property
    def scored_with(self) -> dict[str, tuple[float, ...]]:
        """The settings that its values of a score are of, in the order of `SCORE_SETTINGS`, where that was recorded."""
        found = {score: self._parsed.get(score) for score in SCORE_SETTINGS}
        return {score: tuple(values) for score, values in found.items() if values and isinstance(values, list)}


class FinishedTrial(TrialRun):
    """The run of a trial that needs no training any more."""


@dataclass(frozen=True)
class SweepRun:
    """A sweep that began. `params` are strings; of those that tell its result (`best.*`), the latest values."""

    run_id: str
    experiment: str  # the name of its file
    finished: bool
    profile: str
    changed: str  # by `--set`; empty: the profile as it stands
    images: dict[str, list[Any]]  # of each set that it trained on: the fingerprint, how many there are
    params: dict[str, str]
    ending: str = ""  # finished, failed, interrupted; running
    began: float = 0.0  # unix seconds
    ended: float = 0.0  # unix seconds; 0 of one that runs
    tags: dict[str, str] = field(default_factory=dict)  # its file, its command, and who drives it


@dataclass(frozen=True)
class Others:
    """The runs of a store that no page holds."""

    experiments: dict[str, str]  # the name of each id
    running: list[TrialRun]  # what is being trained
    sweeps: list[SweepRun]  # of all experiments, the newest first
    finished: int  # trials: whether the pages in the same file are those that were read with it


@dataclass(frozen=True)
class Entry:
    """A run that ended; `counts`: as that of a finished trial."""

    trial: TrialRun
    counts: bool


@dataclass(frozen=True)
class Page:
    """Runs in the order in which they ended, and the token of the next page (None: this is the last)."""

    runs: list[Entry]
    following: str | None


Read = Callable[[str | None, int], Page]  # the page of a token (the first for None), of that many runs at most


def finished(file: Path, read: Read | None) -> dict[str, FinishedTrial]:
    """Look up the finished trials by identity. Of several runs of an identity, the last to end counts.

    What changed in the store is read first; without `read`, the file is used as it is. Several processes may do this at
    once. A file that is damaged, of another format or out of reach costs time and raises nothing: it is made again, at
    worst in memory. Raises what `read` raises; the file is then as before.
    """
    try:
        return _look_up(str(file), read)
    except sqlite3.OperationalError:  # locked, no permission, a full disk: the file itself may be good
        return _look_up(":memory:", read)
    except sqlite3.DatabaseError:
        file.unlink(missing_ok=True)
        file.with_name(f"{file.name}-journal").unlink(missing_ok=True)  # of the damaged one: it must not be played back
        return finished(file, read)


def keep_others(file: Path, state: str, others: Others) -> None:
    """Keep the other runs of a store. `state` is the store's, taken before anything of it was read."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(file, timeout=_PATIENCE)) as database, database:
        database.execute("insert or replace into others values (1, ?, ?)", (state, json.dumps(asdict(others))))


def kept(file: Path, state: str) -> tuple[dict[str, FinishedTrial], Others] | None:
    """Return the finished trials and the other runs of a store; None where its `state` has changed since."""
    if not state or not file.exists():
        return None
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(file, timeout=_PATIENCE)) as database:
        found = database.execute("select content from others where state = ?", (state,)).fetchone()
        if found and database.execute("pragma user_version").fetchone() == (FORMAT,):
            content = json.loads(found[0])
            running = [TrialRun(**run) for run in content["running"]]
            sweeps = [SweepRun(**sweep) for sweep in content["sweeps"]]
            others = Others(content["experiments"], running, sweeps, content["finished"])
            trials = _finished(database)
            return (trials, others) if len(trials) == others.finished else None
    return None


def unfinished(file: Path) -> dict[str, TrialRun] | None:
    """Return, by identity, the run that ended without counting as finished; of several, the last.

    As of the latest call of `finished`. None where the file cannot be read.
    """
    query = f"select {_COLUMNS} from runs where not counts order by page, rowid"
    try:
        with closing(sqlite3.connect(file, timeout=_PATIENCE)) as database:
            return {run.identity: run for run in (TrialRun(*row) for row in database.execute(query))}
    except sqlite3.DatabaseError:
        return None


def ended(file: Path) -> list[TrialRun]:
    """Return every run that ended, the last first, as of the latest call of `finished`; none where the file cannot be
    read."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(file, timeout=_PATIENCE)) as database:
        return [TrialRun(*row) for row in database.execute(f"select {_COLUMNS} from runs order by ended desc")]
    return []


def _look_up(file: str, read: Read | None) -> dict[str, FinishedTrial]:
    with closing(sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)) as database:
        with _transaction(database):
            (version,) = database.execute("pragma user_version").fetchone()
            if version != FORMAT:
                _make(database)
            if read is not None:
                _refresh(database, read)
        return _finished(database)


def _finished(database: sqlite3.Connection) -> dict[str, FinishedTrial]:
    rows = database.execute(f"select {_COLUMNS} from runs where counts order by ended")
    return {row[0]: FinishedTrial(*row) for row in rows}


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("begin immediate")
    try:
        yield
    except BaseException:
        database.execute("rollback")
        raise
    database.execute("commit")


def _make(database: sqlite3.Connection) -> None:
    for (name,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
        database.execute(f'drop table "{name}"')
    for statement in _TABLES.split(";"):
        database.execute(statement)
    database.execute(f"pragma user_version = {FORMAT}")


def _refresh(database: sqlite3.Connection, read: Read) -> None:
    pages = database.execute("select token, first from pages order by number").fetchall()
    number, step = max(0, len(pages) - 1), 1
    token = pages[number][0] if pages else None
    page = read(token, SMALL)
    while number > 0 and not (page.runs and page.runs[0].trial.run_id == pages[number][1]):
        number, step = max(0, number - step), 2 * step
        token = pages[number][0]
        page = read(token, SMALL)
    database.execute("delete from pages where number >= ?", (number,))
    database.execute("delete from runs where page >= ?", (number,))
    size = LARGE
    while True:
        _keep(database, number, token, page)
        if page.following is None:
            return
        number, token = number + 1, page.following
        page = read(token, size)
        if size == LARGE and page.following is None and len(page.runs) > SMALL:
            size = SMALL  # so that the next refresh reads no more than that again
            page = read(token, size)


def _keep(database: sqlite3.Connection, number: int, token: str | None, page: Page) -> None:
    if not page.runs:
        return
    database.execute("insert into pages values (?, ?, ?)", (number, token, page.runs[0].trial.run_id))
    rows = []
    for entry in page.runs:
        one = entry.trial
        told = (one.sweep, one.row, one.phase, one.git_sha, one.git_dirty, one.ended, one.seconds, one.device)
        rows.append((one.run_id, number, int(entry.counts), one.identity, one.ending, *told, one.details))
    # A run that ended anew while the store was read may come up twice.
    database.executemany(f"insert or replace into runs values ({', '.join('?' * 14)})", rows)
