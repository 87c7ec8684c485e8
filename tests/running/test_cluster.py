"""A cluster that is joined: shares of a GPU, code that is shipped, and storage that only the network leads to."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pyarrow import fs

from tests.helpers.clusters import actors, cluster_of, driver, holding, session_of, within
from tests.helpers.paths import ROOT
from tests.helpers.sweeps import project, runs

pytestmark = pytest.mark.slow
SECRET = "a-secret-that-nobody-may-print"
SHARES = """\
name: toy
base: {protocol: digits, backbone: wrn10-1, epochs: 12, batch_size: 64, images_per_class: 60}
splits: [0]
seeds: [0, 1, 2]
rows: [{name: NoiseMix, set: {objective: ce, mix: "mine.noise:NoiseMix"}}]
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
def shared_gpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, set[str]]:
    """Three trials of a mix of one's own, where there is one GPU and half of it for each.

    With what the command said, how many ran together at most, and which files their processes were given.
    """
    folder = project(tmp_path_factory.mktemp("shares"), SHARES)
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("not needed there")
    shutil.copy(ROOT / "examples" / "noise_mix.py", folder / "mine" / "noise.py")
    (folder / "data").mkdir()
    together = [0]
    with cluster_of({"num_cpus": 4, "num_gpus": 1}) as cluster, driver(folder, "--address", cluster.address) as command:
        assert within(300, lambda: len(actors(cluster, "ResourceTrainable")) == 2)
        paths = psutil.Process(min(actors(cluster, "ResourceTrainable"))).environ()["PYTHONPATH"].split(os.pathsep)
        (given,) = {Path(path) for path in paths if "working_dir_files" in path}
        files = {p.relative_to(given).as_posix() for p in given.rglob("*") if p.is_file() and p.suffix != ".pyc"}
        while command.process.poll() is None:
            together.append(len(actors(cluster, "ResourceTrainable")))
            time.sleep(0.2)
        assert command.end() == 0, command.said
    return command.said, max(together), files


def test_two_trials_share_a_gpu_and_a_third_waits(shared_gpu: tuple[str, int, set[str]]) -> None:
    said, together, _ = shared_gpu
    assert "1 GPU found" in said
    assert together == 2


def test_workers_of_a_cluster_get_trainables_and_ones_own_modules_alone(shared_gpu: tuple[str, int, set[str]]) -> None:
    files = shared_gpu[2]
    assert {"trainables/worker.py", "trainables/protocols/splits/agc.json"} <= files
    assert {file for file in files if not file.startswith("trainables/")} == {"mine/noise.py"}


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


def kept(store: str) -> list[str]:
    """Files in the storage."""
    system, path = fs.FileSystem.from_uri(store)
    found = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    return [file.path.removeprefix(f"{path}/") for file in found if file.is_file]


def learning(store: str) -> bool:
    """Whether the teacher is there, and a student's checkpoint."""
    files = kept(store)
    taught = {Path(file).stem for file in files if file.startswith("teachers/")}
    return any("/checkpoints/" in file and taught and file.split("/")[2] not in taught for file in files)


def test_trials_and_their_teacher_go_on_from_an_s3_like_store(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    folder = project(tmp_path, TAUGHT)
    with driver(folder, "--storage", store) as first:
        assert within(300, lambda: learning(store))
        first.process.send_signal(signal.SIGTERM)
        assert first.end() == 130, first.said
    with driver(folder, "--storage", store) as second:
        assert within(300, lambda: bool(session_of(second)))
        (session,) = session_of(second)
        assert second.end() == 0, second.said

    assert re.search(r"to train .* 2 trials ", second.said)
    assert re.search(r"cached .* 1 teachers beside them", second.said)
    active = [run for run in runs(folder) if run.info.lifecycle_stage == "active"]
    assert {run.info.status for run in active} == {"FINISHED"}
    trials = sorted(run.data.tags["row"] for run in active if run.data.tags["kind"] == "trial")
    assert trials == ["DIST", "KL", "teacher wrn10-1"]
    assert not [file for file in kept(store) if "trials/" in file]
    assert SECRET not in first.said + second.said
    assert not holding(SECRET, folder)
    assert not holding(SECRET, session)
