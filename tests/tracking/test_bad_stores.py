"""A store that cannot be used is told in one line, at once, whatever library says so and however long."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from platform.tracking.address import check_writable, free_bytes, short_name
from platform.tracking.errors import TrackingError
from platform.tracking.provenance import code_tags
from platform.tracking.reader import Reader
from platform.tracking.tracker import Tracker
from tests.helpers.disks import fill, small_disk
from tests.helpers.stores import sweep_of


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


def test_a_store_has_one_name_whoever_logs_in(tmp_path: Path) -> None:
    """Checkpoints lie under it: a password that was changed must not lose them."""
    logins = ("https://host:5000", "https://host:5000/", "https://me:old@host:5000", "https://me:new@host:5000/")
    assert len({*map(short_name, logins)}) == 1
    assert short_name("https://host:5000/a") != short_name("https://host:5000/b")
    assert short_name(f"sqlite:///{tmp_path}/a.db") != short_name(f"sqlite:///{tmp_path}/b.db")


def told(what: Callable[[], object]) -> str:
    with pytest.raises(TrackingError) as raised:
        what()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def made(kind: str, file: Path, empty: Path) -> None:
    match kind:
        case "random bytes":
            file.write_bytes(os.urandom(20_000))
        case "a folder":
            file.mkdir()
        case "cut off":
            file.write_bytes(empty.read_bytes()[:5000])


@pytest.mark.parametrize("kind", ["random bytes", "a folder", "cut off"])
def test_what_is_no_database_is_told_by_sweeps_and_reports(kind: str, empty: Path, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    made(kind, file, empty)
    for open_it in (
        lambda: Tracker(f"sqlite:///{file}", tmp_path / "box", print),
        lambda: Reader.open(f"sqlite:///{file}"),
    ):
        assert f"MLflow at sqlite:///{file} cannot be used: " in told(open_it)
    assert file.is_dir() == (kind == "a folder")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("oracle-like://me:secret@127.0.0.1/x", "oracle-like"),
        ("mysql+nothing://me:secret@127.0.0.1/x", "nothing"),
        ("mssql+pyodbc://me:secret@127.0.0.1/x", "package of its driver"),
        ("postgresql://me:secret@127.0.0.1:9/x", "refused"),
        ("http://me:secret@127.0.0.1:9", "does not answer"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_without_the_password(address: str, reason: str, tmp_path: Path) -> None:
    message = told(lambda: Tracker(address, tmp_path / "box", print))
    assert reason in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("sqlite://", "name a file, as sqlite:///mlflow.db"),
        ("sqlite:///", "name a file, as sqlite:///mlflow.db"),
        ("sqlite://mlflow.db", "three slashes"),
        (f"sqlite:///{'x' * 300}", "File name too long. Name another file"),
        ("sqlite:///a\0b", "null byte. Name another file"),
        ("https://[::1", "Invalid IPv6 URL. Write http://HOST:PORT"),
        ("http://localhost:port", "nonnumeric port: 'port'. Write http://HOST:PORT"),
    ],
)
def test_an_address_that_can_be_no_stores_is_told_by_sweeps_and_reports(
    address: str, reason: str, tmp_path: Path
) -> None:
    for open_it in (lambda: Tracker(address, tmp_path / "box", print), lambda: Reader.open(address)):
        assert reason in told(open_it)


def test_a_full_disk_under_the_store_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as disk:
        fill(disk)
        message = told(lambda: Tracker(f"sqlite:///{disk}/mlflow.db", tmp_path / "box", print))
        assert free_bytes(f"sqlite:///{disk}/new/mlflow.db") == 0
    assert "full" in message


def test_a_store_on_a_disk_that_is_read_only_is_told(empty: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "4m") as disk:
        shutil.copy(empty, disk)
        os.system(f"mount -o remount,ro {disk}")
        for name in ("mlflow.db", "new.db", "new/mlflow.db"):
            address = f"sqlite:///{disk}/{name}"
            assert "is not yours to write" in told(lambda address=address: check_writable(address))
        assert "cannot be used" in told(lambda: Tracker(f"sqlite:///{disk}/mlflow.db", tmp_path / "box", print))


def test_a_locked_store_is_waited_for(uri: str, tmp_path: Path) -> None:
    with sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None) as other:
        other.execute("begin immediate")
        tracker = Tracker(uri, tmp_path / "box", print)  # reads only
        other.execute("rollback")
    assert tracker.close() == []


def test_a_deleted_experiment_is_named_with_the_way_back(
    track: Callable[..., Tracker],
    uri: str,
    tmp_path: Path,
) -> None:
    sweep = sweep_of(track(), tmp_path / "toy.yaml")
    client = MlflowClient(uri)
    client.delete_experiment(sweep.experiment_id)
    tracker = track()
    message = told(lambda: sweep_of(tracker, tmp_path / "toy.yaml"))
    assert "the experiment toy was deleted" in message
    assert f"mlflow experiments restore --experiment-id {sweep.experiment_id}" in message
    assert tracker.sweeps("toy") == []
    client.restore_experiment(sweep.experiment_id)
    assert sweep_of(tracker, tmp_path / "toy.yaml").experiment_id == sweep.experiment_id


def test_without_git_runs_say_that_the_code_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code_tags.cache_clear()
    try:
        assert code_tags()["git.sha"] == code_tags()["git.dirty"] == "unknown"
    finally:
        code_tags.cache_clear()
