"""Sets that are missing say how they are to be had, and are fetched where a program may."""

import hashlib
import os
import re
import socket
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import medmnist
import pytest
import torchvision

from tests.helpers import trees
from trainables.data import sources
from trainables.data.sets import load_set
from trainables.data.sources import SOURCES
from trainables.images.archives import MedMNIST
from trainables.images.layouts import Fetched, Images, TorchVision, fetch_archive
from trainables.images.listing import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """A server of archives, on loopback."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


def test_an_archive_is_fetched_checked_and_unpacked(tmp_path: Path, server: Any) -> None:
    folder, url = server
    image = trees.save(tmp_path / "a.png", 7)
    with tarfile.open(folder / "LSUN.tar.gz", "w:gz") as archive:
        archive.add(image, "LSUN/test/a.png")
    md5 = hashlib.md5((folder / "LSUN.tar.gz").read_bytes()).hexdigest()
    Images("LSUN", f"{url}/LSUN.tar.gz?dl=1", md5).fetch(tmp_path / "data")  # as Dropbox has it
    assert trees.greys(load_set("lsun-crop", "test", 32, tmp_path / "data")) == [7]
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch_archive(f"{url}/LSUN.tar.gz", tmp_path / "other", "0" * 32, "LSUN.tar.gz")
    with pytest.raises(DataError, match=r"none.zip could not be downloaded"):
        fetch_archive(f"{url}/none.zip", tmp_path / "other", "0" * 32, "none.zip")


def test_of_an_archive_that_cannot_be_unpacked_to_its_end_nothing_is_left_to_be_read(
    tmp_path: Path, server: Any
) -> None:
    folder, url = server
    with tarfile.open(folder / "LSUN.tar", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.add(trees.save(tmp_path / name, 7), f"LSUN/test/{name}")
        second = archive.getmembers()[1].offset
    damaged = (folder / "LSUN.tar").read_bytes()
    (folder / "LSUN.tar").write_bytes(damaged[:second] + b"x" * 512)
    md5 = hashlib.md5((folder / "LSUN.tar").read_bytes()).hexdigest()
    with pytest.raises(DataError, match="could not be downloaded"):
        Images("LSUN", f"{url}/LSUN.tar", md5).fetch(tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["LSUN.tar"]


def test_what_an_interrupted_unpacking_left_is_completed(tmp_path: Path, server: Any) -> None:
    folder, url = server
    trees.save(tmp_path / "data" / "LSUN" / "test" / "a.png", 1)
    with tarfile.open(folder / "LSUN.tar", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.add(trees.save(tmp_path / name, 7), f"LSUN/test/{name}")
    Images("LSUN", f"{url}/LSUN.tar", hashlib.md5((folder / "LSUN.tar").read_bytes()).hexdigest()).fetch(
        tmp_path / "data"
    )
    assert trees.greys(load_set("lsun-crop", "test", 32, tmp_path / "data")) == [7, 7]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["LSUN"]


def test_a_server_that_falls_silent_is_waited_for_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/cifar"
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", address)
        with pytest.raises(DataError, match=r"could not be downloaded: .*timed out"):
            SOURCES["cifar10"].fetch(tmp_path / "data")
    assert socket.getdefaulttimeout() is None


def test_every_download_has_a_sum_that_is_checked() -> None:
    for name, source in SOURCES.items():
        if source.fetcher is None:
            continue
        (layout,) = (x for x in source.layouts if isinstance(x, Fetched) and x.url)
        if isinstance(layout, TorchVision):
            assert layout.name in (
                "MNIST",
                "FashionMNIST",
                "EMNIST",
                "CIFAR10",
                "CIFAR100",
                "SVHN",
                "DTD",
                "Flowers102",
            )
        elif isinstance(layout, MedMNIST):
            assert re.fullmatch("[0-9a-f]{32}", medmnist.INFO[layout.flag]["MD5"])
        else:
            assert re.fullmatch("[0-9a-f]{32}", layout.md5), name


def test_what_torchvision_downloads_for_us_it_checks(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own addresses replaced by one on loopback, whose archive is another one."""
    folder, url = server
    (folder / "other").write_bytes(b"another archive")
    for name in ("CIFAR10", "CIFAR100", "EMNIST"):
        monkeypatch.setattr(getattr(torchvision.datasets, name), "url", f"{url}/other")
    monkeypatch.setattr(torchvision.datasets.DTD, "_URL", f"{url}/other")
    for name in ("cifar10", "cifar100", "emnist-letters", "textures"):
        with pytest.raises(DataError, match="could not be downloaded: File not found or corrupted"):
            SOURCES[name].fetch(tmp_path / "data")


def test_a_pipe_in_the_place_of_an_archive_is_not_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"a.zip is a pipe or a device"):
        fetch_archive("http://127.0.0.1:9/a.zip", tmp_path, "0" * 32, "a.zip")


def test_a_set_that_is_missing_is_fetched_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(layout: Images, root: Path) -> None:
        trees.save(root / layout.folder / "a.png", 3)

    monkeypatch.setattr(Images, "fetch", fetch)
    assert trees.greys(load_set("isun", "test", 32, tmp_path, download=True)) == [3]
    with pytest.raises(DataError, match="not to be fetched by a program"):
        load_set("lsun-fix", "test", 32, tmp_path, download=True)


def test_every_set_says_how_it_is_to_be_had(tmp_path: Path) -> None:
    for name, source in SOURCES.items():
        if name in ("digits", "cut-digits", "photos"):
            continue
        part = source.part("test")
        with pytest.raises(DataError, match=f"{name} \\({part}\\) is not under .*Looked for .*--data-root"):
            load_set(name, part, 32, tmp_path)
