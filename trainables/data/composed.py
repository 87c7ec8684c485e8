"""Image sets that are made of others' images: objects cut out of COCO, and birds pasted on landscapes.

Both are made once, when they are first read; what is made is kept as JPEG and PNG files are, in the cache.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from trainables.images.archives import Cub
from trainables.images.listing import I64, DataError, Listing
from trainables.images.on_disk import images_below

KEPT = 288  # px: the short side of what is kept, where it was larger

# BackMix's supplement, section II-A: twelve known classes, then six unknown ones.
COCO_CLASSES = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "dog", "horse", "tv", "motorcycle", "person"),
    *("sheep", "cow", "elephant", "bench", "toilet", "cat"),
)
# Sagawa et al., 2020: the birds of CUB that live on water, and the categories of Places behind them.
WATERBIRDS = (
    *("albatross", "auklet", "cormorant", "frigatebird", "fulmar", "gull", "jaeger", "kittiwake", "pelican", "puffin"),
    *("tern", "gadwall", "grebe", "mallard", "merganser", "guillemot", "pacific_loon"),
)
LAND, WATER = ("b/bamboo_forest", "f/forest/broadleaf"), ("o/ocean", "l/lake/natural")
PLACES = ("data_256_standard", "data_256", "data_large_standard", "data_large")  # torchvision's names and the archives'
SPURIOUS = 500  # images of each category that are never behind a bird: the unknown set with the same backgrounds


@dataclass(frozen=True)
class Coco:
    """Objects of COCO 2017 with a margin around each, and the mask of each (BackMix, supplement, section II-A).

    At most 2,000 of a class, the first in the order of their ids, crowds left out; training objects from `train2017`,
    test objects from `val2017`. The paper does not say which 2,000, nor how it divides them.
    """

    folder: str = "coco"
    margin: int = 100  # px around the object's box
    most: int = 2000  # of a class

    @property
    def where(self) -> str:
        return f"COCO 2017 in {self.folder}: annotations/instances_*2017.json, train2017 and val2017"

    def files(self, root: Path, part: str) -> list[Path]:
        found = [root / self.folder / "annotations" / f"instances_{self._year(part)}.json"]
        return found if found[0].is_file() and (root / self.folder / self._year(part)).is_dir() else []

    def also_read(self, root: Path, part: str) -> list[Path]:
        return [root / self.folder / self._year(part)]

    def read(self, root: Path, part: str) -> Listing:
        images: list[bytes] = []
        masks: list[bytes] = []
        objects = self._objects(root, part)
        for photo, annotation, _ in objects:
            image, mask = self._cut(photo, annotation)
            images.append(_encoded(image, "JPEG"))
            masks.append(_encoded(mask, "PNG"))
        labels = np.array([label for _, _, label in objects], dtype=np.int64)
        return Listing(images, labels, np.arange(len(labels)), str(self.files(root, part)[0]), masks)

    def labels_of(self, root: Path, part: str) -> I64:
        there = [label for photo, _, label in self._objects(root, part) if os.path.isfile(photo)]
        return np.array(there, dtype=np.int64)

    def _objects(self, root: Path, part: str) -> list[tuple[Path, dict[str, Any], int]]:
        """The photograph, the annotation and the class of each object."""
        path = self.files(root, part)[0]
        photos = root / self.folder / self._year(part)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names = {c["id"]: c["name"] for c in content["categories"]}
            files = {i["id"]: i["file_name"] for i in content["images"]}
            chosen = self._choose(content["annotations"], names)
            return [(photos / files[a["image_id"]], a, COCO_CLASSES.index(names[a["category_id"]])) for a in chosen]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a file of COCO's instances: {error!r}") from error

    def _year(self, part: str) -> str:
        return {"train": "train2017", "test": "val2017"}[part]

    def _choose(self, annotations: list[dict[str, Any]], names: Mapping[int, str]) -> list[dict[str, Any]]:
        taken = dict.fromkeys(COCO_CLASSES, 0)
        chosen = []
        for annotation in sorted(annotations, key=lambda a: a["id"]):
            name = names[annotation["category_id"]]
            if annotation.get("iscrowd") or taken.get(name, self.most) >= self.most:
                continue
            taken[name] += 1
            chosen.append(annotation)
        return chosen

    def _cut(self, photo: Path, annotation: Mapping[str, Any]) -> tuple[Image.Image, Image.Image]:
        try:
            with Image.open(photo) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise DataError(f"{photo} cannot be decoded: {error}") from error
        mask = Image.new("L", image.size)
        name = f"annotation {annotation['id']} of {photo}"
        if not isinstance(annotation["segmentation"], list):
            raise DataError(f"{name} has its mask as run lengths, which are not read: give it polygons, or remove it")
        for polygon in annotation["segmentation"]:
            if len(polygon) >= 6:  # three corners
                ImageDraw.Draw(mask).polygon(polygon, fill=255)
        if mask.getbbox() is None:
            raise DataError(f"{name} has no polygon in its picture, and so no mask: remove it")
        x, y, width, height = annotation["bbox"]
        left, top = max(0, int(x) - self.margin), max(0, int(y) - self.margin)
        right = min(image.width, round(x + width) + self.margin)
        box = (left, top, right, min(image.height, round(y + height) + self.margin))
        return image.crop(box), mask.crop(box)


class _Bird(NamedTuple):
    """A bird, where it is in its picture, and what it is pasted on."""

    path: Path
    mask: Path
    place: Path
    label: int


@dataclass(frozen=True)
class Waterbirds:
    """Birds of CUB, cut out by their masks, on landscapes of Places (Sagawa et al., 2020). Class 1 lives on water.

    A share `correlation` of the training birds is on a background of its own kind, half of the test birds is. All of
    CUB's training birds train: what is held out of them is the trial's to say.
    """

    correlation: float  # r: P(water | waterbird) = P(land | landbird) in training

    @property
    def where(self) -> str:
        return (
            f"{Cub().folder} with segmentations/, and Places365 ({PLACES[0]}/{LAND[0]}, {LAND[1]}, {WATER[0]}, "
            f"{WATER[1]})"
        )

    def files(self, root: Path, part: str) -> list[Path]:
        folder = root / Cub().folder
        places = _places(root)
        if not Cub().files(root, part) or not (folder / "segmentations").is_dir() or places is None:
            return []
        return [folder, folder / "segmentations", *(places / name for name in (*LAND, *WATER))]

    def read(self, root: Path, part: str) -> Listing:
        birds = self._birds(root, part)
        images = [_encoded(_pasted(bird.path, bird.mask, bird.place), "JPEG") for bird in birds]
        labels = np.array([bird.label for bird in birds], dtype=np.int64)
        return Listing(images, labels, np.arange(len(labels)), str(root / Cub().folder))

    def labels_of(self, root: Path, part: str) -> I64:
        there = [b.label for b in self._birds(root, part) if os.path.isfile(b.path) and os.path.isfile(b.mask)]
        return np.array(there, dtype=np.int64)

    def _birds(self, root: Path, part: str) -> list[_Bird]:
        birds = Cub().read(root, part)
        segmentations = root / Cub().folder / "segmentations"
        rng = np.random.default_rng(0 if part == "train" else 1)
        # From the other end for the test birds: no landscape is behind both a training and a test bird.
        kinds = (_backgrounds(root, names) for names in (LAND, WATER))
        queues = [iter(paths if part == "train" else paths[::-1]) for paths in kinds]
        found = []
        for path in birds.images:
            assert isinstance(path, Path)
            on_water = any(name in path.parent.name.lower() for name in WATERBIRDS)
            own_kind = rng.random() < (self.correlation if part == "train" else 0.5)
            place = next(queues[on_water == own_kind], None)
            if place is None:
                raise DataError(f"{_places(root)} has too few landscapes behind {len(birds.labels):,} birds")
            mask = (segmentations / path.parent.name / path.name).with_suffix(".png")
            found.append(_Bird(path, mask, place, int(on_water)))
        return found


@dataclass(frozen=True)
class Landscapes:
    """Images of Places365 that are never behind a bird of `Waterbirds`: the same backgrounds without an object."""

    @property
    def where(self) -> str:
        return f"Places365 ({PLACES[0]}/{LAND[0]}, {LAND[1]}, {WATER[0]}, {WATER[1]})"

    def files(self, root: Path, part: str) -> list[Path]:
        places = _places(root)
        return [places / name for name in (*LAND, *WATER)] if places else []

    def read(self, root: Path, part: str) -> Listing:
        folders = self.files(root, part)
        images = [path for folder in folders for path in images_below(folder)[-SPURIOUS:]]
        return Listing(images, np.zeros(len(images), dtype=np.int64), np.arange(len(images)), str(folders[0].parent))


def _places(root: Path) -> Path | None:
    """The folder of Places365 that is there, with all four categories."""
    there = (root / name for name in PLACES)
    return next((p for p in there if all((p / category).is_dir() for category in (*LAND, *WATER))), None)


def _backgrounds(root: Path, categories: tuple[str, ...]) -> list[Path]:
    """Landscapes of a kind, its categories in turns."""
    places = _places(root)
    assert places is not None
    of_each = [images_below(places / name)[:-SPURIOUS] for name in categories]
    return [path for pair in zip(*of_each, strict=False) for path in pair]


def _pasted(bird: Path, mask: Path, place: Path) -> Image.Image:
    """The bird where its mask is white, the landscape, cut to the bird's picture, where it is black."""
    opened = []
    for path, mode in ((bird, "RGB"), (mask, "L"), (place, "RGB")):
        try:
            with Image.open(path) as image:
                opened.append(image.convert(mode))
        except OSError as error:
            raise DataError(f"{path} cannot be decoded: {error}") from error
    foreground, shape, background = opened
    return Image.composite(foreground, ImageOps.fit(background, foreground.size), shape.resize(foreground.size))


def _encoded(image: Image.Image, form: str) -> bytes:
    """A file of at most `KEPT` px along its short side."""
    if (short := min(image.size)) > KEPT:
        image = image.resize((round(image.width * KEPT / short), round(image.height * KEPT / short)))
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 95} if form == "JPEG" else {}))
    return buffer.getvalue()
