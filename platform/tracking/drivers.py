"""The processes that train: what one writes on its runs to be known by, and whether one that did still lives.

A process of this machine is looked up. One of another lives as long as it gives signs of life on the run of its sweep.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:  # who only looks needs no MLflow
    from mlflow.entities import Run

    from platform.tracking.store import Store

BEAT = 30.0  # seconds between two signs of life
LOOK = 5.0  # seconds between two looks for what people ask of it
SILENCE = 180.0  # seconds without one after which a driver on another machine counts as dead
_END = "end."  # what the tag of a sweep's run begins with that asks for the end of a trial
_DRIFT = 2.0  # seconds by which the start of a process may read differently, after the clock was set


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
        return Driver(this_host(), str(os.getpid()), f"{born:.2f}", uuid.uuid4().hex)

    @staticmethod
    def of(tags: Mapping[str, str]) -> Driver | None:
        """The driver of a run; None where nobody ever claimed it."""
        if not tags.get("driver"):
            return None
        return Driver(tags.get("host", ""), tags.get("pid", ""), tags.get("born", ""), tags["driver"])

    def tags(self) -> dict[str, str]:
        return {"host": self.host, "pid": self.pid, "born": self.born, "driver": self.driver}

    def lives_here(self) -> bool | None:
        """Whether its process runs on this machine; None for a process of another."""
        if self.host != this_host():
            return None
        try:
            process = psutil.Process(int(self.pid))
            same = abs(process.create_time() - float(self.born)) < _DRIFT
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError):
            return False


class Drivers:
    """This process among the others of a store."""

    def __init__(self, store: Store) -> None:
        self.me = Driver.this()
        self._store = store
        self._asked: dict[str, tuple[float, bool]] = {}  # of drivers elsewhere: when, and whether they lived

    def hold(self, run: Run) -> bool:
        """Whether a live driver has this run open.

        Not its status alone: one that ends the runs of the dead may end a run that was taken over at that moment.
        """
        tags = run.data.tags
        driver = Driver.of(tags)
        if driver is None or (run.info.status != "RUNNING" and tags.get("held") != "yes"):
            return False
        here = driver.lives_here()
        return self._lives_elsewhere(driver, tags) if here is None else here

    def mine(self, run: Run) -> bool:
        return run.data.tags.get("driver") == self.me.driver

    def _lives_elsewhere(self, driver: Driver, tags: Mapping[str, str]) -> bool:
        if driver.driver in self._asked:
            asked, alive = self._asked[driver.driver]
            if time.monotonic() - asked < BEAT / 3:
                return alive
        heartbeat = tags.get("heartbeat")
        if heartbeat is None and (parent := tags.get("mlflow.parentRunId")):
            heartbeat = self._store.run(parent).data.tags.get("heartbeat")
        alive = _recent(heartbeat or "")
        self._asked[driver.driver] = (time.monotonic(), alive)
        return alive


class Heartbeat:
    """Signs of life on the runs of the open sweeps, for drivers on other machines; and what people ask of this one
    there."""

    def __init__(self, store: Store, driver: str) -> None:
        self.sweeps: set[str] = set()  # run ids
        self.to_end: set[str] = set()  # identities of trials that this driver is asked to end
        self._driver = driver
        self._store = store
        self._latest = time.time()  # sign of life
        self._lapsed = 0.0  # when one came late
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def steady_since(self, moment: float) -> bool:
        """Whether nobody can have taken this driver for dead since then, unix seconds."""
        return self._lapsed < moment and time.time() - self._latest < SILENCE / 2

    def _beat(self) -> None:
        from mlflow.exceptions import MlflowException

        looks = 0
        while not self._ended.wait(LOOK):
            looks += 1
            beats = looks % round(BEAT / LOOK) == 0
            arrived = True
            for run_id in list(self.sweeps):
                try:
                    if beats:
                        self._store.log(run_id, tags=sign_of_life())
                    self.to_end |= asked_to_end(self._store.run(run_id).data.tags, self._driver)
                except (MlflowException, OSError):
                    arrived = False  # the outbox tells; the other sweeps still need theirs
            if not (beats and arrived):
                continue
            now = time.time()  # not monotonic: a machine that slept shows as well
            if now - self._latest > SILENCE / 2:
                self._lapsed = now
            self._latest = now


def lives(tags: Mapping[str, str], heartbeat: str) -> bool:
    """Whether the driver in the tags of a run that is open still lives; `heartbeat` is the tag of its sweep's run."""
    driver = Driver.of(tags)
    here = driver.lives_here() if driver else False
    return _recent(heartbeat) if here is None else here


def sign_of_life() -> dict[str, str]:
    """As the tag of a sweep's run."""
    return {"heartbeat": str(time.time())}


def asking_to_end(identity: str, driver: str) -> dict[str, str]:
    """The tag of a sweep's run that asks a driver, and none after it, to end a trial."""
    return {f"{_END}{identity}": driver}


def asked_to_end(tags: Mapping[str, str], driver: str) -> set[str]:
    """The identities that a driver is asked to end."""
    return {name.removeprefix(_END) for name, of in tags.items() if name.startswith(_END) and of == driver}


def _recent(heartbeat: str) -> bool:
    try:
        return time.time() - float(heartbeat) < SILENCE
    except ValueError:
        return False


def this_host() -> str:
    """This machine. Its network address too: names such as `ubuntu` are shared by many."""
    address = uuid.getnode()
    drawn = (address >> 40) & 1  # without a network card it is random, and another in each process
    return socket.gethostname() if drawn else f"{socket.gethostname()}-{address:012x}"
