"""A cluster that is joined: shares of a GPU, code that is shipped, and storage that only the network leads to."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from clusters import Driver, actors, cluster_of, within
from pyarrow import fs
from test_sweep import ROOT, project, runs

pytestmark = pytest.mark.cluster
SECRET = "a-secret-that-nobody-may-print"
SHARES = """\
name: toy
base: {protocol: digits, backbone: wrn10-1, epochs: 12, batch_size: 64, images_per_class: 60}
splits: [0]
seeds: [0, 1, 2]
rows: [{name: NoiseMix, set: {method: "mine.noise:NoiseMix"}}]
resources: {gpus_per_worker: 0.5}
"""
TAUGHT = """\
name: toy
base:
  {method: distill, teacher: {backbone: wrn10-1, epochs: 2}, protocol: digits, backbone: wrn10-1, epochs: 12,
   batch_size: 64, images_per_class: 60}
splits: [0]
seeds: [0]
rows: [{name: DIST, set: {}}, {name: KL, set: {distillation: kl}}]
"""


@pytest.fixture(scope="module")
def shared_gpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, set[str], set[str]]:
    """Three trials of a method of one's own, where there is one GPU and half of it for each.

    Returns what the command said, how many ran together at most, and which modules and files their process was given.
    """
    folder = project(tmp_path_factory.mktemp("shares"), SHARES)
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("not needed there")
    shutil.copy(ROOT / "examples" / "noise_mix.py", folder / "mine" / "noise.py")
    (folder / "data").mkdir()
    with cluster_of({"num_cpus": 4, "num_gpus": 1}) as cluster:
        driver = Driver(folder, "--address", cluster.address)
        driver.until("seed 1 epoch")
        trials = actors(cluster, "ResourceTrainable")
        paths = psutil.Process(min(trials)).environ()["PYTHONPATH"].split(os.pathsep)
        (given,) = {Path(path) for path in paths if "working_dir_files" in path}
        files = {p.relative_to(given).as_posix() for p in given.rglob("*") if p.is_file() and p.suffix != ".pyc"}
        together = len(trials)
        driver.until("seed 2 epoch")
        together = max(together, len(actors(cluster, "ResourceTrainable")))
        assert driver.end() == 0, driver.said
    return driver.said, together, {file for file in files if not file.startswith("trainables/")}, files


def test_two_trials_share_a_gpu_and_a_third_waits(shared_gpu: tuple[str, int, set[str], set[str]]) -> None:
    said, together, _, _ = shared_gpu
    assert "1 GPUs found" in said
    assert "2 trials, each 1 CPU" in said
    assert together == 2


def test_workers_of_a_cluster_get_trainables_and_ones_own_modules_alone(
    shared_gpu: tuple[str, int, set[str], set[str]],
) -> None:
    _, _, others, files = shared_gpu
    assert others == {"mine/noise.py"}
    assert {"trainables/worker.py", "trainables/data/splits/agc.json"} <= files


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An s3-like store on this machine; its address, for --storage."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert within(60, lambda: answers(port))
        where = f"endpoint_override=127.0.0.1:{port}&scheme=http&allow_bucket_creation=true"
        system, _ = fs.FileSystem.from_uri(f"s3://bucket?{where}")
        system.create_dir("bucket")
        yield f"s3://bucket/runs?{where}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api", timeout=2).close()
    except OSError:
        return False
    return True


def holding(text: str, folder: Path) -> list[Path]:
    """Files under `folder` that contain it."""
    files = [Path(where) / name for where, _, names in os.walk(folder) for name in names]
    return [file for file in files if file.is_file() and text.encode() in file.read_bytes()]


def test_trials_and_their_teacher_go_on_from_an_s3_like_store(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    folder = project(tmp_path, TAUGHT)
    first = Driver(folder, "--storage", store)
    first.until(r"(DIST|KL), split 0, seed 0 epoch")
    first.process.send_signal(signal.SIGTERM)
    assert first.end() == 130, first.said
    second = Driver(folder, "--storage", store)
    second.until(r"(DIST|KL), split 0, seed 0 epoch")
    logs = session_of(second)
    assert second.end() == 0, second.said

    assert re.search(r"to train .* 2 trials ", second.said)
    assert re.search(r"cached .* 1 teachers beside them", second.said)
    finished = [r for r in runs(folder) if r.data.tags["kind"] == "trial" and r.info.status == "FINISHED"]
    assert sorted(run.data.tags["row"] for run in finished) == ["DIST", "KL", "teacher wrn10-1"]
    assert not [run for run in runs(folder) if run.info.status == "RUNNING"]
    system, path = fs.FileSystem.from_uri(store)
    left = system.get_file_info(fs.FileSelector(path, recursive=True))
    assert [file.path.removeprefix(f"{path}/") for file in left if file.is_file and "trials/" in file.path] == []

    assert SECRET not in first.said + second.said
    assert not holding(SECRET, folder)
    assert not holding(SECRET, logs)


def session_of(driver: Driver) -> Path:
    """Where the Ray that the command has started writes its logs."""
    for process in psutil.Process(driver.process.pid).children(recursive=True):
        for argument in process.cmdline():
            if argument.startswith("--session-dir="):
                return Path(argument.removeprefix("--session-dir=")) / "logs"
    raise AssertionError("no Ray was started")
