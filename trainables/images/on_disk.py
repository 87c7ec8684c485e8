"""Files and folders as people have them: hidden ones, links, pipes, lists of any editor's, names of any encoding."""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path

from trainables.images.listing import DataError

IMAGES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
HIDDEN = (".", "__MACOSX")  # what editors and archivers leave: .ipynb_checkpoints, .DS_Store, ._0.png


def file_at(path: Path) -> list[Path]:
    """The path where it is a file, and nothing where it is not there or a folder.

    Raises `DataError` for what a reader would wait on for ever, a pipe or a device, and for a link to nowhere.
    """
    return [path] if _kind(path) == stat.S_IFREG else []


def folder_at(path: Path) -> list[Path]:
    """The path where it is a folder, as `file_at`."""
    return [path] if _kind(path) == stat.S_IFDIR else []


def _kind(path: Path) -> int:
    """Whether there is a file or a folder; 0 for neither."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (OSError, ValueError) as error:  # not there; a loop of links; a name that is too long or has a zero byte
        if os.path.islink(path):
            raise DataError(f"{path} is a link to {os.readlink(path)}, where nothing is to be read") from error
        return 0
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{path} is a pipe or a device, not a file or a folder: it cannot be read")
    return kind


def is_special(path: Path) -> bool:
    """Whether reading it may never end: a pipe, a device or a socket."""
    mode = path.stat().st_mode
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder has, by name. Hidden entries are left out. Raises `DataError` where it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not e.name.startswith(HIDDEN)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def class_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder, by name in composed Unicode. A link may lead to one elsewhere, each to another one.

    Raises `DataError` for a link back into the folder or to one above it, whose images would count in two classes.
    """
    found: dict[str, Path] = {}
    led_to: dict[Path, Path] = {}
    home = folder.resolve()
    for entry in entries(folder):
        if not entry.is_dir():
            continue
        path = Path(entry.path)
        if entry.is_symlink():
            target = Path(os.path.realpath(path))
            if target.is_relative_to(home) or home.is_relative_to(target):
                raise DataError(f"{path} is a link to {target}: its images would count in two classes. Remove it")
            if target in led_to:
                raise DataError(f"{path} and {led_to[target]} are links to the same folder, {target}. Remove one")
            led_to[target] = path
        name = nfc(entry.name)
        if name in found:
            raise DataError(f"{folder} has two folders {name}, in composed and in decomposed Unicode. Remove one")
        found[name] = path
    return found


def images_below(folder: Path, home: Path | None = None) -> list[Path]:
    """Every image file below a folder, in the order of their paths. Hidden entries are left out.

    Raises `DataError` for a link to a folder and for one to an image in `home`, the folder of the whole set (default:
    `folder`): such images would count twice or in another class, or without end. A link may lead to a file elsewhere.
    """
    return _images_below(folder, (home or folder).resolve())


def _images_below(folder: Path, home: Path) -> list[Path]:
    found: list[Path] = []
    for entry in entries(folder):
        if entry.is_dir(follow_symlinks=False):
            found += _images_below(Path(entry.path), home)
            continue
        path = Path(entry.path)
        if entry.is_symlink():
            _check_link(path, home)
        if path.suffix.lower() in IMAGES:
            if not entry.is_file(follow_symlinks=False) and path.exists():  # what is not there is told with its like
                file_at(path)
            found.append(path)
    return found


def _check_link(path: Path, home: Path) -> None:
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise DataError(
            f"{path} is a link to the folder {target}, which is not below its own: images would count twice, or in "
            "another class. Move them here, or link the whole folder of the class or of the set"
        )
    inside = target.relative_to(home).parts if target.is_relative_to(home) else ()
    if (
        inside
        and target.exists()
        and target.suffix.lower() in IMAGES
        and not any(name.startswith(HIDDEN) for name in inside)
    ):
        raise DataError(f"{path} is a link to {target}, an image of the same set, which would count twice. Remove it")


def check_no_device(path: Path) -> None:
    """Raises `DataError` for a pipe or a device at or below a path, for readers that open what they are named."""
    if folder_at(path):
        for entry in entries(path):
            if not entry.is_file(follow_symlinks=False):
                check_no_device(Path(entry.path))


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not empty, whatever its line ends and with or without a byte-order mark.

    Bytes that are not UTF-8 stay as they are, as in names of files. Raises `DataError` where it cannot be read.
    """
    if not file_at(path):
        raise DataError(f"{path} is not there, or no file")
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if "\0" in text:
        raise DataError(f"{path} is no text in UTF-8: save it as such")
    return [line.strip() for line in text.split("\n") if line.strip()]


def as_named(path: Path) -> Path:
    """The file of this name, in composed or decomposed Unicode (macOS has it so); the path itself if there is none."""
    if str(path).isascii() or path.exists():
        return path
    other = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((spelt for spelt in other if spelt.exists()), path)


def nfc(name: str) -> str:
    """A name in composed Unicode: two spellings of one name become equal."""
    return unicodedata.normalize("NFC", name)
