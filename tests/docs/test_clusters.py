"""The examples for clusters, as far as they can be tried without one: their syntax, their schema, and a dry run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from platform import sweep
from tests.helpers.paths import ROOT
from trainables import __version__

CLUSTERS = ROOT / "examples" / "clusters"
SCRIPTS = sorted(CLUSTERS.glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_can_read_a_script(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("file", sorted(CLUSTERS.iterdir()), ids=lambda file: file.name)
def test_the_sweep_of_an_example_is_what_the_command_takes(file: Path) -> None:
    text = re.sub(r"\\\n[# ]*|\n +(?=--)", " ", file.read_text())  # a line for each command
    (typed,) = re.findall(r"python -m platform\.sweep ([^\n&]*)", text)
    words = shlex.split(typed.replace('"$@"', "search_spaces/backmix.yaml").removesuffix('"' * (typed.count('"') % 2)))
    args = sweep._parser().parse_args(words)
    assert args.storage
    assert args.tracking_uri


def test_the_cluster_of_ray_up_has_rays_own_schema_and_asks_for_a_token() -> None:
    config: dict[str, Any] = yaml.safe_load((CLUSTERS / "ray_up.yaml").read_text())
    validate_config(prepare_config(config))
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in start for start in starts if "ray start" in start)


def test_every_pod_of_the_ray_job_mounts_what_it_declares_and_has_the_ray_that_was_tested() -> None:
    job: dict[str, Any] = yaml.safe_load((CLUSTERS / "kuberay_job.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    tested = re.search(r'"ray==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert tested
    assert cluster["rayVersion"] == tested[1]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


@pytest.mark.parametrize(("typed", "code"), [("--version", 0), ("none.yaml", 2)])
def test_the_script_of_one_node_runs_the_sweep_and_ends_as_it_does(tmp_path: Path, typed: str, code: int) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "platform").symlink_to(ROOT / "platform")
    (tmp_path / "trainables").symlink_to(ROOT / "trainables")
    done = subprocess.run(
        ["bash", str(CLUSTERS / "slurm_node.sh"), typed], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code
    assert (f"osr-platform {__version__}" if code == 0 else "none.yaml: no such file") in done.stdout + done.stderr
