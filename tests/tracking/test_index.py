"""The index knows what the store knows, by reading only what may have changed."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from platform.tracking import index
from platform.tracking.index import (
    Entry,
    Others,
    Page,
    SweepRun,
    TrialRun,
    ended,
    finished,
    keep_others,
    kept,
    unfinished,
)

SIZE = 10  # of a small page


@pytest.fixture(autouse=True)
def _pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SMALL", SIZE)
    monkeypatch.setattr(index, "LARGE", 5 * SIZE)


class Pages:
    """Runs in the order of their end, given out in pages as MLflow does: a token is a position."""

    def __init__(self, count: int) -> None:
        self.runs = [f"r{n}" for n in range(count)]
        self.unfinished: set[str] = set()
        self.read = 0

    def __call__(self, token: str | None, size: int) -> Page:
        start = int(token or 0)
        self.read += 1
        entries = []
        for position, run in enumerate(self.runs[start : start + size], start):
            identity = f"i{run[1:]}"
            place = (identity, run, "sweep", "row", "row", "sha", "false", float(position), 1.5, "cpu")
            trial = TrialRun(*place, details='{"params": {"lr": "0.1"}, "metrics": {"test/auroc": 0.5}}')
            entries.append(Entry(trial, counts=run not in self.unfinished))
        following = str(start + size) if start + size < len(self.runs) else None
        return Page(entries, following)

    def reads(self) -> int:
        read, self.read = self.read, 0
        return read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.mark.parametrize("count", [0, 1, SIZE, SIZE + 1, 3 * SIZE + 5])
def test_everything_is_found_and_looked_at_again_by_one_page(file: Path, count: int) -> None:
    store = Pages(count)
    assert {k.run_id for k in finished(file, store).values()} == set(store.runs)
    store.reads()
    assert len(finished(file, store)) == count
    assert store.reads() == 1


def test_what_ended_since_costs_no_more_than_its_pages(file: Path) -> None:
    store = Pages(100 * SIZE)
    finished(file, store)
    assert store.reads() < 30  # mostly large pages
    store.runs += [f"r{n}" for n in range(2000, 2000 + 2 * SIZE)]
    assert len(finished(file, store)) == 102 * SIZE
    assert store.reads() <= 5


@pytest.mark.parametrize("place", [0, 55, 98, 99])
def test_a_run_that_is_deleted_vanishes(file: Path, place: int) -> None:
    store = Pages(100)
    finished(file, store)
    del store.runs[place]
    assert set(finished(file, store)) == {f"i{run[1:]}" for run in store.runs}


@pytest.mark.parametrize("place", [0, 55, 98])
def test_a_run_that_ends_late_or_is_restored_appears(file: Path, place: int) -> None:
    store = Pages(100)
    finished(file, store)
    store.runs.insert(place, "r500")
    assert set(finished(file, store)) == {f"i{run[1:]}" for run in store.runs}


def test_a_run_that_ends_anew_is_read_anew(file: Path) -> None:
    store = Pages(100)
    finished(file, store)
    store.runs.append(store.runs.pop(3))
    store.unfinished.add("r3")  # superseded
    assert "i3" not in finished(file, store)
    assert {name: (run.run_id, run.sweep) for name, run in unfinished(file).items()} == {"i3": ("r3", "sweep")}
    assert len(finished(file, store)) == 99


def test_every_run_is_there_whatever_became_of_it_the_last_first(file: Path) -> None:
    store = Pages(30)
    store.unfinished.add("r28")
    finished(file, store)
    assert [run.run_id for run in ended(file)[:3]] == ["r29", "r28", "r27"]
    assert ended(file)[1].params == {"lr": "0.1"}


def test_the_later_of_two_runs_of_an_identity_is_known(file: Path) -> None:
    store = Pages(3)
    store.runs.append("r1")
    assert finished(file, store)["i1"].ended == 3.0


def test_params_and_metrics_come_back(file: Path) -> None:
    trial = finished(file, Pages(1))["i0"]
    assert (trial.params, trial.metrics) == ({"lr": "0.1"}, {"test/auroc": 0.5})
    assert (trial.sweep, trial.seconds, trial.device) == ("sweep", 1.5, "cpu")


def test_a_store_that_was_made_anew_is_read_in_full(file: Path) -> None:
    finished(file, Pages(100))
    assert set(finished(file, Pages(5))) == {f"i{n}" for n in range(5)}


def test_a_damaged_file_is_made_again(file: Path) -> None:
    store = Pages(300)
    finished(file, store)
    content = bytearray(file.read_bytes())
    for damaged in (b"no database at all" * 100, bytes(content[:4096]) + b"\xff" * (len(content) - 4096), b""):
        file.write_bytes(damaged)
        assert len(finished(file, store)) == 300
        assert len(finished(file, store)) == 300


def test_another_format_is_made_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Pages(30)
    finished(file, store)
    monkeypatch.setattr(index, "FORMAT", index.FORMAT + 1)
    store.reads()
    assert len(finished(file, store)) == 30
    assert store.reads() > 1


def test_a_file_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    nowhere = tmp_path / "missing" / "index.sqlite"
    assert len(finished(nowhere, Pages(30))) == 30
    assert unfinished(nowhere) is None


def test_where_reading_fails_the_index_stays_as_it_was(file: Path) -> None:
    store = Pages(30)
    finished(file, store)

    def broken(token: str | None, size: int) -> Page:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        finished(file, broken)
    assert len(finished(file, None)) == 30


def test_several_may_refresh_at_once(file: Path) -> None:
    store = Pages(500)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: finished(file, store), range(8)))
    assert [len(trials) for trials in found] == [500] * 8
    with sqlite3.connect(file) as database:
        assert database.execute("select count(*) from runs").fetchone() == (500,)


def test_all_of_a_store_is_kept_for_as_long_as_its_state_is_the_same(file: Path) -> None:
    store = Pages(3)
    trials = finished(file, store)
    sweep = SweepRun("r9", "toy", True, "quick", "", {"digits": ["0123", 1000]}, {"best.lr": "0.1"})
    running = TrialRun("i7", "r7", "toy", "row", "row", "", "", 0.0, 1.0, "cpu", "{}", "running")
    others = Others({"1": "toy"}, [running], [sweep], 3)
    assert kept(file, "one") is None
    keep_others(file, "one", others)
    assert kept(file, "one") == (trials, others)
    assert kept(file, "two") is None
    assert kept(file, "") is None  # a store that has no state, as a server
    keep_others(file, "two", others)
    assert kept(file, "one") is None


def test_what_is_kept_in_a_file_that_is_no_index_is_not_used(file: Path) -> None:
    file.write_text("not a database")
    keep_others(file, "one", Others({}, [], [], 0))
    assert kept(file, "one") is None
