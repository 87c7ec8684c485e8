"""Sets that are published in a way of their own, one layout each; and those that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.images.layouts import Archived, ClassFolders, class_id
from trainables.images.listing import DataError, Listing, listed
from trainables.images.on_disk import file_at, folder_at, lines_of


@dataclass(frozen=True)
class TinyImageNet(Archived):
    """The published archive: `train/<wnid>/images`, and `val` with a list. Class ids are the sorted wnids'."""

    folder: str = "tiny-imagenet-200"
    url: str = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    md5: str = "90528d7ca1a48142e341f4ef8d21d0de"

    def files(self, root: Path, part: str) -> list[Path]:
        return folder_at(root / self.folder / {"train": "train", "test": "val"}[part])

    def also_read(self, root: Path, part: str) -> list[Path]:
        return [root / self.folder / "wnids.txt"]

    def read(self, root: Path, part: str) -> Listing:
        folder = root / self.folder
        if part == "train":
            return ClassFolders({part: f"{self.folder}/train"}, 200).read(root, part)
        wnids = {name: i for i, name in enumerate(sorted(lines_of(folder / "wnids.txt")))}
        lines = [line.split("\t") for line in lines_of(folder / "val" / "val_annotations.txt")]
        images = [folder / "val" / "images" / line[0] for line in lines]
        return listed(images, [class_id(wnids, line[1], folder / "wnids.txt") for line in lines], folder / "val")


@dataclass(frozen=True)
class Cub(Archived):
    """Caltech-UCSD Birds 200-2011, its published archive."""

    folder: str = "CUB_200_2011"
    url: str = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1"
    md5: str = "97eceeb196236b17998738112f37df78"

    def files(self, root: Path, part: str) -> list[Path]:
        folder = root / self.folder
        return [folder] if file_at(folder / "images.txt") else []

    def read(self, root: Path, part: str) -> Listing:
        folder = root / self.folder
        lists = [lines_of(folder / n) for n in ("images.txt", "image_class_labels.txt", "train_test_split.txt")]
        paths, labels, training = ([line.split()[1] for line in lines] for lines in lists)
        chosen = [i for i, flag in enumerate(training) if (flag == "1") == (part == "train")]
        images = [folder / "images" / paths[i] for i in chosen]
        return listed(images, [int(labels[i]) - 1 for i in chosen], folder)


@dataclass(frozen=True)
class Aircraft(Archived):
    """FGVC-Aircraft as torchvision lays it out, with variants sorted by name, as the open-set splits number them."""

    folder: str = "fgvc-aircraft-2013b"
    url: str = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"
    md5: str = "d4acdd33327262359767eeaa97a4f732"  # which torchvision, with the same address, does not check

    @property
    def where(self) -> str:
        return f"torchvision's FGVCAircraft files ({self.folder})"

    def files(self, root: Path, part: str) -> list[Path]:
        return folder_at(root / self.folder / "data")

    def read(self, root: Path, part: str) -> Listing:
        folder = root / self.folder / "data"
        which = {"train": "trainval", "test": "test"}[part]
        variants = {name: i for i, name in enumerate(sorted(lines_of(folder / "variants.txt")))}
        lines = [line.split(" ", 1) for line in lines_of(folder / f"images_variant_{which}.txt")]
        images = [folder / "images" / f"{line[0]}.jpg" for line in lines]
        return listed(images, [class_id(variants, line[1], folder / "variants.txt") for line in lines], folder)


@dataclass(frozen=True)
class MedMNIST:
    """A set of MedMNIST v2 at 28 px, one `.npz` file; the `medmnist` package knows its sum and where it is."""

    flag: str
    labels: bool = True  # False: samples have several labels or none, and all get 0
    url: str = "medmnist's"

    @property
    def where(self) -> str:
        return f"{self.flag}.npz, as the medmnist package stores it, or {self.flag}/{self.flag}.npz"

    def files(self, root: Path, part: str) -> list[Path]:
        return file_at(root / f"{self.flag}.npz") or file_at(root / self.flag / f"{self.flag}.npz")

    def read(self, root: Path, part: str) -> Listing:
        (path,) = self.files(root, part)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{path} is not MedMNIST's {self.flag}: {error}") from error
        ids = labels.reshape(len(labels), -1)[:, 0].astype(np.int64) if self.labels else np.zeros(len(labels), np.int64)
        return Listing(images, ids, np.arange(len(ids)), str(path))

    def fetch(self, root: Path) -> None:
        import medmnist

        root.mkdir(parents=True, exist_ok=True)
        kind = getattr(medmnist, medmnist.INFO[self.flag]["python_class"])
        try:
            kind(split="train", root=str(root), download=True)
        except (RuntimeError, OSError) as error:
            raise DataError(f"{self.flag} could not be downloaded: {error}") from error


@dataclass(frozen=True)
class Digits:
    """The 1,797 digits that scikit-learn ships; the first 1,000 in their order train, the rest test.

    The order is by writer, so the two parts share few of them. It is our division: the set has none.
    """

    where: str = "scikit-learn's handwritten digits"

    def files(self, root: Path, part: str) -> list[Path]:
        import sklearn.datasets

        return [Path(str(sklearn.datasets.__file__)).parent / "data" / "digits.csv.gz"]

    def read(self, root: Path, part: str) -> Listing:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        rows = slice(0, 1000) if part == "train" else slice(1000, None)
        grey = (bunch.images[rows] * (255 / 16)).round().astype(np.uint8)
        return Listing(grey, bunch.target[rows].astype(np.int64), np.arange(len(bunch.target))[rows], self.where)


@dataclass(frozen=True)
class CutDigits(Digits):
    """The same digits with masks: their ink."""

    def read(self, root: Path, part: str) -> Listing:
        digits = super().read(root, part)
        assert isinstance(digits.images, np.ndarray)
        return replace(digits, masks=np.where(digits.images > 0, 255, 0).astype(np.uint8))


@dataclass(frozen=True)
class Photos:
    """Patches of 32 px of the two photographs that scikit-learn ships: outliers that need no download."""

    where: str = "patches of scikit-learn's photographs"

    def files(self, root: Path, part: str) -> list[Path]:
        import sklearn.datasets

        return sorted((Path(str(sklearn.datasets.__file__)).parent / "images").glob("*.jpg"))

    def read(self, root: Path, part: str) -> Listing:
        from sklearn.datasets import load_sample_images

        patches = []
        for photo in load_sample_images().images:
            rows, columns = photo.shape[0] // 32, photo.shape[1] // 32
            cut = photo[: 32 * rows, : 32 * columns].reshape(rows, 32, columns, 32, 3)
            patches.append(cut.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3))
        images = np.concatenate(patches)
        return Listing(images, np.zeros(len(images), dtype=np.int64), np.arange(len(images)), self.where)
