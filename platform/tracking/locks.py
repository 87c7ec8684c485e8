"""Locks of processes that keep records under one folder: which of them live, and what the dead have left.

A process holds its lock for as long as it lives. Some shared file systems keep locks to each host (Lustre with
`localflock`, NFS with `nolock`): there every lock of another host looks free. So a lock says which host holds it, and
its time is a sign of life: a lock of another host counts as free only once it has been silent for as long as a dead
driver.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from platform.tracking.drivers import SILENCE, this_host


def own(folder: Path, name: str) -> tuple[Path, int]:
    """Make a file that is locked for as long as this process lives, so that others know that it does."""
    while True:
        path = folder / f"{name}-{uuid.uuid4().hex[:12]}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _sign(descriptor)
        if path.exists():  # else another process took it for a dead one's between the two
            return path, descriptor
        os.close(descriptor)


def renew(lock: Path) -> None:
    """Show processes of other hosts that this one lives."""
    with suppress(OSError):
        os.utime(lock)


def in_use(folder: Path) -> bool:
    """Whether a process that lives keeps its records in `folder`, on whatever host."""
    for path in folder.glob("*.lock"):
        descriptor = _take(path)
        if descriptor is not None:
            os.close(descriptor)
        elif path.exists():  # else its process just ended well
            return True
    return False


def adopt(folder: Path, name: str) -> Iterator[tuple[Path, int]]:
    """Take over the locks of dead processes that left records."""
    for path in sorted(folder.glob(f"{name}-*.lock")):
        descriptor = _take(path)
        if descriptor is None:
            continue
        if any(folder.glob(f"{path.stem}.*.jsonl")):
            _sign(descriptor)
            yield path, descriptor
        else:
            remove(path)
            os.close(descriptor)


def _take(lock: Path) -> int | None:
    """The descriptor of a lock that was a dead process's and is ours now; None where its process lives, or ended
    well."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    holder = os.pread(descriptor, 1000, 0).decode(errors="replace")
    if holder != this_host() and time.time() - os.fstat(descriptor).st_mtime < SILENCE:
        os.close(descriptor)
        return None
    return descriptor


def _sign(lock: int) -> None:
    """Write into a lock which host holds it: this one. On a full disk it stays empty, which is like another host's."""
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, this_host().encode(), 0)


def remove(lock: Path) -> None:
    """Delete what is left of an outbox without records."""
    shutil.rmtree(lock.with_suffix(".files"), ignore_errors=True)
    lock.unlink(missing_ok=True)
