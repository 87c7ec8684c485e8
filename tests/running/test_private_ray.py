"""A Ray that a sweep starts on this machine is for its owner alone: its sockets, its token, its folder."""

import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from platform import sweep
from platform.running.session import LOOPBACK
from tests.helpers.clusters import driver, holding, session_of
from tests.helpers.sweeps import here, project

SPEC = """\
name: toy
base: {protocol: digits, backbone: wrn10-1, epochs: 1000, batch_size: 16, images_per_class: 60}
splits: [0]
rows: [{name: Plain, set: {method: plain}}]
"""
KEY = "a-key-that-nobody-may-read"


def processes(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def listening(pid: int) -> dict[str, set[str]]:
    """The addresses at which the processes of a sweep listen, by the process."""
    found: dict[str, set[str]] = {}
    for process in processes(pid):
        try:
            sockets = process.net_connections("inet")
            at = {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN or (s.type == 2 and not s.raddr)}
            found[" ".join(process.cmdline())[:100]] = at
        except psutil.Error:
            continue  # it has just ended
    return found


def public(addresses: set[str]) -> set[str]:
    parsed = {a: ipaddress.ip_address(a) for a in addresses}
    return {a for a, ip in parsed.items() if not (getattr(ip, "ipv4_mapped", None) or ip).is_loopback}


@pytest.fixture(scope="module")
def key() -> Iterator[None]:
    """That of an s3-like store, in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
        yield


@pytest.fixture(scope="module", params=["", pytest.param("resources.workers=2", marks=pytest.mark.slow)])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, key: None
) -> Iterator[tuple[int, Path]]:
    """The process of a sweep in the midst of a trial, alone or on two workers, and the folder of its session."""
    if request.param and (os.cpu_count() or 1) < 2:
        pytest.skip("two workers need two cores")
    changes = ["--set", request.param] if request.param else []
    with driver(project(tmp_path_factory.mktemp("running"), SPEC), *changes) as command:
        command.until(r"Plain, split 0, seed 0 started")
        training = "RayTrainWorker" if request.param else "ResourceTrainable.train"
        while not any(training in name for name in listening(command.process.pid)):
            time.sleep(0.5)
        (session,) = session_of(command)
        yield command.process.pid, session


def test_every_socket_of_a_running_sweep_is_on_loopback(running: tuple[int, Path]) -> None:
    found = listening(running[0])
    assert sum(map(len, found.values())) >= 5  # the head, the node, its agents, the workers
    assert not {name: out for name, at in found.items() if (out := public(at))}


def test_nobody_else_may_enter_the_folder_of_its_session(running: tuple[int, Path]) -> None:
    parents = [running[1], *running[1].parents]
    closed = [p for p in parents if p.stat().st_uid == os.getuid() and not p.stat().st_mode & 0o077]
    assert any(running[1].is_relative_to(folder) and folder != running[1] for folder in closed)


def test_a_key_of_a_store_is_in_no_file_of_its_session(running: tuple[int, Path]) -> None:
    # Its trial runs by now: Ray logs what it is started with, and Tune would send it such keys if it were let.
    assert KEY in {p.environ().get("AWS_SECRET_ACCESS_KEY") for p in processes(running[0])}
    assert not holding(KEY, running[1])


def test_its_token_is_in_no_file_and_without_it_nobody_joins(running: tuple[int, Path]) -> None:
    pid, session = running
    environments = [p.environ() for p in processes(pid)[1:]]
    (token,) = {e["RAY_AUTH_TOKEN"] for e in environments if "RAY_AUTH_TOKEN" in e}
    assert len(token) == 64
    assert not holding(token, session)
    (gcs,) = {a for p in processes(pid) for a in p.cmdline() if a.startswith("--gcs-address=")}
    code = f"import ray; ray.init({gcs.partition('=')[2]!r})"
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "HOME": str(session),
        "RAY_gcs_server_port_wait_time_s": "1",
        **LOOPBACK,
    }
    environment.pop("RAY_AUTH_TOKEN", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "ConnectionError" in done.stderr


def test_a_folder_that_is_too_long_for_rays_sockets_is_named_before_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path, SPEC, store=False)
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    done = here(sweep.main, folder, "toy.yaml")
    assert done.returncode == 2
    assert f"TMPDIR={long} is " in done.stderr
    assert "Set RAY_TMPDIR=/tmp" in done.stderr
    assert not (folder / "mlflow.db").exists()
