"""Malformed files: one message that names the place of the mistake, exit code 2, no traceback, and no Ray."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from platform.files import search_file
from tests.helpers.mistakes import ABLATION, MISTAKES, SEARCH, said_of
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("malformed")
    paths = [folder / f"{i}.yaml" for i in range(len(MISTAKES))]
    for path, mistake in zip(paths, MISTAKES, strict=True):
        path.write_bytes(mistake.content())
    return paths


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[m.said[:50] for m in MISTAKES])
def test_a_mistake_has_one_message_that_names_its_place(files: list[Path], number: int) -> None:
    said, path = said_of(files[number]), files[number]
    assert len(said.splitlines()) == 1
    assert said.startswith(f"{path}:")
    assert MISTAKES[number].said in said.removeprefix(f"{path}:")


def test_many_mistakes_are_twenty_lines_and_a_count(tmp_path: Path) -> None:
    keys = "".join(f"  key{i}: 1\n" for i in range(20_000))
    (tmp_path / "many.yaml").write_text(f"name: many\nbase:\n{keys}rows: [{{name: Plain, set: {{method: plain}}}}]\n")
    lines = said_of(tmp_path / "many.yaml").splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 19,980 more of 20,000 mistakes"


@pytest.mark.parametrize("make", ["mkfifo", "device", "loop"])
def test_what_is_no_file_is_answered_and_not_read(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.yaml"
    if make == "mkfifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if make == "device" else path)
    assert said_of(path).startswith(f"{path}: {'cannot be read: Too many' if make == 'loop' else 'is no file, but a'}")


def test_the_good_files_have_no_mistake(tmp_path: Path) -> None:
    for text in (SEARCH, ABLATION):
        (tmp_path / "good.yaml").write_text(text)
        assert search_file.load(tmp_path / "good.yaml").profiles


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "table06.yaml").touch()
    assert "no such file (did you mean 'table06.yaml'?)" in said_of(tmp_path / "tabel06.yaml")
    assert "is a folder" in said_of(tmp_path)


COMMAND = """\
import contextlib, io, json, sys
from platform import sweep
results = []
for path in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = sweep.main([path])
    results.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
print(json.dumps({"results": results, "ray": "ray" in sys.modules}))
"""


def test_the_command_exits_with_2_without_traceback_and_without_ray(files: list[Path], tmp_path: Path) -> None:
    paths = [*files, tmp_path, tmp_path / "missing.yaml"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, paths)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told["ray"]
    for path, result in zip(paths, told["results"], strict=True):
        assert result["code"] == 2, path.read_text()
        assert "Traceback" not in result["out"] + result["err"]
        assert result["err"].startswith(str(path))
