"""Image sets by name: how many images each was published with, where they lie, and how to get them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trainables.data.composed import COCO_CLASSES, Coco, Landscapes, Waterbirds
from trainables.images.archives import Aircraft, Cub, CutDigits, Digits, MedMNIST, Photos, TinyImageNet
from trainables.images.imagenet21k import LEVELS, ImageNet21k
from trainables.images.layouts import (
    Array,
    ClassFolders,
    Fetched,
    FileList,
    Images,
    Layout,
    TorchVision,
)
from trainables.images.listing import DataError, MissingImagesError
from trainables.images.parquet import Parquet
from trainables.protocols.custom import custom_protocol, is_custom_protocol
from trainables.protocols.protocols import CORRELATIONS

ALL = "all"  # the part of a set that has no division: it may train, as outliers, and it may test
PATIENCE = 60.0  # seconds for a server to send the next bytes


@contextmanager
def _patience() -> Iterator[None]:
    """What downloads for us sets no limit of its own, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@dataclass(frozen=True)
class Source:
    """An image set. The first of `layouts` that is there is read."""

    name: str
    num_classes: int  # 1 where images have no class
    images: Mapping[str, int]  # by part, as published; 0 where the division is ours or not known
    layouts: tuple[Layout, ...]
    get: str = ""  # what to do for a set that no program may fetch
    pixels: int = 0  # the side that every published image has; 0: they differ
    classes: tuple[str, ...] = field(default=(), repr=False)  # names, where a message should have them

    def part(self, role: str) -> str:
        """The part that serves to `train` or to `test`."""
        return role if role in self.images else ALL

    def layout(self, part: str, root: Path) -> Layout | None:
        """How a part lies under the data root; None where it is not there."""
        return next((layout for layout in self.layouts if layout.files(root, part)), None)

    def too_many(self, part: str, images: int) -> str:
        """What is wrong with a part that has more images than were published; empty where it has not."""
        published = self.images[part]
        if not 0 < published < images:
            return ""
        return (
            f"has {images:,} images, and {self.name} ({part}) was published with {published:,}: "
            "take out what is there twice, or does not belong to it"
        )

    @property
    def fetcher(self) -> Callable[[Path], None] | None:
        """What downloads the set into a data root; None where no program may."""
        of_each = (layout.fetch for layout in self.layouts if isinstance(layout, Fetched) and layout.url)
        return None if self.get else next(of_each, None)

    def fetch(self, root: Path) -> None:
        """Download the set. Raises `DataError` where that fails or no program may."""
        if self.fetcher is None:
            raise DataError(f"{self.name}: {self.how_to_get()}. {self.looked_for}")
        with _patience():
            self.fetcher(root)

    def how_to_get(self, tried: bool = False) -> str:
        """What to do where the set is not there, by a command that `tried` to download it or did not."""
        if self.get:
            return self.get
        if self.fetcher is None:
            return "it is made of other sets, which have to be there"
        return "without a network, put them there by hand" if tried else "pass --download to fetch them"

    @property
    def looked_for(self) -> str:
        return "Looked for " + ", or ".join(layout.where for layout in self.layouts)

    def missing(self, part: str, root: Path, tried: bool) -> MissingImagesError:
        """What to say of a part that is not there."""
        get = self.how_to_get(tried)
        return MissingImagesError(
            f"{self.name} ({part}) is not under {root}. {self.looked_for}; {get}. Another folder: --data-root FOLDER"
        )


def _parquet(name: str) -> Parquet:
    """A file or the shards of each part, in a folder of the set's name."""
    return Parquet({part: f"{name}/{part}*.parquet" for part in ("train", "test")})


def _divided(train: int, test: int) -> dict[str, int]:
    return {"train": train, "test": test}


def _cifar(name: str) -> TorchVision:
    folder = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}[name]
    return TorchVision(name, folder, {"train": ({"train": True},), "test": ({"train": False},)})


def _mnist(name: str, **arguments: str) -> TorchVision:
    parts = {p: ({**arguments, "train": p == "train"},) for p in ("train", "test")}
    return TorchVision(name, f"{name}/raw", parts)


def _odin(folder: str, archive: str, md5: str) -> Images:
    """The archives of the ODIN authors (Liang et al., 2018); sums as pytorch-ood and detectors have them."""
    return Images(folder, f"https://www.dropbox.com/s/{archive}?dl=1", md5)


def _mos(folder: str, md5: str) -> Images:
    """The archives of the authors of MOS (Huang and Li, 2021); sums as detectors (github.com/edadaltocg) has them."""
    return Images(folder, f"https://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/{folder}.tar.gz", md5)


_CSI = "not to be fetched by a program: see Datasets in the README of the CSI authors (github.com/alinlab/CSI)"

# Classes of ImageNet-1k that come with one background each (BackMix, supplement, Table VIII): hare, hot pot, taxicab,
# cardoon, dog sled, parachute, container ship, great white shark, entertainment center, and of its lizards, since the
# paper names none, the whiptail.
_STRONG_CORRELATION = (
    *("n02326432", "n07590611", "n02930766", "n07730033", "n03218198"),
    *("n03888257", "n03095699", "n01484850", "n03290653", "n01685808"),
)

_SOURCES: tuple[Source, ...] = (
    Source("digits", 10, _divided(0, 0), (Digits(),)),
    Source("cut-digits", 10, _divided(0, 0), (CutDigits(),)),
    Source("photos", 1, {ALL: 0}, (Photos(),)),
    Source("mnist", 10, _divided(60_000, 10_000), (_parquet("mnist"), _mnist("MNIST")), pixels=28),
    Source(
        "fashion-mnist",
        10,
        _divided(60_000, 10_000),
        (Parquet({p: f"fashionmnist*/{p}.parquet" for p in ("train", "test")}), _mnist("FashionMNIST")),
        pixels=28,
    ),
    Source(
        "emnist-letters",
        26,
        _divided(124_800, 20_800),
        (Parquet({"test": "emnist_letters/*test*.parquet"}), _mnist("EMNIST", split="letters")),
        pixels=28,
    ),
    Source("cifar10", 10, _divided(50_000, 10_000), (_parquet("cifar10"), _cifar("CIFAR10")), pixels=32),
    Source("cifar100", 100, _divided(50_000, 10_000), (_parquet("cifar100"), _cifar("CIFAR100")), pixels=32),
    Source(
        "svhn",
        10,
        _divided(73_257, 26_032),
        (_parquet("svhn"), TorchVision("SVHN", "{part}_32x32.mat", {p: ({"split": p},) for p in ("train", "test")})),
        pixels=32,
    ),
    Source(
        "tiny-imagenet",
        200,
        _divided(100_000, 10_000),
        (Parquet({"train": "tinyimagenet/train*.parquet", "test": "tinyimagenet/val*.parquet"}), TinyImageNet()),
        pixels=64,
    ),
    Source(
        "imagenet30",
        30,
        _divided(39_000, 3_000),
        (ClassFolders({"train": "one_class_train", "test": "one_class_test"}, 30), _parquet("imagenet30")),
        f"ImageNet30 is {_CSI}; unpack one_class_train.tar and one_class_test.tar",
    ),
    Source(
        "strong-correlation",
        10,
        _divided(0, 500),
        (ClassFolders({"train": "imagenet/train", "test": "imagenet/val"}, 10, _STRONG_CORRELATION),),
        "image-net.org, after signing in: ImageNet-1k, of which this set takes ten classes",
    ),
    Source("cub", 200, _divided(5_994, 5_794), (Cub(), _parquet("cub"))),
    Source(
        "stanford-cars",
        196,
        _divided(8_144, 8_041),
        (
            TorchVision("StanfordCars", "stanford_cars", {p: ({"split": p},) for p in ("train", "test")}),
            _parquet("stanford-cars"),
        ),
        "the authors' page is gone: torchvision's documentation of StanfordCars says where its files are to be had",
    ),
    Source("aircraft", 100, _divided(6_667, 3_333), (Aircraft(), _parquet("aircraft"))),
    Source(
        "coco",
        18,
        _divided(0, 0),
        (
            Parquet(
                dict.fromkeys(("train", "test"), "coco_crops/*.parquet"),
                COCO_CLASSES,
                {"train": ("coco_split", "train"), "test": ("coco_split", "val")},
                masks=True,
            ),
            Coco(),
        ),
        "cocodataset.org: the 2017 train and val images, and their annotations",
        classes=COCO_CLASSES,
    ),
    *(Source(f"waterbirds-{r:g}", 2, _divided(5_994, 5_794), (Waterbirds(r),)) for r in CORRELATIONS),
    Source("octmnist", 4, _divided(97_477, 1_000), (MedMNIST("octmnist"),), pixels=28),
    Source("pneumoniamnist", 2, _divided(4_708, 624), (MedMNIST("pneumoniamnist"),), pixels=28),
    Source("chestmnist", 1, _divided(78_468, 22_433), (MedMNIST("chestmnist", labels=False),), pixels=28),
    # Sets without classes: unknown ones, and outliers
    Source(
        "lsun-crop",
        1,
        {ALL: 10_000},
        (_odin("LSUN", "fhtsw1m3qxlwj6h/LSUN.tar.gz", "458a0a0ab8e5f1cb4516d7400568e460"),),
    ),
    Source(
        "lsun-resize",
        1,
        {ALL: 10_000},
        (_odin("LSUN_resize", "moqh2wh8696c3yl/LSUN_resize.tar.gz", "278b7b31c8cb7e804a1465a8ce03a2dc"),),
    ),
    Source("lsun-fix", 1, {ALL: 10_000}, (Images("LSUN_fix"),), f"LSUN_fix is {_CSI}"),
    Source(
        "imagenet-crop",
        1,
        {ALL: 10_000},
        (_odin("Imagenet", "avgm2u562itwpkl/Imagenet.tar.gz", "7c0827e4246c3718a5ee076e999e52e5"),),
    ),
    Source(
        "imagenet-resize",
        1,
        {ALL: 10_000},
        (_odin("Imagenet_resize", "kp3my3412u5k9rl/Imagenet_resize.tar.gz", "0f9ff11d45babf2eff5fe12281d1ac31"),),
    ),
    Source("imagenet-fix", 1, {ALL: 10_000}, (Images("Imagenet_fix"),), f"Imagenet_fix is {_CSI}"),
    Source(
        "imagenet-samples",
        1000,
        {ALL: 1_000},
        (Parquet({ALL: "imagenet1k_samples/*.parquet"}), Images("imagenet-sample-images")),
        "clone github.com/EliSchwartz/imagenet-sample-images into the data root",
    ),
    Source(
        "isun", 1, {ALL: 8_925}, (_odin("iSUN", "ssz7qxfqae0cca5/iSUN.tar.gz", "be77b0f2c26fda898afac5f99645ee70"),)
    ),
    Source("inaturalist", 1, {ALL: 10_000}, (_mos("iNaturalist", "5be6ea8aa027d7b631916427b32cb335"),)),
    Source("places", 1, {ALL: 10_000}, (_mos("Places", "b5cb5eba2754ae2a28beea8718db699a"),)),
    Source("landscapes", 1, {ALL: 2_000}, (Landscapes(),)),
    Source(
        "textures",
        47,
        {ALL: 5_640},
        (
            Parquet({ALL: "textures/*.parquet"}),
            TorchVision("DTD", "dtd", {ALL: tuple({"split": s} for s in ("train", "val", "test"))}),
        ),
    ),
    Source(
        "flower102",
        102,
        {ALL: 8_189},
        (TorchVision("Flowers102", "flowers-102", {ALL: tuple({"split": s} for s in ("train", "val", "test"))}),),
    ),
    Source(
        "tinyimages",
        1,
        {ALL: 300_000},
        (Array("300K_random_images.npy"),),
        "80 Million Tiny Images was withdrawn by its authors: 300K_random_images.npy is the part that the authors of "
        "outlier exposure cleaned and kept (github.com/hendrycks/outlier-exposure), and it is not fetched here",
        pixels=32,
    ),
    *(
        Source(
            f"imagenet21k-{level}",
            1,
            {ALL: 0},  # with the list of one's own, as many as it has
            (FileList({ALL: f"imagenet21k/{level}.txt"}, "imagenet21k", labels=False), ImageNet21k(level)),
            "image-net.org, after signing in: the release winter21 of ImageNet-21k, of which this set takes 50 images "
            "of each class",
        )
        for level in LEVELS
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _SOURCES}


def source_of(name: str) -> Source:
    """A set by its name, or that of a protocol of one's own."""
    if is_custom_protocol(name):
        own = custom_protocol(name)
        return Source(name, len(own.classes), _divided(0, 0), (own.layout,), own.get, classes=own.classes)
    return SOURCES[name]


def published_images(name: str) -> int:
    """How many training images a set was published with; 0 where it has none, or its division is ours."""
    source = source_of(name)
    return source.images.get("train", 0)
