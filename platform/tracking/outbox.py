"""Deliver records that must not be lost: each is written to disk first, then delivered in the background, in order.

Each process writes its records as lines of files of its own, under `folder`. A thread hands them to `deliver`. If a
process dies, the next one delivers what is left. So `deliver` may get the same record twice, and must allow for it.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform.tracking import locks
from platform.tracking.drivers import BEAT

INTERVAL = 2.0  # seconds between deliveries: what comes in between goes together
LONGEST_WAIT = 30.0  # seconds between two tries where the receiver does not answer
_PATIENCE = 30.0  # seconds for a delivery that something waits for

Record = dict[str, Any]


class UnavailableError(Exception):
    """The receiver takes nothing now: its records are kept and tried again. The message says why."""


@dataclass(frozen=True)
class _Entry:
    record: Record
    segment: Path | None  # the file that has it; None where the disk took nothing


class Outbox:
    """Delivers the records of one key together and in order. The key whose latest record is oldest comes first.

    If a delivery raises `UnavailableError`, its key is tried again later, without end. Any other exception means that
    the records are refused: that is told and counted, and they are kept in `refused.jsonl`, their files in `refused`.
    Nothing reads these again: what is refused once would be refused for ever.
    Raises `OSError` where `folder` cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        deliver: Callable[[str, list[Record]], None],
        say: Callable[[str], None],
        receiver: str,
    ) -> None:
        """`name` tells the outboxes of different receivers in one folder apart; `receiver` is how messages call it."""
        self.folder = folder
        self.down = False  # the latest try failed: the receiver does not answer
        self.left_behind = 0  # records that dead processes left, taken over here
        self.refused = 0  # records that were set aside
        self.lost = 0  # records that were neither delivered nor found room on the disk, once it is closed
        self.aside = folder / "refused.jsonl"
        self._deliver, self._say, self._receiver = deliver, say, receiver
        self._queue: OrderedDict[str, list[_Entry]] = OrderedDict()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._undelivered: dict[Path, int] = {}  # records of each segment that are not delivered
        self._current: tuple[Path, int] | None = None  # the segment being written, and its descriptor
        self._segments = 0
        self._full = False  # the disk takes no records: told already
        self._tried = 0  # deliveries that failed
        self._hurry = False
        self._closing = False
        folder.mkdir(parents=True, exist_ok=True)
        self._adopted = list(locks.adopt(folder, name))
        for lock, _ in self._adopted:
            self._read(lock)
        self.left_behind = sum(map(len, self._queue.values()))
        self._own, self._descriptor = locks.own(folder, name)
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="outbox lives", daemon=True).start()

    def put(self, key: str, record: Record, *, files: Path | None = None, safe: bool = False) -> bool:
        """Deliver `record` some time later, and with it a copy of the folder `files` (as `files` and `names`).

        With `safe` the record is on the disk for good when this returns. A full disk raises nothing: the record is kept
        in memory, and that is told. Files that cannot be copied are delivered at once; if that fails too, this returns
        False, and `files` is all that there is of them.
        """
        copied = True
        if files is not None and not files.is_dir():
            record = {**record, "files": str(files)}  # without `names`, which nobody knows: not an empty folder
        elif files is not None:
            kept = self._own.with_suffix(".files") / uuid.uuid4().hex
            try:
                _link(files, kept)
            except OSError:
                copied, kept = False, files
            names = sorted(p.relative_to(files).as_posix() for p in files.rglob("*") if p.is_file())
            record = {**record, "files": str(kept), "names": names}
        with self._lock:
            # In memory first: an interrupt between the two costs the copy on disk, not the record.
            entries = self._queue.setdefault(key, [])
            self._queue.move_to_end(key)
            entries.append(_Entry(record, None))
            entries[-1] = entry = _Entry(record, self._write(key, record, safe))
        if copied and entry.segment is not None:
            return True
        self._tell_full()
        if not copied:
            self.flush(_PATIENCE)
        with self._lock:
            return entry not in self._queue.get(key, [])

    def flush(self, timeout: float, *, once: bool = False) -> bool:
        """Wait until all is delivered. False after `timeout` seconds, or, with `once`, after the first failure."""
        with self._changed:
            tried = self._tried
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._queue or (once and self._tried > tried), timeout)
            return not self._queue

    def files_of(self, key: str) -> list[Path]:
        """Return the folders of files under `key` that are not delivered yet."""
        with self._lock:
            return [Path(e.record["files"]) for e in self._queue.get(key, []) if "files" in e.record]

    def close(self, timeout: float) -> int:
        """Deliver for at most `timeout` seconds, and stop. Returns how many records are kept for the next process.

        Records that were only in memory, since the disk was full, are written now; where there is still no room, they
        are counted as `lost`.
        """
        self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_PATIENCE)  # it ends after the delivery under way
        with self._lock:
            for key, entries in self._queue.items():
                if (homeless := sum(entry.segment is None for entry in entries)) and not self._write_all(key, entries):
                    self.lost += homeless
            left = sum(map(len, self._queue.values())) - self.lost
            self._rotate()
            for lock, descriptor in [*self._adopted, (self._own, self._descriptor)]:
                if not any(segment.name.startswith(f"{lock.stem}.") for segment in self._undelivered):
                    locks.remove(lock)
                os.close(descriptor)
            self._closed.set()
            return left

    # On disk

    def _write(self, key: str, record: Record, safe: bool) -> Path | None:
        try:
            if self._current is None:
                self._segments += 1
                path = self._own.with_suffix(f".{self._segments:06d}.jsonl")
                self._current = path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                self._undelivered[path] = 0
            path, descriptor = self._current
            line = json.dumps([key, record]).encode() + b"\n"
            if os.write(descriptor, line) < len(line):
                raise OSError("the disk is full")
            if safe:
                os.fsync(descriptor)
        except OSError:
            self._rotate()  # a torn line must be the last of its file
            self._tell_full()
            return None
        self._undelivered[path] += 1
        self._full = False
        return path

    def _write_all(self, key: str, entries: Sequence[_Entry]) -> bool:
        """Write all records of a key again, in order. Returns False where the disk has no room for them."""
        return all(self._write(key, entry.record, safe=True) for entry in entries)

    def _rotate(self) -> None:
        """End the current segment: the next record begins another, and this one goes when it is delivered."""
        if self._current is not None:
            path, descriptor = self._current
            self._current = None
            os.close(descriptor)
            self._forget_if_done(path)

    def _forget_if_done(self, segment: Path) -> None:
        if self._undelivered.get(segment) == 0 and (self._current is None or self._current[0] != segment):
            segment.unlink(missing_ok=True)
            del self._undelivered[segment]

    def _read(self, lock: Path) -> None:
        """Queue what a dead process left. A torn last line is skipped: `put` had not returned for it."""
        for segment in sorted(lock.parent.glob(f"{lock.stem}.*.jsonl")):
            self._undelivered[segment] = 0
            for line in segment.read_bytes().splitlines():
                try:
                    key, record = json.loads(line)
                except ValueError:
                    continue
                self._queue.setdefault(key, []).append(_Entry(record, segment))
                self._queue.move_to_end(key)
                self._undelivered[segment] += 1
            self._forget_if_done(segment)

    def _tell_full(self) -> None:
        if not self._full:
            self._full = True
            self._say(f"The disk takes no records in {self.folder}: they are kept in memory until it has room.")

    # The threads

    def _beat(self) -> None:
        """Show processes of other hosts that this one lives, also while a delivery takes long."""
        while not self._closed.wait(BEAT):
            for lock, _ in [*self._adopted, (self._own, self._descriptor)]:
                locks.renew(lock)

    def _work(self) -> None:
        wait = 0.0
        while True:
            with self._changed:
                if wait:
                    self._changed.wait_for(lambda: self._closing, wait)
                elif not self._queue or not self._hurry:
                    self._changed.wait_for(lambda: self._closing or self._hurry, INTERVAL)
                if self._closing:
                    return
                self._hurry = False
                self._rotate()
                # What is marked `last` names other keys: it comes when theirs have been delivered.
                keys = sorted(self._queue, key=lambda key: any(e.record.get("last") for e in self._queue[key]))
            failed = False
            for key in keys:
                failed = not self._attempt(key)
                if failed or self._closing:
                    break
                wait = 0.0
            if failed:
                wait = min(max(1.0, 2 * wait), LONGEST_WAIT)

    def _attempt(self, key: str) -> bool:
        """Deliver what there is of a key; False where the receiver does not answer."""
        with self._lock:
            entries = list(self._queue[key])
        try:
            self._deliver(key, [entry.record for entry in entries])
        except UnavailableError as error:
            self._tell_down(error)
            with self._changed:
                self._queue.move_to_end(key)  # one that keeps failing must not hold up the others
                self._tried += 1
                self._changed.notify_all()
            return False
        except Exception as error:
            self._set_aside(key, entries, error)
        if self.down:
            self.down = False
            self._say(f"{self._receiver} answers again: the records are being delivered.")
        with self._changed:
            left = self._queue[key][len(entries) :]
            if left:
                self._queue[key] = left
            else:
                del self._queue[key]
            for entry in entries:
                if entry.segment is not None:
                    self._undelivered[entry.segment] -= 1
                    self._forget_if_done(entry.segment)
            self._changed.notify_all()
        for entry in entries:
            if (kept := self._copy_of(entry.record)) is not None:
                shutil.rmtree(kept, ignore_errors=True)
        return True

    def _copy_of(self, record: Record) -> Path | None:
        """Return the folder with copies of a record's files; None where there is none."""
        kept = Path(record.get("files", "/"))
        return kept if kept.parent.parent == self.folder else None

    def _tell_down(self, error: UnavailableError) -> None:
        if not self.down:
            self.down = True
            kept = f"records are kept in {self.folder} and delivered when it does"
            self._say(f"{self._receiver} does not answer: {kept} ({error})")

    def _set_aside(self, key: str, entries: list[_Entry], error: Exception) -> None:
        self.refused += len(entries)
        what = " ".join(str(error).split())
        self._say(f"{self._receiver} refused {len(entries)} records ({what}): they are set aside in {self.aside}.")
        try:
            with self.aside.open("a", encoding="utf-8") as file:
                for record in (entry.record for entry in entries):
                    if (kept := self._copy_of(record)) is not None and kept.exists():
                        record = {**record, "files": str(shutil.move(kept, self.folder / "refused" / kept.name))}
                    file.write(json.dumps([key, record]) + "\n")
        except OSError as trouble:
            self._say(f"{self.aside} cannot be written: {trouble}")


def _link(source: Path, target: Path) -> None:
    """Give every file of a folder a second name (a hard link); copy it where the file system has no links."""

    def place(file: str, name: str) -> None:
        try:
            os.link(file, name)
        except OSError:
            shutil.copy2(file, name)

    shutil.copytree(source, target, copy_function=place)
