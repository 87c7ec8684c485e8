"""Every layout in which a set is published is read with its published ids."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers import trees
from trainables.data import composed
from trainables.data.composed import COCO_CLASSES
from trainables.data.sets import load_set
from trainables.data.sources import SOURCES
from trainables.images.layouts import FileList
from trainables.images.listing import DataError, Listing


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSR_CACHE", str(tmp_path / "cache"))


def test_tiny_imagenet_as_its_archive_has_it(tmp_path: Path) -> None:
    trees.tiny_imagenet(tmp_path)
    for part in ("train", "test"):
        data = load_set("tiny-imagenet", part, 64, tmp_path)
        assert data.labels.tolist() == list(range(200))
        assert trees.greys(data) == pytest.approx(list(range(200)), abs=2)


def test_a_class_folder_too_few_is_refused_because_ids_would_shift(tmp_path: Path) -> None:
    trees.tiny_imagenet(tmp_path)
    gone = tmp_path / "tiny-imagenet-200" / "train" / "n00000005"
    for file in (gone / "images").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"n00000005 has no image"):
        load_set("tiny-imagenet", "train", 64, tmp_path)
    (gone / "images").rmdir()
    gone.rmdir()
    with pytest.raises(DataError, match="199 folders of classes, and the set has 200"):
        load_set("tiny-imagenet", "train", 64, tmp_path)


def test_cub_is_divided_by_its_list(tmp_path: Path) -> None:
    trees.cub(tmp_path)
    for part, number in (("train", 0), ("test", 1)):
        listing = SOURCES["cub"].layouts[0].read(tmp_path, part)
        assert listing.labels.tolist() == list(range(200))
        assert all(str(path).endswith(f"_{number}.jpg") for path in listing.images)


def test_stanford_cars_are_read_by_torchvision(tmp_path: Path) -> None:
    trees.stanford_cars(tmp_path)
    for part in ("train", "test"):
        assert load_set("stanford-cars", part, 32, tmp_path).labels.tolist() == list(range(196))


def test_aircraft_variants_are_numbered_by_their_names(tmp_path: Path) -> None:
    trees.aircraft(tmp_path)
    data = load_set("aircraft", "test", 32, tmp_path)
    assert data.labels.tolist() == list(range(100))
    assert trees.greys(data) == pytest.approx(list(range(100)), abs=2)


def test_imagenet30_is_in_dictionary_order(tmp_path: Path) -> None:
    trees.imagenet30(tmp_path)
    for part in ("train", "test"):
        assert load_set("imagenet30", part, 32, tmp_path).labels.tolist() == list(range(30))


def test_svhn_is_read_from_its_mat_files_and_its_ten_is_a_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.svhn(tmp_path, monkeypatch)
    data = load_set("svhn", "test", 32, tmp_path)
    assert data.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert trees.greys(data) == [20 * n for n in range(10)]
    (tmp_path / "test_32x32.mat").write_bytes(b"cut short")
    with pytest.raises(DataError, match=r"torchvision's SVHN .* cannot be read"):
        load_set("svhn", "test", 32, tmp_path)


def test_flowers_and_textures_are_one_part_of_all_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.flowers(tmp_path, monkeypatch)
    trees.dtd(tmp_path)
    assert load_set("flower102", "train", 32, tmp_path).labels.tolist() == [0, 1, 2, 3, 4, 101]
    textures = load_set("textures", "test", 32, tmp_path)
    assert np.bincount(textures.labels).tolist() == [3] * 47


def test_medmnist_is_read_by_its_first_label_and_chest_x_rays_without(tmp_path: Path) -> None:
    trees.medmnist(tmp_path, "octmnist", 4)
    trees.medmnist(tmp_path, "chestmnist", 2, columns=14)
    assert load_set("octmnist", "train", 32, tmp_path).labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert set(load_set("chestmnist", "test", 32, tmp_path).labels) == {0}
    (tmp_path / "octmnist").mkdir()
    (tmp_path / "octmnist.npz").rename(tmp_path / "octmnist" / "octmnist.npz")  # a folder of its own will do
    assert len(load_set("octmnist", "test", 32, tmp_path).labels) == 8


def test_emnist_letters_stand_upright_and_begin_with_0(tmp_path: Path) -> None:
    folder = tmp_path / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.zeros((2, 28, 28), dtype=np.uint8)
    pixels[:, :, 3] = 200  # a column: the files have it as a row
    for part in ("train", "test"):
        for kind, array in (("images-idx3", pixels.transpose(0, 2, 1)), ("labels-idx1", np.array([1, 26], np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / f"emnist-letters-{part}-{kind}-ubyte").write_bytes(header + np.ascontiguousarray(array).tobytes())
    data = load_set("emnist-letters", "train", 28, tmp_path)
    assert isinstance(data.images, np.ndarray)
    assert data.labels.tolist() == [0, 25]
    assert np.array_equal(data.images[..., 0], pixels)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("lsun-crop", "LSUN/test"),
        ("lsun-resize", "LSUN_resize/LSUN_resize"),
        ("lsun-fix", "LSUN_fix/a"),
        ("imagenet-crop", "Imagenet/test"),
        ("imagenet-resize", "Imagenet_resize/Imagenet_resize"),
        ("imagenet-fix", "Imagenet_fix/a"),
        ("isun", "iSUN/iSUN_patches"),
        ("inaturalist", "iNaturalist/images"),
        ("places", "Places/images"),
    ],
)
def test_sets_without_classes_are_all_images_below_a_folder(tmp_path: Path, name: str, folder: str) -> None:
    for number in range(3):
        trees.save(tmp_path / folder / f"{number}.png", 10 * number)
    (tmp_path / folder / "note.txt").write_text("no image")
    assert trees.greys(load_set(name, "test", 32, tmp_path)) == [0, 10, 20]


def test_a_list_of_files_says_image_and_class(tmp_path: Path) -> None:
    trees.save(tmp_path / "imagenet21k" / "n1" / "n1_3.JPEG", 8)
    trees.save(tmp_path / "imagenet21k" / "n2" / "with space.JPEG", 16)
    trees.lines(tmp_path / "imagenet21k" / "easy.txt", "n1/n1_3.JPEG", "n2/with space.JPEG")
    assert len(load_set("imagenet21k-easy", "test", 32, tmp_path).labels) == 2
    trees.lines(tmp_path / "some.txt", "n1/n1_3.JPEG 4", "n2/with space.JPEG 11")
    assert FileList({"test": "some.txt"}, "imagenet21k").read(tmp_path, "test").labels.tolist() == [4, 11]


def test_300_thousand_tiny_images_are_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "300K_random_images.npy", np.full((5, 32, 32, 3), 9, dtype=np.uint8))
    assert trees.greys(load_set("tinyimages", "train", 32, tmp_path)) == [9] * 5
    np.save(tmp_path / "300K_random_images.npy", np.full((5, 32, 32), 9, dtype=np.uint8))
    with pytest.raises(DataError, match=r"holds uint8 of shape \(5, 32, 32\)"):
        load_set("tinyimages", "train", 32, tmp_path)


def test_hugging_face_files_have_shards_and_images_in_a_struct(tmp_path: Path) -> None:
    folder = tmp_path / "cifar100"
    folder.mkdir()
    for shard in range(2):
        images = [{"bytes": trees.encoded(10 * shard + i), "path": None} for i in range(3)]
        table = pa.table({"img": images, "fine_label": [3 * shard + i for i in range(3)]})
        pq.write_table(table, folder / f"test-0000{shard}-of-00002.parquet")
    data = load_set("cifar100", "test", 32, tmp_path)
    assert data.labels.tolist() == list(range(6))
    assert trees.greys(data) == [0, 1, 2, 10, 11, 12]


def test_coco_objects_have_a_margin_and_a_mask_and_crowds_are_left_out(tmp_path: Path) -> None:
    trees.coco(tmp_path, list(reversed(COCO_CLASSES)))
    data = load_set("coco", "train", 64, tmp_path)
    assert isinstance(data.images, np.ndarray)
    assert sorted(data.labels.tolist()) == list(range(18))
    assert data.images.shape == (18, 64, 64, 4)
    # The crop is 260 x 240 around the box; the object is the left half of the box.
    share = (data.images[0, ..., 3] > 127).mean()
    assert share == pytest.approx(30 * 40 / 240**2, rel=0.25)


def test_at_most_so_many_objects_of_a_class_are_cut(tmp_path: Path) -> None:
    trees.coco(tmp_path, ["dog"] * 5)
    assert len(composed.Coco(most=3).read(tmp_path, "test").labels) == 3


def test_waterbirds_stand_on_their_own_kind_of_landscape_as_often_as_r_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composed, "SPURIOUS", 2)
    trees.cub(tmp_path, classes=60, each=4)
    trees.places(tmp_path, each=130)
    data = load_set("waterbirds-0.9", "train", 32, tmp_path)
    assert isinstance(data.images, np.ndarray)
    assert data.labels.tolist() == [1, 1, *[0] * 58]
    assert (abs(data.images[:, 16, 4, 0].astype(int) - 200) < 8).all()  # the bird itself
    on_water = data.images[:, 16, 28, 0] > 75
    assert (on_water == (data.labels == 1)).mean() == pytest.approx(0.9, abs=0.1)
    test = load_set("waterbirds-0.9", "test", 32, tmp_path)
    assert isinstance(test.images, np.ndarray)
    assert ((test.images[:, 16, 28, 0] > 75) == (test.labels == 1)).mean() == pytest.approx(0.5, abs=0.12)


def test_landscapes_that_are_unknown_are_behind_no_bird(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composed, "SPURIOUS", 2)
    trees.places(tmp_path, each=5)
    unknown = SOURCES["landscapes"].layouts[0].read(tmp_path, "all")
    assert len(unknown.images) == 8
    used = {path for kind in (composed.LAND, composed.WATER) for path in composed._backgrounds(tmp_path, kind)}
    assert not used & set(unknown.images)


def test_birds_without_landscapes_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composed, "SPURIOUS", 0)
    trees.cub(tmp_path, classes=20)
    trees.places(tmp_path, each=2)
    with pytest.raises(DataError, match="too few landscapes behind 20 birds"):
        load_set("waterbirds-0.5", "train", 32, tmp_path)


def test_listing_names_rows_and_files() -> None:
    both = [Listing([Path("a.png")], np.zeros(1), np.array([4]), "x"), Listing([b""], np.zeros(1), np.array([4]), "x")]
    assert [listing.name(0) for listing in both] == ["a.png", "row 4"]


def test_a_large_jpeg_is_read_at_a_part_of_its_size_and_looks_alike(tmp_path: Path) -> None:
    from trainables.images.encoded import decode, to_square

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((1600, 1200), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    with Image.open(buffer) as whole:
        whole.load()  # before it is asked for a smaller one
        exact = to_square(whole, 64)
    assert abs(decode(buffer.getvalue(), 64).astype(int) - exact).mean() < 2
