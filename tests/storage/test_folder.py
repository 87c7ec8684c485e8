"""A folder is the same to its user on this machine and in an s3-like store, which moto's server plays here."""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers.paths import ROOT
from trainables.storage.folder import Folder
from trainables.training.checkpoint import Checkpoints

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield f"s3://runs?endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    server.stop()


@pytest.fixture(params=["path", "file URI", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder that does not exist yet."""
    if request.param == "s3":
        bucket = Folder.at(request.getfixturevalue("store"))
        bucket.system.create_dir(bucket.path)
        return bucket / request.node.name / "a folder, #1"
    return Folder.at(tmp_path if request.param == "path" else tmp_path.as_uri()) / "a folder, #1"


def content(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


def test_a_file_comes_back_as_it_was(folder: Folder, tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_bytes(os.urandom(6_000_000))
    folder.put(original, "copy")
    assert folder.get("copy", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == original.read_bytes()
    assert folder.read("copy") == original.read_bytes()


def test_an_absent_folder_is_an_empty_one(folder: Folder, tmp_path: Path) -> None:
    assert folder.names() == []
    assert not folder.get("absent", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert folder.read("absent") is None
    folder.remove("absent")
    folder.clear()


def test_names_are_those_of_its_own_files(folder: Folder) -> None:
    for name in ("b", "a", ".hidden"):
        folder.write(content(name), name)
    (folder / "inner").write(content("deep"), "c")
    assert folder.names() == [".hidden", "a", "b"]
    assert (folder / "inner").names() == ["c"]
    folder.remove("a")
    assert folder.names() == [".hidden", "b"]


def test_the_last_writer_wins(folder: Folder) -> None:
    folder.write(content("first"), "name")
    folder.write(content("second"), "name")
    assert folder.read("name") == b"second"
    assert folder.names() == ["name"]


def test_a_file_may_be_called_something_else(folder: Folder) -> None:
    for name in ("before", "after"):
        folder.write(content(name), name)
    folder.rename("before", "after")
    assert folder.names() == ["after"]
    assert folder.read("after") == b"before"


def test_a_cleared_folder_is_gone_with_all_below_and_its_neighbour_stays(folder: Folder) -> None:
    folder.write(content("a"), "a")
    (folder / "inner").write(content("b"), "b")
    neighbour = Folder(folder.uri, folder.system, f"{folder.path}, too")
    neighbour.write(content("c"), "c")
    folder.clear()
    assert folder.names() == (folder / "inner").names() == []
    assert neighbour.names() == ["c"]


def test_its_uri_leads_to_it_again(folder: Folder) -> None:
    folder.write(content("here"), "a file")
    assert Folder.at(folder.uri).read("a file") == b"here"
    assert Folder.at(folder.uri) == folder
    assert (Folder.at(folder.uri) / "deeper").uri == (folder / "deeper").uri


def test_checkpoints_live_in_it(folder: Folder) -> None:
    checkpoints = Checkpoints(folder)
    for step in (1, 2, 3):
        assert checkpoints.save(step, {"step": torch.tensor(step)})
    assert len(folder.names()) == 2
    assert checkpoints.load() == {"step": torch.tensor(3)}
    folder.write(content("cut short"), folder.names()[-1])
    assert checkpoints.load() == {"step": torch.tensor(2)}
    checkpoints.clear()
    assert folder.names() == []


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder.at("here")
    monkeypatch.chdir("/")
    folder.write(content("a"), "a")
    assert (tmp_path / "here" / "a").read_text() == "a"


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        Folder.at(tmp_path).write(content("a"), "a")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


WRITE = """
import io, sys
from trainables.storage.folder import Folder
class Endless(io.RawIOBase):
    def read(self, size=-1):
        print("writing", flush=True)
        return b"x" * 1000
Folder.at(sys.argv[1]).write(Endless(), "name")
"""


def test_what_a_killed_process_was_writing_is_not_there(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    folder.write(content("before"), "name")
    with subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        writer.stdout.readline()
        writer.kill()
    assert len(list(tmp_path.iterdir())) == 2
    assert folder.names() == ["name"]
    assert folder.read("name") == b"before"


def _write_often(path: str, letter: str) -> None:
    for _ in range(50):
        Folder.at(path).write(content(letter * 100_000), "name")


def test_a_reader_sees_whole_files_while_others_write(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    folder.write(content("a" * 100_000), "name")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(str(tmp_path), letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert folder.read("name") in (b"a" * 100_000, b"b" * 100_000)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert folder.names() == ["name"]


def test_trouble_is_an_os_error(tmp_path: Path, store: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        (Folder.at(tmp_path) / "file").write(content("a"), "a")
    with pytest.raises(OSError, match="absent-bucket"):
        Folder.at(store.replace("//runs?", "//absent-bucket?").replace("&allow_bucket_creation=true", "")).write(
            content("a"), "a"
        )


def test_an_address_of_no_kind_of_storage_is_refused() -> None:
    with pytest.raises(ValueError, match="write a path or s3://"):
        Folder.at("ftp://host/folder")
