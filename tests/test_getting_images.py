"""Sets that are missing say how they are to be had, and are fetched where a program may."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trees

from trainables.data.layouts import Images, fetch_archive
from trainables.data.listing import DataError
from trainables.data.sets import load_set
from trainables.data.sources import SOURCES


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
    import hashlib
    import tarfile

    folder, url = server
    image = trees.save(tmp_path / "a.png", 7)
    with tarfile.open(folder / "LSUN.tar.gz", "w:gz") as archive:
        archive.add(image, "LSUN/test/a.png")
    md5 = hashlib.md5((folder / "LSUN.tar.gz").read_bytes()).hexdigest()
    Images("LSUN", f"{url}/LSUN.tar.gz?dl=1", md5).fetch(tmp_path / "data")  # as Dropbox has it
    assert trees.greys(load_set("lsun-crop", "test", 32, tmp_path / "data")) == [7]
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch_archive(f"{url}/LSUN.tar.gz", tmp_path / "other", md5="0" * 32)
    with pytest.raises(DataError, match=r"none.zip could not be downloaded"):
        fetch_archive(f"{url}/none.zip", tmp_path / "other")


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
