"""Image sets in miniature, each in the layout in which it is published."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torchvision
from PIL import Image

from trainables.data.kept import ImageSet


def greys(data: ImageSet) -> list[int]:
    """The middle of each image: JPEG keeps an even one."""
    assert isinstance(data.images, np.ndarray)
    size = data.images.shape[1]
    return [int(v) for v in data.images[:, size // 2, size // 2, 0]]


def picture(value: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Image.Image:
    """An even image: what it was is seen of what is read."""
    return Image.new(mode, size, (value,) * len(Image.new(mode, (1, 1)).getbands()) if mode != "L" else value)


def save(
    path: Path, value: int = 0, size: tuple[int, int] = (40, 30), mode: str = "RGB", number: int | None = None
) -> Path:
    """A picture in a file; one with a `number`, 0..511, has it at its upper edge, so that it is like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture(value, size, mode)
    for place in range(3) if number is not None else ():
        grey = 16 + 30 * (number // 8**place % 8)  # of a block of JPEG's, by steps that it keeps
        image.paste(picture(grey, (8, 8), mode), (8 + 8 * place, 0))
    image.save(path)
    return path


def encoded(value: int, size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    picture(value, size).save(buffer, "PNG")
    return buffer.getvalue()


def lines(path: Path, *text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")


def tiny_imagenet(root: Path) -> None:
    """200 wnids, of which the first is class 0; one image a class."""
    folder = root / "tiny-imagenet-200"
    wnids = [f"n{number:08}" for number in range(200)]
    lines(folder / "wnids.txt", *reversed(wnids))  # the published list is in no order
    for number, wnid in enumerate(wnids):
        save(folder / "train" / wnid / "images" / f"{wnid}_0.JPEG", number, (64, 64))
        save(folder / "val" / "images" / f"val_{number}.JPEG", number, (64, 64), number=number)
    text = (f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62" for number, wnid in enumerate(wnids))
    lines(folder / "val" / "val_annotations.txt", *text)


def cub(root: Path, classes: int = 200, each: int = 2) -> None:
    """Of each class the first image trains, the second tests; with segmentations."""
    folder = root / "CUB_200_2011"
    water = {0: "Black_footed_Albatross", 1: "Mallard"}
    paths = [f"{c + 1:03}.{water.get(c, f'Finch_{c}')}/bird_{c}_{i}.jpg" for c in range(classes) for i in range(each)]
    for number, path in enumerate(paths):
        save(folder / "images" / path, 200, number=number)
        mask = Image.new("L", (40, 30))
        mask.paste(255, (0, 0, 20, 30))  # the bird is the left half
        target = (folder / "segmentations" / path).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        mask.save(target)
        assert number < classes * each
    lines(folder / "images.txt", *(f"{i + 1} {path}" for i, path in enumerate(paths)))
    lines(folder / "image_class_labels.txt", *(f"{i + 1} {i // each + 1}" for i in range(len(paths))))
    lines(folder / "train_test_split.txt", *(f"{i + 1} {int(i % each == 0)}" for i in range(len(paths))))


def stanford_cars(root: Path) -> None:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    fields = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    for split, target in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = np.array([[(0, c + 1, f"{c:05}.jpg") for c in range(196)]], dtype=fields)
        scipy.io.savemat(folder / target, {"annotations": rows})
        for c in range(196):
            save(folder / f"cars_{split}" / f"{c:05}.jpg", c, number=c + (200 if split == "test" else 0))
    names = np.array([[f"car {c}" for c in range(196)]], dtype=object)
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})


def aircraft(root: Path) -> None:
    """Variants whose order in the file is not that of their names."""
    folder = root / "fgvc-aircraft-2013b" / "data"
    names = [f"{number:03} jet" for number in range(100)]
    lines(folder / "variants.txt", *reversed(names))
    for part in ("trainval", "test"):
        lines(folder / f"images_variant_{part}.txt", *(f"{part}{i:04} {name}" for i, name in enumerate(names)))
        for i in range(100):
            save(folder / "images" / f"{part}{i:04}.jpg", i, number=i + (100 if part == "test" else 0))


def imagenet30(root: Path) -> None:
    """The test folders have folders of their own, as the archive has."""
    for number in range(30):
        save(root / "one_class_train" / f"class {number:02}" / "a.JPEG", number, (300, 260))
        save(
            root / "one_class_test" / f"class {number:02}" / f"class {number:02}" / "b.JPEG",
            number,
            (300, 260),
            number=number,
        )


def svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten digits a part; torchvision's class knows the published sums, and here these."""
    from torchvision.datasets.utils import calculate_md5

    sums: dict[str, Any] = {}
    for part, corner in (("train", 255), ("test", 250)):
        path = root / f"{part}_32x32.mat"
        pixels = np.zeros((32, 32, 3, 10), dtype=np.uint8)
        pixels[...] = np.arange(10) * 20
        pixels[0, 0] = corner
        scipy.io.savemat(path, {"X": pixels, "y": np.array([[1], [2], [3], [4], [5], [6], [7], [8], [9], [10]])})
        sums[part] = ["", path.name, calculate_md5(path)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", sums)


def flowers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets.utils import calculate_md5

    folder = root / "flowers-102"
    for number in range(1, 7):
        save(folder / "jpg" / f"image_{number:05}.jpg", number)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 3, 4, 5, 102]])})
    scipy.io.savemat(folder / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]})
    kinds = {"image": "102flowers.tgz", "label": "imagelabels.mat", "setid": "setid.mat"}
    known = {k: (n, calculate_md5(folder / n) if (folder / n).exists() else "") for k, n in kinds.items()}
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", known)


def dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    names = [f"texture{number:02}" for number in range(47)]
    for part, first in (("train", 0), ("val", 1), ("test", 2)):
        lines(folder / "labels" / f"{part}1.txt", *(f"{name}/{name}_{first}.jpg" for name in names))
        for number, name in enumerate(names):
            save(folder / "images" / name / f"{name}_{first}.jpg", number)


def medmnist(root: Path, flag: str, classes: int, columns: int = 1) -> None:
    """Eight grey images a part; with several `columns` a sample has a label for each."""
    root.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for number, part in enumerate(("train", "val", "test")):
        arrays[f"{part}_images"] = np.arange(8, dtype=np.uint8)[:, None, None] * np.ones((8, 28, 28), dtype=np.uint8)
        arrays[f"{part}_images"][:, 0, 0] = 50 * number + len(flag)  # no image is another part's, or another set's
        arrays[f"{part}_labels"] = (np.arange(8 * columns) % classes).reshape(8, columns)
    np.savez(root / f"{flag}.npz", **arrays)


def coco(root: Path, names: list[str]) -> None:
    """One photograph a part with an object of each name, its left half; of the last name also a crowd."""
    for year in ("train2017", "val2017"):
        path = root / "coco" / year / "photo.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(year)).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        annotations: list[dict[str, Any]] = []
        for number in range(len(names)):
            x = 150 + number
            box = [x, 120, 60, 40]
            left = [x, 120, x + 30, 120, x + 30, 160, x, 160]
            of = {"id": 100 - number, "image_id": 7, "category_id": number + 1, "bbox": box, "segmentation": [left]}
            annotations.append({**of, "iscrowd": 0})
        annotations.append({**annotations[-1], "id": 1, "iscrowd": 1, "segmentation": {"counts": [], "size": []}})
        content = {
            "images": [{"id": 7, "file_name": "photo.jpg"}],
            "categories": [{"id": number + 1, "name": name} for number, name in enumerate(names)],
            "annotations": annotations,
        }
        path = root / "coco" / "annotations" / f"instances_{year}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def places(root: Path, each: int) -> None:
    """Land is 50, water is 100."""
    for name, value in (("b/bamboo_forest", 50), ("f/forest/broadleaf", 50), ("o/ocean", 100), ("l/lake/natural", 100)):
        for number in range(each):
            save(root / "data_256_standard" / name / f"{number:05}.jpg", value, (16, 16))


def parquet(path: Path, columns: dict[str, Any], features: dict[str, list[str]] | None = None) -> Path:
    """A file as Hugging Face writes it; `features` are the class names of a column. Images are grey by their label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = next(columns[name] for name in ("label", "labels", "fine_label") if name in columns)
    table = pa.table({"img": [{"bytes": encoded(10 * int(n)), "path": None} for n in labels], **columns})
    named = {name: {"names": names, "_type": "ClassLabel"} for name, names in (features or {}).items()}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": named}})})
    pq.write_table(table, path)
    return path


def littered(folder: Path) -> None:
    """What editors, archivers and file managers leave in a folder of images."""
    for name in (
        ".ipynb_checkpoints/0-checkpoint.png",
        ".x.png",
        "._0.png",
        "__MACOSX/._0.png",
        ".Trash-0/files/9.png",
    ):
        save(folder / name, 255)
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
