"""python -m platform.protocols: what it lists, shows and fetches."""

from __future__ import annotations

from pathlib import Path

import pytest
import trees
from PIL import Image

from platform.contact_sheet import _names
from platform.protocols import main
from trainables.data.layouts import Images, TorchVision
from trainables.data.listing import DataError
from trainables.data.protocols import PROTOCOLS

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_every_protocol_is_listed_with_classes_images_and_families(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    for name in PROTOCOLS:
        assert f"│ {name} " in said
    line = next(line for line in said.splitlines() if line.startswith("│ cifar10 "))
    assert "6 / 4, 10 / other sets" in line
    assert "50,000 + 10,000" in line
    assert "agc: 5 splits, 4 partitions" in said
    assert "--download fetches mnist, " in said
    assert "lsun-fix: LSUN_fix is not to be fetched by a program" in said


def test_what_is_there_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.cub(tmp_path / "data")
    main(["--data-root", "data"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ cub "))
    assert "3 of 3 here" in line
    assert line.rstrip(" │").endswith("yes")


def test_one_protocol_shows_every_set_and_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny-imagenet"]) == 0
    said = capsys.readouterr().out
    assert "20 / 180" in said
    assert "imagenet21k-easy" in said
    assert "write one, an image a line" in said


def test_a_contact_sheet_of_known_and_unknown_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digits", "--split", "2", "--show", "sheets/digits.png"]) == 0
    with Image.open(tmp_path / "sheets" / "digits.png") as sheet:
        assert sheet.width > 800
        assert len(set(sheet.convert("L").resize((60, 60)).tobytes())) > 20
    assert "wrote sheets/digits.png" in capsys.readouterr().out


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="the real CIFAR-10 is not on this machine")
def test_a_contact_sheet_has_the_class_names_that_files_hold() -> None:
    names = _names("cifar10", SHARED)
    assert (names[0], names[8], len(names)) == ("airplane", "ship", 10)


def test_what_may_be_fetched_is_fetched_and_the_rest_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[str] = []

    def archive(layout: Images, root: Path) -> None:
        fetched.append(layout.folder)

    def torchvisions(layout: TorchVision, root: Path) -> None:
        if layout.name == "CIFAR100":
            raise DataError("no network")
        fetched.append(layout.name)

    monkeypatch.setattr(Images, "fetch", archive)
    monkeypatch.setattr(TorchVision, "fetch", torchvisions)
    assert main(["cifar10", "--download"]) == 1  # CIFAR-100 was not to be had
    assert {"CIFAR10", "SVHN", "DTD", "LSUN", "Imagenet_resize", "iSUN", "Places", "iNaturalist"} <= set(fetched)
    printed = capsys.readouterr()
    assert "lsun-fix: LSUN_fix is not to be fetched by a program" in printed.out
    assert "no network" in printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cifar-10"], "did you mean 'cifar10'?"),
        (["--show", "a.png"], "--show is of one protocol: name it"),
        (["digits", "--show", "a.png", "--split-family", "acg"], "no split family 'acg' (did you mean 'agc'?)"),
        (["digits", "--show", "a.png", "--split", "9"], "split 9 is not in 0..4"),
        (["svhn", "--show", "a.png"], "no unknown set of svhn is under data"),
        (["none.yaml"], "there is no file none.yaml"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
