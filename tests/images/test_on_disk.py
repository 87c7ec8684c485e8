"""What is an image of a class, and what is not: hidden files, links, pipes, lists of all kinds, names of all kinds."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import trees
from trainables.data.sets import load_set
from trainables.images.encoded import Encoded
from trainables.images.layouts import Array, ClassFolders, FileList, Images, TorchVision
from trainables.images.listing import DataError
from trainables.images.on_disk import images_below
from trainables.images.parquet import Parquet


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A folder with two classes of three images."""
    for name in ("crow", "robin"):
        for number in range(3):
            trees.save(tmp_path / "birds" / name / f"{number}.png", 10 * number)
    return tmp_path / "birds"


def labels(folder: Path, classes: tuple[str, ...] = ()) -> list[int]:
    return ClassFolders({"test": folder.name}, 2, classes).read(folder.parent, "test").labels.tolist()


def test_hidden_files_and_folders_are_no_images_and_no_classes(birds: Path) -> None:
    trees.littered(birds)
    trees.littered(birds / "crow")
    assert labels(birds) == [0, 0, 0, 1, 1, 1]
    assert [path.name for path in images_below(birds)] == ["0.png", "1.png", "2.png"] * 2


@pytest.mark.parametrize("target", ["..", "../..", ".", "../robin", "/usr"])
def test_a_link_to_a_folder_in_a_class_is_named(birds: Path, target: str) -> None:
    (birds / "crow" / "more").symlink_to(target)
    with pytest.raises(
        DataError, match=r"birds/crow/more is a link to the folder /.*Move them here, or link the whole"
    ):
        labels(birds)


def test_a_link_to_an_image_of_another_class_is_named(birds: Path) -> None:
    (birds / "crow" / "3.png").symlink_to("../robin/0.png")
    with pytest.raises(DataError, match=r"crow/3.png is a link to .*robin/0.png, an image of the same set"):
        labels(birds)


def test_links_to_files_elsewhere_and_to_a_hidden_store_are_images(birds: Path) -> None:
    """As git-annex and DVC keep large files, and as subsets of large sets are made."""
    trees.save(birds.parent / "elsewhere" / "a.png")
    trees.save(birds / ".git" / "annex" / "objects" / "b.png")
    (birds / "crow" / "a.png").symlink_to("../../elsewhere/a.png")
    (birds / "crow" / "b.png").symlink_to("../.git/annex/objects/b.png")
    assert labels(birds) == [0] * 5 + [1] * 3


def test_a_class_may_be_a_link_to_a_folder_elsewhere_and_to_no_other(birds: Path) -> None:
    trees.save(birds.parent / "elsewhere" / "a.png")
    (birds / "wren").symlink_to("../elsewhere")
    assert labels(birds, ("robin", "wren")) == [0, 0, 0, 1]
    for target in ("robin", "..", "."):
        (birds / "wren").unlink()
        (birds / "wren").symlink_to(target)
        with pytest.raises(DataError, match=r"birds/wren is a link to /.*in two classes. Remove it"):
            labels(birds)
    (birds / "wren").unlink()
    for name in ("wren", "wren-again"):
        (birds / name).symlink_to("../elsewhere")
    with pytest.raises(DataError, match=r"wren-again and .*wren are links to the same folder"):
        labels(birds)


def test_the_folder_of_a_set_may_be_a_link(birds: Path) -> None:
    (birds.parent / "here").symlink_to(birds)
    assert labels(birds.parent / "here") == [0, 0, 0, 1, 1, 1]


def test_a_link_to_an_image_that_is_gone_is_told_with_what_is_not_there(tmp_path: Path) -> None:
    trees.save(tmp_path / "LSUN" / "a.png")
    (tmp_path / "LSUN" / "b.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"1 images are not there: .*b.png"):
        load_set("lsun-crop", "test", 32, tmp_path)


# What never ends, or never begins.


def special(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name}[kind])


SPECIAL = {"pipe": "is a pipe or a device", "device": "is a pipe or a device", "loop": "where nothing is to be read"}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(
    "layout",
    [
        Parquet({"test": "x"}),
        Parquet({"test": "x*"}, ("a",)),
        ClassFolders({"test": "x"}, 2),
        Images("x"),
        FileList({"test": "x"}, "."),
        Array("x"),
    ],
    ids=lambda layout: type(layout).__name__,
)
def test_a_pipe_a_device_or_a_loop_in_the_place_of_a_set_is_named(tmp_path: Path, kind: str, layout: Images) -> None:
    special(tmp_path / "x", kind)
    with pytest.raises(DataError, match=f"/x is a .*{SPECIAL[kind]}|/x {SPECIAL[kind]}"):
        layout.files(tmp_path, "test")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_among_images_is_named(tmp_path: Path, kind: str) -> None:
    trees.save(tmp_path / "LSUN" / "a.png")
    special(tmp_path / "LSUN" / "b.png", kind)
    with pytest.raises(DataError, match=r"LSUN/b.png is a pipe or a device"):
        load_set("lsun-crop", "test", 32, tmp_path)
    trees.lines(tmp_path / "imagenet21k" / "easy.txt", "../LSUN/a.png", "../LSUN/b.png")
    with pytest.raises(DataError, match=r"1 images are pipes or devices: .*LSUN/b.png"):
        load_set("imagenet21k-easy", "test", 32, tmp_path)


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_pipe_a_device_or_a_loop_among_what_torchvision_reads_is_named(tmp_path: Path, kind: str) -> None:
    trees.dtd(tmp_path)
    path = tmp_path / "dtd" / "dtd" / "labels" / "train1.txt"
    path.unlink()
    special(path, kind)
    with pytest.raises(DataError, match=f"train1.txt is a .*{SPECIAL[kind]}|train1.txt {SPECIAL[kind]}"):
        TorchVision("DTD", "dtd", {"all": ({"split": "train"},)}).read(tmp_path, "all")


def test_a_list_that_is_a_pipe_is_named(tmp_path: Path) -> None:
    trees.cub(tmp_path, classes=2)
    path = tmp_path / "CUB_200_2011" / "train_test_split.txt"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"train_test_split.txt is a pipe or a device"):
        load_set("cub", "train", 32, tmp_path)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "x/" * 3000])
def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path, name: str) -> None:
    for layout in (
        Images(name),
        FileList({"test": name}, "."),
        Parquet({"test": name}),
        ClassFolders({"test": name}, 2),
    ):
        assert layout.files(tmp_path, "test") == []


# Lists.


@pytest.mark.parametrize(
    "text",
    [
        "a.png 4\nb c.png -1\n",
        "a.png\t4\nb c.png\t-1\n",
        "a.png,4\nb c.png, -1\n",
        "\ufeffa.png 4\r\nb c.png -1\r\n\r\n",
        '"a.png",4\n"b c.png",-1',
    ],
    ids=["spaces", "tabs", "commas", "byte-order mark", "quotes"],
)
def test_a_list_is_read_as_it_is_usually_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode())
    listing = FileList({"test": "a.txt"}, "images").read(tmp_path, "test")
    assert listing.images == [tmp_path / "images" / "a.png", tmp_path / "images" / "b c.png"]
    assert listing.labels.tolist() == [4, -1]


def test_the_list_of_a_set_without_classes_may_say_that_its_images_are_unknown(tmp_path: Path) -> None:
    trees.save(tmp_path / "imagenet21k" / "a.png", 7)
    trees.lines(tmp_path / "imagenet21k" / "easy.txt", "a.png -1", "a.png 3", "a.png")
    data = load_set("imagenet21k-easy", "test", 32, tmp_path)
    assert (data.labels.tolist(), trees.greys(data)) == ([0, 0, 0], [7, 7, 7])


def test_a_line_without_its_class_is_named_and_is_not_class_0(tmp_path: Path) -> None:
    trees.lines(tmp_path / "a.txt", "a.png 4", "b.png")
    with pytest.raises(DataError, match=r"a.txt:2: expected the path of an image and its class id, not 'b.png'"):
        FileList({"test": "a.txt"}, ".").read(tmp_path, "test")


def test_a_list_in_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a.png 4\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"a.txt is no text in UTF-8: save it as such"):
        FileList({"test": "a.txt"}, ".").read(tmp_path, "test")


# Names.


@pytest.mark.parametrize(("written", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_the_same_in_composed_and_decomposed_unicode(tmp_path: Path, written: str, on_disk: str) -> None:
    there, said = (unicodedata.normalize(form, "b\u00fcrger/\u00e9t\u00e9.png") for form in (on_disk, written))
    trees.save(tmp_path / "sets" / there, 9)
    assert ClassFolders({"test": "sets"}, 1, (said.partition("/")[0],)).read(tmp_path, "test").labels.tolist() == [0]
    (tmp_path / "imagenet21k").symlink_to("sets")
    (tmp_path / "sets" / "easy.txt").write_text(f"{said}\n", encoding="utf-8")
    assert trees.greys(load_set("imagenet21k-easy", "test", 32, tmp_path)) == [9]


@pytest.mark.parametrize("size", [32, 256], ids=["decoded", "streamed"])
def test_names_that_are_not_utf_8_are_read(tmp_path: Path, size: int) -> None:
    """As an old archive from another system unpacks."""
    name = os.fsdecode("\u00e9t\u00e9.png".encode("latin-1"))
    trees.save(tmp_path / "imagenet21k" / name, 9)
    (tmp_path / "imagenet21k" / "easy.txt").write_bytes(os.fsencode(name) + b" -1\n")
    data = load_set("imagenet21k-easy", "test", size, tmp_path)
    if size == 32:
        assert trees.greys(data) == [9]
    else:
        assert isinstance(data.images, Encoded)
        out = np.empty((size, size, 3), dtype=np.uint8)
        data.images.decode(0, out)
        assert (out == 9).all()


def test_a_message_about_a_name_can_be_printed(tmp_path: Path) -> None:
    name = os.fsdecode("\u00e9\n\x1b[31m.png".encode("latin-1"))
    (tmp_path / "LSUN").mkdir()
    (tmp_path / "LSUN" / name).write_bytes(b"no image")
    with pytest.raises(DataError) as error:
        load_set("lsun-crop", "test", 32, tmp_path)
    assert str(error.value).encode().endswith(rb"LSUN/\udce9\n\x1b[31m.png")
