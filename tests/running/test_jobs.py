"""`ray job submit` as the README has it, on a cluster with token authentication: what is shipped, where results are."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.helpers.clusters import within
from tests.helpers.paths import ROOT

SHORT = "--set trials=1 --set epochs=1 --set scheduler=null --set confirm.splits=[0]"
pytestmark = pytest.mark.slow


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass
class HeadNode:
    """A head node with a home of its own, and a clone of this repository."""

    clone: Path
    shared: Path  # what all nodes would see
    environment: dict[str, str]

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command line, as someone would type it in the clone."""
        return subprocess.run(
            shlex.split(command),
            cwd=self.clone,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )


def from_the_readme(begins: str) -> str:
    """The command of the README that begins so, with its continued lines."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(rf"^\$ (?:uv run )?({begins}.*)$", text, re.MULTILINE)
    return str(line)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadNode]:
    home = tmp_path_factory.mktemp("home")
    clone = home / "clone"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, [*tracked.split("\0"), ".rayignore"]):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    (clone / ".git").mkdir()
    (clone / ".git" / "pack").write_bytes(os.urandom(1 << 20))
    gcs, dashboard, client, agent = free_ports(4)
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment = {
        **theirs,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # this head is a child of `uv run pytest`, which its workers would start
    }
    made = HeadNode(clone, home / "shared", environment)
    assert made.run("ray get-auth-token --generate").returncode == 0
    options = f"--port {gcs} --dashboard-port {dashboard} --ray-client-server-port {client}"
    local = f"--node-ip-address 127.0.0.1 --dashboard-host 127.0.0.1 --dashboard-agent-listen-port {agent}"
    with open(home / "head.txt", "wb") as log:
        process = subprocess.Popen(
            shlex.split(f"ray start --head --block --num-cpus 2 {options} {local}"),
            env={name: value for name, value in environment.items() if name != "RAY_ADDRESS"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        assert within(90, lambda: made.run("ray job list").returncode == 0), (home / "head.txt").read_text()
        yield made
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        for left in family:
            if left.is_running():
                left.kill()


@pytest.fixture(scope="module")
def submitted(head: HeadNode) -> str:
    """What the README's command said, with the README's places, and as little training as there can be."""
    command = from_the_readme("ray job submit")
    command = command.replace("/DATA", f"{head.shared}/data").replace("/SHARED", str(head.shared))
    done = head.run(f"{command} {SHORT}")
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_readmes_command_succeeds(submitted: str) -> None:
    assert re.search(r"Job 'raysubmit_\w+' succeeded", submitted)
    assert "Best settings: mask_ratio" in submitted


def test_results_are_where_all_nodes_see_them(head: HeadNode, submitted: str) -> None:
    assert (head.shared / "mlflow.db").is_file()
    assert list((head.shared / "mlruns").rglob("scores.parquet"))
    assert (head.shared / "results" / "studies" / "backmix.log").is_file()


def test_only_what_a_job_needs_is_shipped(submitted: str) -> None:
    (package,) = set(re.findall(r"gcs://(_ray_pkg_\w+)\.zip", submitted))
    found = next(Path("/tmp/ray").glob(f"session_*/runtime_resources/working_dir_files/{package}"))
    names = {path.name for path in found.iterdir()}
    assert {"platform", "trainables", "search_spaces"} <= names
    assert not names & {".git", ".venv", "data", "results", "docs", "tests", "mlruns", "benchmarks", ".vscode"}
    assert (
        sum(file.stat().st_size for file in found.rglob("*.*") if "__pycache__" not in file.parts) < 2 << 20
    )  # source


def test_a_job_whose_results_would_be_lost_is_refused(head: HeadNode) -> None:
    done = head.run("ray job submit --working-dir . -- python -m platform.sweep search_spaces/backmix.yaml")
    assert "--storage is missing: a submitted job runs in a temporary folder" in " ".join(done.stdout.split())
    assert "exit code 2" in done.stdout
    assert done.returncode != 0


def test_nobody_submits_without_the_token(head: HeadNode, tmp_path: Path) -> None:
    done = head.run("ray job submit --working-dir . -- python -c pass", RAY_AUTH_MODE="disabled", HOME=str(tmp_path))
    assert done.returncode != 0
    assert "401" in done.stdout or "Unauthorized" in done.stdout, done.stdout
