"""Every command that the help, the README, docs/ and the files of search_spaces/ show, read as it is typed."""

import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from platform import protocols, report, runs, sweep
from platform.files import search_file
from platform.files.search_file import PAPER
from tests.helpers.paths import ROOT
from trainables.protocols.protocols import PROTOCOLS

MODULES = {"sweep": sweep, "report": report, "protocols": protocols, "runs": runs}
SHOWN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "search_spaces").rglob("*.yaml"))]
TEXTS = [*(path.read_text() for path in SHOWN), *(module.EXAMPLES for module in MODULES.values())]
load = cache(search_file.load)  # most files stand in several examples
PARSERS = {name: module._parser() for name, module in MODULES.items()}


def commands() -> list[tuple[str, ...]]:
    """The module and the arguments of each command that stands on lines of its own."""
    found = []
    for text in TEXTS:
        for module, arguments in re.findall(
            r"^[$# ]*.*?\bpython -m platform\.(\w+) ([^`\n]*)", text.replace("\\\n", ""), re.MULTILINE
        ):
            if "…" not in arguments:
                found.append((module, *shlex.split(arguments.split(" && ")[0].split(" > ")[0])))
    return list(dict.fromkeys(found))


@pytest.fixture(autouse=True)
def in_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_an_example_is_what_the_command_takes(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    if {"--schema", "--list-settings"} & {*command}:  # which print, and end
        with pytest.raises(SystemExit, match="0"):
            PARSERS[command[0]].parse_args(command[1:])
        return
    args = PARSERS[command[0]].parse_args(command[1:])
    if command[0] == "protocols":
        assert set(args.protocols) <= {*PROTOCOLS, "birds.yaml"}  # the last: one of your own
        return
    if command[0] == "runs":
        return
    for path in args.files:
        if path.name in ("one.yaml", "two.yaml"):
            continue  # any two
        file = load(path)
        if "mask_ration" in " ".join(args.set):
            with pytest.raises(search_file.ConfigError, match="did you mean 'mask_ratio'"):
                file.check([PAPER], args.set)
            continue
        for profile in [args.profile] if args.profile else [n for n in ("quick", PAPER) if n in file.profiles]:
            file.profile(profile, args.set)


def test_there_are_examples_of_every_command() -> None:
    assert {module for module, *_ in commands()} == set(PARSERS)
    assert len(commands()) > 40


def test_printed_commands_begin_with_uv_run_where_the_caller_used_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from platform.command import command, examples

    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert command("python", "-m", "platform.sweep", "a b.yaml") == "uv run python -m platform.sweep 'a b.yaml'"
    assert "  uv run python -m platform.sweep search_spaces/backmix.yaml\n" in examples(sweep.EXAMPLES)
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH")
    assert command("mlflow", "ui") == "mlflow ui"


@pytest.mark.parametrize("module", ["sweep", "report"])
def test_a_mistake_in_set_is_told_without_torch_ray_and_mlflow(module: str) -> None:
    script = (
        f"import sys; from platform import {module}; code = {module}.main(['search_spaces/backmix.yaml', '--set', "
        "'epoch=3']); print([m for m in ('torch', 'ray', 'mlflow', 'pandas') if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == "--set epoch=3: unknown key 'epoch' (did you mean 'epochs'?)\n"
    assert done.returncode == 2
    assert done.stdout == "[]\n"
