"""python -m platform.protocols: what it lists, shows and fetches."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from platform.protocols import main
from platform.terminal.contact_sheet import _names
from tests.helpers import trees
from tests.helpers.paths import SHARED
from trainables.data import composed
from trainables.data.composed import COCO_CLASSES
from trainables.images.layouts import Images, TorchVision
from trainables.images.listing import DataError
from trainables.protocols.protocols import PROTOCOLS, known_classes, unknown_classes


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
    assert "4 of 4 here" in line
    assert line.rstrip(" │").endswith("200 + 200")  # of 5,994 + 5,794


def table(protocol: str, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """By what a set is for: how many images are here, and from where or what is wrong."""
    assert main([protocol]) == 0
    found: dict[str, tuple[str, str]] = {}
    last = ""
    for line in capsys.readouterr().out.splitlines():
        if not line.startswith("│"):
            continue
        _, purpose, here, place = (cell.strip() for cell in line.strip("│").split("│"))
        last = purpose or last
        before = found.get(last, ("", ""))
        found[last] = (before[0] + here, f"{before[1]} {place}".strip())
    return found


def test_images_are_counted_beside_those_that_were_published(capsys: pytest.CaptureFixture[str]) -> None:
    """A shard of two, as an interrupted download leaves it."""
    trees.parquet(Path("data/cifar10/train-00000-of-00002.parquet"), {"label": [n % 10 for n in range(600)]})
    found = table("cifar10", capsys)
    assert found["training"] == ("600 of 50,000", "cifar10/train-00000-of-00002.parquet")
    assert found["known test, cifar10"][0] == "0 of 10,000"
    assert found["cifar100"][1].startswith("pass --download to fetch them. Looked for cifar100/train*.parquet")


def test_a_whole_file_beside_its_shards_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for name, rows in (("all", 600), ("all-00000-of-00002", 300), ("all-00001-of-00002", 300)):
        trees.parquet(Path(f"data/imagenet1k_samples/{name}.parquet"), {"label": [0] * rows})
    here, said = table("cifar10", capsys)["imagenet-samples"]
    assert here == "1,200 of 1,000"
    assert "imagenet1k_samples/all-00000-of-00002.parquet, " in said
    assert "imagenet1k_samples/all.parquet has 1,200 images" in said
    assert "was published with 1,000: take out what is there twice" in said


def test_classes_that_have_no_image_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    trees.coco(Path("data"), ["dog", "cat"])
    found = table("coco", capsys)
    assert found["training"][0] == "2"
    assert "no image of 11 of 18 classes: airplane, bicycle, bird, boat, bottle, bus and 5 more" in found["training"][1]
    assert "no image of 16 of 18" in found["known test, coco, coco-fg-bg, coco-fg"][1]  # the unknown ones too


def test_what_a_list_names_and_is_not_there_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    trees.cub(Path("data"))
    known, unknown = known_classes("cub", "ssb", 0)[0], unknown_classes("cub", "ssb", 0, "cub-easy")
    assert unknown is not None
    for label in (known, unknown[0]):
        next(Path("data/CUB_200_2011/images").glob(f"{label + 1:03}.*/*_0.jpg")).unlink()
    here, said = table("cub", capsys)["training"]
    assert here == "198 of 5,994"
    assert said == f"CUB_200_2011; no image of 1 of 200 classes: {known}"  # an unknown class does not train


@pytest.mark.parametrize("missing", ["train2017/photo.jpg", "val2017/photo.jpg"])
def test_coco_without_its_photographs_is_not_here(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    trees.coco(Path("data"), list(COCO_CLASSES))
    (Path("data/coco") / missing).unlink()
    part = "training" if "train" in missing else "known test, coco, coco-fg-bg, coco-fg"
    assert table("coco", capsys)[part] == ("?", "has no image")


def test_waterbirds_are_counted_and_not_pasted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composed, "SPURIOUS", 2)
    trees.cub(Path("data"), classes=30)
    trees.places(Path("data"), each=40)
    for path in Path("data").rglob("*.jpg"):
        path.write_bytes(b"not an image")
    (Path("data/CUB_200_2011/segmentations/003.Finch_2/bird_2_0.png")).unlink()
    found = table("waterbirds-0.9", capsys)
    assert found["training"][0] == "29 of 5,994"
    assert found["known test"][0] == "30 of 5,794"


OWN = "train: birds/train\ntest: birds/test\nimage_size: 32\nknown: [robin, wren]\nunknown: [crow]\n"


def test_a_class_that_a_file_of_ones_own_spells_otherwise_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for part, names in (("train", ("robin", "wren")), ("test", ("robin", "wren", "raven"))):
        for name in names:
            trees.save(Path("data/birds") / part / name / "a.png")
    Path("birds.yaml").write_text(OWN)
    found = table("birds.yaml", capsys)
    assert found["training"] == ("2", "birds/train")  # which needs no crow
    assert found["known test, unknown"][0] == "?"
    assert "birds/test has no folder of class crow; it has raven, robin, wren" in found["known test, unknown"][1]


def test_a_list_of_ones_own_lacks_a_class_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        trees.save(Path(f"data/{number}.png"))
    trees.lines(Path("data/train.txt"), "0.png 7", "1.png 3")
    trees.lines(Path("data/test.txt"), "2.png 7", "3.png 3", "gone.png -1")
    text = "train: train.txt\ntest: test.txt\nimage_size: 32\nknown: [7, 3]\nunknown: [-1]\n"
    Path("birds.yaml").write_text(text)
    found = table("birds.yaml", capsys)
    assert found["training"] == ("2", "train.txt")
    assert found["known test, unknown"] == ("2", "test.txt; no image of 1 of 3 classes: -1")


def test_one_protocol_shows_every_set_and_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny-imagenet"]) == 0
    said = capsys.readouterr().out
    assert "20 / 180" in said
    assert "imagenet21k-easy" in said
    assert "release winter21 of" in said


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
