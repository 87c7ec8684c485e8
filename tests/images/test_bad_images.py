"""What is wrong with images is said before anything trains, with the name of the file."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image

from tests.helpers import trees
from trainables.data.kept import keep
from trainables.data.sets import load_set
from trainables.images.encoded import decode, is_turned
from trainables.images.layouts import ClassFolders, Images
from trainables.images.listing import DataError, Listing
from trainables.images.parquet import Parquet


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


def folder_of(root: Path, *files: tuple[str, Any]) -> Path:
    for name, content in files:
        path = root / "LSUN" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path)
    return root


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no image at all", "1 images cannot be decoded: "),
        (trees.encoded(1)[:60], "1 images cannot be decoded: "),
        (Image.new("RGBA", (32, 32)), "1 images have transparent pixels: draw them on a background: "),
        (Image.new("I;16", (32, 32)), "1 images have mode I;16, not RGB: convert them: "),
    ],
)
def test_an_image_that_cannot_be_used_is_named(tmp_path: Path, content: Any, said: str) -> None:
    folder_of(tmp_path, ("a.png", trees.picture(1)), ("b.png", content))
    with pytest.raises(DataError, match=f"{said}.*LSUN/b.png") as error:
        load_set("lsun-crop", "test", 32, tmp_path)
    assert "a.png" not in str(error.value)


def png(image: Image.Image, **saved: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **saved)
    return buffer.getvalue()


def drawn(mode: str) -> Image.Image:
    """A dark square on a light ground; of a palette, colour 1 on colour 0."""
    image = Image.new(mode, (32, 32))
    if mode == "P":
        image.putpalette([250, 0, 250, 10, 20, 30])
        image.paste(1, (8, 8, 24, 24))
    else:
        image.paste((250, 250, 250) if mode == "RGB" else 250, (0, 0, 32, 32))
        image.paste((10, 10, 10) if mode == "RGB" else 10, (8, 8, 24, 24))
    return image


@pytest.mark.parametrize(
    ("mode", "colour"), [("P", 0), ("P", bytes([0, 255])), ("P", bytes([128])), ("RGB", (250, 250, 250)), ("L", 250)]
)
def test_transparency_by_a_colour_is_transparency(tmp_path: Path, mode: str, colour: Any) -> None:
    folder_of(tmp_path, ("a.png", trees.picture(1)), ("b.png", png(drawn(mode), transparency=colour)))
    with pytest.raises(DataError, match=r"1 images have transparent pixels: draw them on a background: .*LSUN/b.png"):
        load_set("lsun-crop", "test", 32, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        png(drawn("RGB").convert("RGBA")),
        png(drawn("L").convert("LA")),
        png(drawn("RGB"), transparency=(1, 2, 3)),
        png(drawn("L"), transparency=7),
        png(drawn("P"), transparency=bytes([255, 255])),
    ],
    ids=["RGBA", "LA", "RGB", "L", "P"],
)
def test_an_image_whose_pixels_are_all_opaque_is_read(tmp_path: Path, content: bytes) -> None:
    data = load_set("lsun-crop", "test", 32, folder_of(tmp_path, ("a.png", content)))
    assert isinstance(data.images, np.ndarray)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(data.images[0], image.convert("RGB"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_its_exif_data_say(orientation: int, form: str) -> None:
    """What a camera stores of an upright picture, by the definition of the tag: where its row 0 and column 0 are."""
    upright = np.zeros((64, 64, 3), dtype=np.uint8)
    upright[:32, :, 0], upright[:, :32, 1] = 240, 240  # red above, green on the left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(buffer, form, exif=exif, lossless=True, quality=100)
    seen = decode(buffer.getvalue(), 64)
    assert [seen[y, x, :2].tolist() for y, x in ((8, 8), (8, 56), (56, 8), (56, 56))] == [
        pytest.approx(colours, abs=12) for colours in ([240, 240], [240, 0], [0, 240], [0, 0])
    ]
    assert is_turned(buffer.getvalue()) == (orientation > 1)


@pytest.mark.parametrize("turned", ["image", "mask"])
@pytest.mark.parametrize("size", [32, 256])
def test_a_turned_image_with_a_mask_of_its_own_is_refused(turned: str, size: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    columns = {}
    for name in ("image", "mask"):
        buffer = io.BytesIO()
        trees.picture(8, (300, 260)).save(buffer, "JPEG", **({"exif": exif} if name == turned else {}))
        columns[name] = [buffer.getvalue()]
    listing = Listing(columns["image"], np.zeros(1, dtype=np.int64), np.arange(1), "mine", masks=columns["mask"])
    with pytest.raises(DataError, match="mine: 1 images are turned by EXIF data, they or their masks"):
        keep(tmp_path / "kept", listing, size, 0, "mine", None)


def test_damaged_exif_data_say_nothing(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    trees.picture(8).save(buffer, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    data = load_set("lsun-crop", "test", 32, folder_of(tmp_path, ("a.jpg", buffer.getvalue())))
    assert trees.greys(data) == [8]


def test_a_turned_image_that_stays_encoded_is_another_image_than_its_bytes_were(tmp_path: Path) -> None:
    """Its fingerprint is of its bytes, and was so when it was read as it lies."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    fingerprints = []
    for name, saved in (("turned", {"exif": exif}), ("upright", {})):
        (tmp_path / name / "LSUN").mkdir(parents=True)
        trees.picture(8, (300, 260)).save(tmp_path / name / "LSUN" / "a.jpg", **saved)
        content = (tmp_path / name / "LSUN" / "a.jpg").read_bytes()
        bytes_alone = hashlib.sha256(content + np.zeros(1, dtype=np.int64).tobytes()).hexdigest()[:16]
        fingerprints.append(load_set("lsun-crop", "test", 256, tmp_path / name).fingerprint == bytes_alone)
    assert fingerprints == [False, True]


def test_all_broken_images_are_told_at_once_by_what_is_wrong_with_them(tmp_path: Path) -> None:
    files = [(f"{n:02}.png", b"broken" if n % 2 else Image.new("RGBA", (8, 8))) for n in range(60)]
    with pytest.raises(
        DataError, match=r"30 images have transparent pixels.*, …; 30 images cannot be decoded: .*/01.png"
    ):
        load_set("lsun-crop", "test", 32, folder_of(tmp_path, *files))


def test_an_image_of_another_size_than_published_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar100").mkdir()
    images = [trees.encoded(0), trees.encoded(0, (33, 32))]
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / "cifar100" / "test.parquet")
    with pytest.raises(DataError, match="1 images have 33 x 32 px, not 32 x 32: row 1"):
        load_set("cifar100", "test", 32, tmp_path)


def test_a_label_out_of_range_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar100").mkdir()
    table = pa.table({"image": [trees.encoded(0)] * 3, "label": [0, 100, 1]})
    pq.write_table(table, tmp_path / "cifar100" / "test.parquet")
    with pytest.raises(DataError, match=r"labels must be in 0..99; 1 are not, the first of row 1, which is 100"):
        load_set("cifar100", "test", 32, tmp_path)


def test_an_empty_cell_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar100").mkdir()
    table = pa.table({"image": [trees.encoded(0), None], "label": [0, 1]})
    pq.write_table(table, tmp_path / "cifar100" / "test.parquet")
    with pytest.raises(DataError, match="column image is empty in 1 rows, the first is 1"):
        load_set("cifar100", "test", 32, tmp_path)


def test_files_of_a_list_that_are_not_there_are_named(tmp_path: Path) -> None:
    trees.save(tmp_path / "imagenet21k" / "a.JPEG")
    trees.lines(tmp_path / "imagenet21k" / "hard.txt", "a.JPEG", "b.JPEG")
    with pytest.raises(DataError, match=r"1 images are not there: .*b.JPEG"):
        load_set("imagenet21k-hard", "test", 32, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, ("a.png", trees.picture(1)))
    (tmp_path / "LSUN").chmod(0)
    with pytest.raises(DataError, match="LSUN cannot be read: Permission denied"):
        load_set("lsun-crop", "test", 32, tmp_path)


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, ("a.png", trees.picture(1)))

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match="LSUN cannot be read: Permission denied"):
        Images("LSUN").read(tmp_path, "all")


def test_damaged_archives_of_arrays_are_named(tmp_path: Path) -> None:
    (tmp_path / "octmnist.npz").write_bytes(b"PK cut short")
    with pytest.raises(DataError, match=r"octmnist.npz is not MedMNIST's octmnist"):
        load_set("octmnist", "train", 32, tmp_path)


def test_an_annotation_file_that_is_none_is_named(tmp_path: Path) -> None:
    trees.coco(tmp_path, ["dog"])
    (tmp_path / "coco" / "annotations" / "instances_val2017.json").write_text("{}")
    with pytest.raises(DataError, match=r"instances_val2017.json is not a file of COCO's instances"):
        load_set("coco", "test", 32, tmp_path)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ({"counts": [1, 2], "size": [300, 400]}, "has its mask as run lengths"),
        ([], "has no polygon in its picture"),
        ([[]], "has no polygon in its picture"),
        ([[150, 120, 180, 120]], "has no polygon in its picture"),
        ([[900, 900, 950, 900, 950, 950]], "has no polygon in its picture"),
    ],
)
def test_an_object_of_coco_without_a_mask_is_named(tmp_path: Path, segmentation: Any, said: str) -> None:
    trees.coco(tmp_path, ["dog"])
    path = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = segmentation
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"annotation 100 of .*photo.jpg {said}"):
        load_set("coco", "test", 32, tmp_path)


def test_a_list_with_a_line_that_is_cut_short_is_named(tmp_path: Path) -> None:
    trees.cub(tmp_path, classes=4)
    trees.lines(tmp_path / "CUB_200_2011" / "images.txt", "1 a/b.jpg", "2")
    with pytest.raises(DataError, match=r"CUB_200_2011: not as published \(IndexError.* Expected CUB_200_2011, the"):
        load_set("cub", "train", 32, tmp_path)


def test_classes_that_a_parquet_file_does_not_have_are_named(tmp_path: Path) -> None:
    info = {"info": '{"classes": ["cat", "dog"]}'}
    table = pa.table({"image": [trees.encoded(0)], "label": [0]}).replace_schema_metadata(info)
    pq.write_table(table, tmp_path / "some.parquet")
    with pytest.raises(DataError, match="has no class horse; it has cat, dog"):
        Parquet({"test": "some.parquet"}, ("cat", "horse")).read(tmp_path, "test")
    with pytest.raises(DataError, match="has no column split; it has image, label"):
        Parquet({"test": "some.parquet"}, only={"test": ("split", "val")}).read(tmp_path, "test")


def test_folders_of_named_classes_may_stand_among_others(tmp_path: Path) -> None:
    for name in ("crow", "robin", "wren"):
        trees.save(tmp_path / "birds" / name / "a.png")
    layout = ClassFolders({"test": "birds"}, 2, ("wren", "crow"))
    assert layout.read(tmp_path, "test").labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"has no folder of class finch; it has crow, robin, wren"):
        ClassFolders({"test": "birds"}, 1, ("finch",)).read(tmp_path, "test")
