"""Our `platform` is also the standard library's: wherever it is found first, nothing else may notice."""

import json
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from osr import COMMANDS
from tests.helpers.paths import ROOT
from trainables import __version__

BIN = Path(sys.executable).parent
OSR = str(BIN / "osr")
CODE = """
import json, platform, sysconfig, pathlib, copy, pickle
standard = {}
path = pathlib.Path(sysconfig.get_path("stdlib")) / "platform.py"
exec(compile(path.read_text(), str(path), "exec"), standard)
names = ["system", "machine", "python_version", "node", "release", "python_implementation", "platform"]
print(json.dumps({
    "ours": hasattr(platform, "__path__"),
    "same": all(getattr(platform, n)() == standard[n]() for n in names),
    "complete": sorted(set(standard) - set(vars(platform))),
    "pickles": copy.deepcopy(platform.uname()) == platform.uname() and bool(pickle.dumps(platform.uname())),
}))
"""


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_from_the_root_it_is_both(tmp_path: Path) -> None:
    said = json.loads(run(sys.executable, "-c", CODE).stdout)
    assert said == {"ours": True, "same": True, "complete": [], "pickles": True}


def test_elsewhere_it_is_the_standard_one(tmp_path: Path) -> None:
    assert json.loads(run(sys.executable, "-c", CODE, cwd=tmp_path).stdout)["ours"] is False


def test_it_imports_what_the_standard_one_does_and_what_finds_that_and_nothing_more() -> None:
    code = "import sys; before = {{*sys.modules}}; {}; print(*({{*sys.modules}} - before))"
    ours = run(sys.executable, "-c", code.format("import platform")).stdout.split()
    finding = "import platform, importlib.machinery, sysconfig; sysconfig.get_path('stdlib')"
    standard = run(sys.executable, "-I", "-c", code.format(finding)).stdout.split()  # -I: not ours
    assert "platform" in ours
    assert set(ours) <= set(standard)


def test_pytest_sees_our_modules() -> None:
    from platform.files import search_file

    assert search_file.PAPER == "paper"


@pytest.mark.parametrize("tool", ["mlflow", "ray", "optuna"])
def test_commands_run_from_the_root_unharmed(tool: str) -> None:
    done = run(str(BIN / tool), "--version")
    assert done.returncode == 0, done.stderr


def test_help_shows_examples() -> None:
    done = run(sys.executable, "-m", "platform.sweep", "--help")
    assert done.returncode == 0
    assert "python -m platform.sweep search_spaces/backmix.yaml" in done.stdout
    assert "exit codes" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_console_script_has_every_command_from_any_folder(name: str, tmp_path: Path) -> None:
    done = run(OSR, name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert COMMANDS[name] in done.stdout or f"usage: {OSR} {name}" in done.stdout


def test_the_console_script_without_a_command_names_all(tmp_path: Path) -> None:
    done = run(OSR, cwd=tmp_path)
    assert done.returncode == 2
    assert all(f"osr {name} " in done.stderr for name in COMMANDS)


def test_it_finds_a_file_and_a_method_of_ones_own_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise RuntimeError('found')")  # sooner than it could import torch
    (tmp_path / "own.yaml").write_text(
        "{name: own, base: {objective: 'mine:Mine'}, search: {lr: {float: [0.1, 1]}}, trials: 2}"
    )
    done = run(OSR, "sweep", "own.yaml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 2
    assert "mine.py:1: RuntimeError: found" in done.stderr


def test_a_command_that_it_prints_runs_where_it_was_printed(tmp_path: Path) -> None:
    said = run(OSR, "report", "--help", cwd=tmp_path).stdout
    told = next(line for line in said.splitlines() if line.endswith("--format html"))
    assert "search_spaces/asymmetric/table06.yaml: no such file" in run(*shlex.split(told), cwd=tmp_path).stderr


@pytest.mark.parametrize("module", [*COMMANDS.values(), "osr"])
def test_every_command_tells_its_version(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    if module == "osr":
        assert run(OSR, "--version").stdout == f"osr-platform {__version__}\n"
        return
    with pytest.raises(SystemExit, match="0"):
        import_module(module).main(["--version"])
    assert capsys.readouterr().out == f"osr-platform {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("osr sw", {"sweep "}), ("osr runs di", {"diff "}), ("osr report --f", {"--format", "--from"})],
)
def test_a_shell_completes_commands_and_their_options(typed: str, offered: set[str], tmp_path: Path) -> None:
    answer = tmp_path / "answer"  # what the hook of `register-python-argcomplete osr` reads
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": typed, "COMP_POINT": str(len(typed)), "_ARGCOMPLETE_IFS": "\n"}
    done = subprocess.run([OSR], env={**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}, timeout=60)
    assert done.returncode == 0
    assert set(answer.read_text().split("\n")) == offered
