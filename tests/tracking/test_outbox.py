"""Records reach their receiver once it answers: in order, also those of a process that was killed."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from platform.tracking import locks, outbox
from platform.tracking.drivers import SILENCE
from platform.tracking.outbox import Outbox, UnavailableError
from tests.helpers.disks import fill, small_disk
from tests.helpers.paths import ROOT


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "INTERVAL", 0.1)
    monkeypatch.setattr(outbox, "LONGEST_WAIT", 0.5)
    monkeypatch.setattr(outbox, "_PATIENCE", 3.0)


class Receiver:
    """Takes records unless it is `down`, those of the keys `broken` never for now, and those of `refused` never."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.batches: list[tuple[str, int]] = []
        self.down = False
        self.broken: set[str] = set()
        self.said: list[str] = []

    def __call__(self, key: str, records: list[dict[str, Any]]) -> None:
        if self.down or key in self.broken:
            raise UnavailableError("connection refused")
        if key == "refused":
            raise ValueError("400")
        self.batches.append((key, len(records)))
        for record in records:
            files = Path(record["files"]) if "files" in record else None
            self.got.append((key, record["n"] if files is None else sorted(p.name for p in files.iterdir())))


def make(folder: Path, receiver: Receiver) -> Outbox:
    return Outbox(folder, "store", receiver, receiver.said.append, "The receiver")


def test_records_of_a_key_arrive_together_and_in_order(tmp_path: Path) -> None:
    receiver = Receiver()
    box = make(tmp_path, receiver)
    for n in range(5):
        box.put("a", {"n": n})
        box.put("b", {"n": n})
    assert box.close(10) == 0
    assert [n for key, n in receiver.got if key == "a"] == [0, 1, 2, 3, 4]
    assert len(receiver.batches) <= 4
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_lost_while_the_receiver_is_down_and_it_is_told_once(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.down = True
    box = make(tmp_path, receiver)
    box.put("a", {"n": 1})
    assert not box.flush(10, once=True)
    assert box.down
    box.put("a", {"n": 2})
    box.put("b", {"n": 3})
    receiver.down = False
    assert box.flush(10)
    assert receiver.got == [("a", 1), ("a", 2), ("b", 3)]
    assert not box.down
    assert [line.split(":")[0] for line in receiver.said] == [
        "The receiver does not answer",
        "The receiver answers again",
    ]
    box.close(1)


def test_a_record_that_keeps_failing_does_not_hold_up_the_others(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.broken = {"a"}
    box = make(tmp_path, receiver)
    box.put("a", {"n": 1})
    box.put("b", {"n": 2})
    deadline = time.monotonic() + 10
    while ("b", 2) not in receiver.got and time.monotonic() < deadline:
        time.sleep(0.05)
    assert receiver.got == [("b", 2)]
    assert box.close(0) == 1
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_a_refusal_is_told_and_set_aside_with_its_files(tmp_path: Path) -> None:
    receiver = Receiver()
    files = tmp_path / "trial"
    files.mkdir()
    (files / "weights.pt").write_text("w")
    box = make(tmp_path / "box", receiver)
    box.put("refused", {"n": 1}, files=files)
    box.put("a", {"n": 2})
    assert box.close(10) == 0
    assert receiver.got == [("a", 2)]
    (told,) = receiver.said
    assert "refused 1 records (400)" in told
    assert box.refused == 1
    key, record = json.loads((tmp_path / "box" / "refused.jsonl").read_text())
    assert key == "refused"
    assert (Path(record["files"]) / "weights.pt").read_text() == "w"


def test_files_are_kept_until_delivered_and_gone_then(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.down = True
    files = tmp_path / "trial"
    (files / "sub").mkdir(parents=True)
    (files / "a.txt").write_text("a")
    box = make(tmp_path / "box", receiver)
    box.put("a", {"n": 1}, files=files)
    (files / "a.txt").unlink()
    (kept,) = box.files_of("a")
    assert (kept / "a.txt").read_text() == "a"
    receiver.down = False
    assert box.close(10) == 0
    assert receiver.got == [("a", ["a.txt", "sub"])]
    assert list((tmp_path / "box").iterdir()) == []


KILLED = """
import os, signal, sys, time
from pathlib import Path
import platform
platform.__path__ = [sys.argv[2]]
from platform.tracking.outbox import Outbox, UnavailableError
def never(key, records):
    raise UnavailableError("down")
box = Outbox(Path(sys.argv[1]), "store", never, lambda text: None, "It")
for n in range(100):
    box.put(f"key {n % 7}", {"n": n}, safe=n % 10 == 0)
files = Path(sys.argv[1]).parent / "files"
files.mkdir()
(files / "x").write_text("x")
box.put("files", {"n": 100}, files=files, safe=True)
print("ready", flush=True)
time.sleep(60)
"""


def killed(folder: Path) -> None:
    """An outbox whose process was killed with 101 undelivered records."""
    arguments = [sys.executable, "-c", KILLED, str(folder), str(ROOT / "platform")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()


def test_what_a_killed_process_left_is_delivered_by_the_next_before_its_own(tmp_path: Path) -> None:
    killed(tmp_path / "box")
    segment = next((tmp_path / "box").glob("*.jsonl"))
    with segment.open("a") as file:
        file.write('["key 1", {"n": 9')  # torn by the kill
    receiver = Receiver()
    box = make(tmp_path / "box", receiver)
    assert box.left_behind == 101
    box.put("own", {"n": -1})
    assert box.close(10) == 0
    assert receiver.got[-1] == ("own", -1)
    numbers = [n for key, n in receiver.got if key.startswith("key")]
    assert sorted(numbers) == list(range(100))
    assert [n for key, n in receiver.got if key == "key 3"] == list(range(3, 100, 7))
    assert ("files", ["x"]) in receiver.got
    assert list((tmp_path / "box").iterdir()) == []


def test_records_of_a_live_process_and_of_another_receiver_are_left_alone(tmp_path: Path) -> None:
    down, receiver = Receiver(), Receiver()
    down.down = True
    first = make(tmp_path, down)
    first.put("a", {"n": 1})
    other = Outbox(tmp_path, "elsewhere", receiver, receiver.said.append, "Another")
    second = make(tmp_path, receiver)
    assert other.left_behind == second.left_behind == 0
    assert second.close(1) == other.close(1) == 0
    assert first.close(0) == 1
    assert make(tmp_path, receiver).close(10) == 0
    assert receiver.got == [("a", 1)]


def test_an_adopter_that_is_killed_as_well_leaves_the_records_to_the_next(tmp_path: Path) -> None:
    killed(tmp_path / "box")
    receiver = Receiver()
    receiver.down = True
    assert make(tmp_path / "box", receiver).close(0) == 101
    receiver.down = False
    assert make(tmp_path / "box", receiver).close(10) == 0
    assert len(receiver.got) == 101


def test_a_full_disk_costs_the_copy_on_disk_not_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    receiver.down = True
    box = make(tmp_path, receiver)

    def full(*arguments: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(outbox.os, "write", full)  # a full disk cannot be had without root
        box.put("a", {"n": 1})
        box.put("a", {"n": 2}, safe=True)
    box.put("a", {"n": 3})
    receiver.down = False
    assert box.close(10) == 0
    assert receiver.got == [("a", 1), ("a", 2), ("a", 3)]
    assert sum("kept in memory" in line for line in receiver.said) == 1


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk without room, but for a file `filler` that can be deleted."""
    with small_disk(tmp_path / "small", "256k") as disk:
        (disk / "box").mkdir()
        yield disk


def test_what_found_no_room_is_written_at_the_end_if_there_is_some_then(full: Path) -> None:
    receiver = Receiver()
    receiver.down = True
    box = make(full / "box", receiver)
    filler = fill(full)
    assert not box.put("a", {"n": 1})
    filler.unlink()
    assert box.put("a", {"n": 2}, safe=True)
    assert box.close(0) == 2
    assert box.lost == 0
    receiver.down = False
    assert make(full / "box", receiver).close(10) == 0
    numbers = [n for _, n in receiver.got]
    assert set(numbers) == {1, 2}
    assert numbers[-2:] == [1, 2]


def test_only_what_the_disk_has_is_said_to_be_kept(full: Path) -> None:
    receiver = Receiver()
    receiver.down = True
    box = make(full / "box", receiver)
    assert box.put("a", {"n": 1}, safe=True)
    fill(full)
    (full / "files").mkdir()
    written = [box.put("b", {"n": n, "long": "x" * 4096}, safe=True) for n in range(5)]
    assert not all(written)
    kept = box.close(0)
    assert (kept, box.lost) == (1 + sum(written), written.count(False))
    receiver.down = False
    after = make(full / "box", receiver)
    assert after.left_behind == kept
    assert after.close(10) == 0


def test_files_without_room_stay_where_they_are_and_are_delivered_from_there(full: Path, tmp_path: Path) -> None:
    receiver = Receiver()
    box = make(full / "box", receiver)
    files = tmp_path / "trial"
    files.mkdir()
    (files / "weights.pt").write_bytes(b"w" * 100_000)
    fill(full)
    assert box.put("a", {"n": 1}, files=files, safe=True)  # at once
    assert receiver.got == [("a", ["weights.pt"])]
    receiver.broken = {"b"}
    assert not box.put("b", {"n": 2}, files=files, safe=True)
    assert box.files_of("b") == [files]
    box.close(0)


def test_segments_that_are_delivered_are_deleted_while_others_wait(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.broken = {"a"}
    box = make(tmp_path, receiver)
    box.put("a", {"n": 0})
    for n in range(1, 4):
        box.put("b", {"n": n})
        assert not box.flush(0.5)
    deadline = time.monotonic() + 10
    while len(receiver.got) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    receiver.broken = set()
    assert box.flush(40)
    box.put("b", {"n": 4})
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    assert box.close(10) == 0


def test_the_lock_of_a_live_outbox_is_held(tmp_path: Path) -> None:
    box = make(tmp_path, Receiver())
    (lock,) = tmp_path.glob("*.lock")
    with lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    box.close(1)


@pytest.fixture
def left_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The lock of an outbox with a record that waits, of a process on another host whose locks are not seen here."""
    receiver = Receiver()
    receiver.down = True
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(locks, "this_host", lambda: "another")
        box = make(tmp_path, receiver)
        box.put("a", {"n": 1})
    (lock,) = tmp_path.glob("*.lock")
    with monkeypatch.context() as unseen:
        unseen.setattr(locks.fcntl, "flock", lambda *_: None)
        yield lock
    box.close(0)


def test_a_driver_of_another_host_keeps_its_records_where_its_lock_is_not_seen(left_elsewhere: Path) -> None:
    receiver = Receiver()
    box = make(left_elsewhere.parent, receiver)
    assert (box.left_behind, box.close(1), receiver.got) == (0, 0, [])
    assert locks.in_use(left_elsewhere.parent)


def test_what_a_driver_of_another_host_left_is_delivered_once_it_has_been_silent(left_elsewhere: Path) -> None:
    long_ago = time.time() - 2 * SILENCE
    os.utime(left_elsewhere, (long_ago, long_ago))
    assert not locks.in_use(left_elsewhere.parent)
    receiver = Receiver()
    box = make(left_elsewhere.parent, receiver)
    assert (box.left_behind, box.close(10), receiver.got) == (1, 0, [("a", 1)])


def test_an_outbox_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BEAT", 0.05)
    box = make(tmp_path, Receiver())
    (lock,) = tmp_path.glob("*.lock")
    os.utime(lock, (0, 0))
    deadline = time.monotonic() + 10
    while lock.stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lock.stat().st_mtime > 0
    box.close(1)
