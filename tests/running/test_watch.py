"""A cluster that goes away while a sweep waits for it: what waits is ended, and nobody has to press Ctrl-C."""

import socket
import time
from collections.abc import Iterator
from threading import Event

import pytest

from platform.running import watch
from platform.running.interrupt import Interrupt, ignored
from platform.running.watch import watching


@pytest.fixture
def interrupt() -> Iterator[Interrupt]:
    said: list[str] = []
    with ignored():  # which puts the handlers back that were there
        made = Interrupt(said.append)
        made.listen()
        yield made
    assert said == []  # it is not told as the user's interrupt


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What listens, as the head of a cluster does."""
    monkeypatch.setattr(watch, "EVERY", 0.01)
    monkeypatch.setattr(watch, "SILENCE", 0.05)
    monkeypatch.setattr(watch, "STUCK", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as made:
        yield made


def never() -> None:
    raise AssertionError


def test_what_waits_is_ended_once_the_cluster_is_gone(head: socket.socket, interrupt: Interrupt) -> None:
    said: list[str] = []
    with watching([head.getsockname()], 0.2, said.append, interrupt.end, never) as gone, interrupt.patiently():
        head.close()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(60)
        assert gone.is_set()
    assert said == ["the Ray cluster does not answer: waiting for it"]
    assert not interrupt.asked


def test_what_a_living_cluster_works_on_is_left_alone(head: socket.socket, interrupt: Interrupt) -> None:
    with watching([head.getsockname()], 0.0, print, never, never) as gone:
        for _ in range(5):
            head.accept()[0].close()
    assert not gone.is_set()


def test_a_cluster_that_comes_back_in_time_ends_nothing(head: socket.socket) -> None:
    at, told = head.getsockname(), Event()
    with watching([at], 60.0, lambda said: told.set(), never, never) as gone:
        head.close()
        assert told.wait(10)
        with socket.create_server(at, backlog=1000) as again:
            again.accept()[0].close()
    assert not gone.is_set()


def test_what_holds_the_main_thread_is_given_up(head: socket.socket) -> None:
    """As Ray's core does, whatever is raised."""
    given_up = Event()
    with watching([head.getsockname()], 0.0, print, lambda: None, given_up.set):
        head.close()
        assert given_up.wait(10)
