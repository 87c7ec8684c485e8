"""A cluster that goes away while a sweep waits for it: what waits is ended, and nobody has to press Ctrl-C."""

import time
from collections.abc import Iterator

import pytest

from platform.interrupt import Interrupt, ignored
from platform.watch import watching


@pytest.fixture
def interrupt() -> Iterator[Interrupt]:
    said: list[str] = []
    with ignored():  # which puts the handlers back that were there
        made = Interrupt(said.append)
        made.listen()
        yield made
    assert said == []  # it is not told as the user's interrupt


def test_what_waits_is_ended_once_the_cluster_is_gone(interrupt: Interrupt) -> None:
    answers = iter([True, True, False])
    with watching(lambda: next(answers), interrupt, every=0.01) as gone, interrupt.patiently():
        with pytest.raises(KeyboardInterrupt):
            time.sleep(60)
        assert gone.is_set()
    assert not interrupt.asked


def test_what_a_living_cluster_works_on_is_left_alone(interrupt: Interrupt) -> None:
    looks: list[bool] = []
    with watching(lambda: not looks.append(True), interrupt, every=0.01) as gone, interrupt.patiently():
        while len(looks) < 5:
            time.sleep(0.01)
    seen = len(looks)
    time.sleep(0.05)
    assert not gone.is_set()
    assert len(looks) == seen  # nor looked at any more
