"""Who trains an identity: what a driver writes on its runs to be known by, and whether one that did still lives."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from platform.index import Known

BEAT = 30.0  # seconds between two signs of life
SILENCE = 180.0  # seconds without one after which a driver on another machine counts as dead
_DRIFT = 2.0  # seconds by which the start of a process may read differently, after the clock was set


@dataclass(frozen=True)
class Ours:
    """The trial is ours to train. Where MLflow does not answer, `run_id` is provisional."""

    run_id: str


@dataclass(frozen=True)
class Finished:
    """Somebody finished it since the plan was made."""

    known: Known


@dataclass(frozen=True)
class Elsewhere:
    """A live process trains it now: ask again later."""

    who: str


Claim = Ours | Finished | Elsewhere


@dataclass(frozen=True)
class Driver:
    """A process that trains, as the tags of a run tell it."""

    host: str
    pid: str
    born: str  # when the process started, unix seconds: a number may be given to another process later
    driver: str  # unique: a process may drive several sweeps, one after the other

    @staticmethod
    def this() -> Driver:
        born = psutil.Process().create_time()
        return Driver(_host(), str(os.getpid()), f"{born:.2f}", uuid.uuid4().hex)

    def tags(self) -> dict[str, str]:
        return {"host": self.host, "pid": self.pid, "born": self.born, "driver": self.driver}


def said_by(tags: Mapping[str, str]) -> Driver | None:
    """The driver of a run; None where nobody ever claimed it."""
    if not tags.get("driver"):
        return None
    return Driver(tags.get("host", ""), tags.get("pid", ""), tags.get("born", ""), tags["driver"])


def lives_here(driver: Driver) -> bool | None:
    """Whether its process runs on this machine; None for a process of another."""
    if driver.host != _host():
        return None
    try:
        process = psutil.Process(int(driver.pid))
        same = abs(process.create_time() - float(driver.born)) < _DRIFT
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


def beats(heartbeat: str) -> bool:
    """Whether a sign of life (unix seconds) is recent."""
    try:
        return time.time() - float(heartbeat) < SILENCE
    except ValueError:
        return False


def _host() -> str:
    """This machine. Its network address too: names such as `ubuntu` are shared by many."""
    address = uuid.getnode()
    drawn = (address >> 40) & 1  # without a network card it is random, and another in each process
    return socket.gethostname() if drawn else f"{socket.gethostname()}-{address:012x}"
