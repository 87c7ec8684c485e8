"""Files in a folder on this machine, on a file system that nodes share, or in an s3-like store, by the same calls."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import pyarrow as pa
from pyarrow import fs

PART = ".part"  # ends the name of a file that is being written, or that was when its process was killed


@dataclass(frozen=True)
class Folder:
    """A folder that need not exist yet; make one with `Folder.at`. What goes wrong in it is an `OSError`.

    A file is there as a whole or not at all, whenever a process is killed; of two that write one, the last wins.
    """

    uri: str  # what `at` takes again, in this process or in another; it may hold a key: do not print it
    system: Any = field(compare=False, repr=False)  # pyarrow's FileSystem
    path: str = field(compare=False, repr=False)  # within it

    @classmethod
    def at(cls, where: str | Path) -> Folder:
        """`where` is a path or a URI that pyarrow reads, as s3://bucket/runs?endpoint_override=host:9000&scheme=http.

        Raises `ValueError` where no file system goes by such a URI, `OSError` where the store cannot be reached.
        """
        if "://" not in str(where):
            path = str(Path(where).absolute())
            return cls(path, fs.LocalFileSystem(), path)
        try:
            system, path = fs.FileSystem.from_uri(str(where))
        except pa.ArrowInvalid as error:
            example = "s3://bucket/runs?endpoint_override=host:9000&scheme=http"
            raise ValueError(f"no storage goes by this address ({error}): write a path or {example}") from error
        return cls(str(where), system, path)

    def __truediv__(self, name: str) -> Folder:
        uri = f"{self.uri}/{name}"
        if "://" in self.uri:
            whole = urlsplit(self.uri)
            uri = whole._replace(path=f"{whole.path.rstrip('/')}/{quote(name)}").geturl()
        return Folder(uri, self.system, f"{self.path.rstrip('/')}/{name}")

    @property
    def local(self) -> bool:
        """Whether it is a path of this machine, a mounted shared file system included."""
        return isinstance(self.system, fs.LocalFileSystem)

    def put(self, local: Path, name: str) -> None:
        """Copy the file `local` into this folder as `name`."""
        with open(local, "rb") as content:
            self.write(content, name)

    def write(self, content: BinaryIO, name: str) -> None:
        """Write what is left of `content` as `name`."""
        if self.local:
            path = Path(self.path) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, lambda part: shutil.copyfileobj(content, part, 1 << 22))
            return
        # An object appears when its stream is closed. So all is read before it is opened: no half of it appears.
        whole = content.read()
        with self.system.open_output_stream(f"{self.path}/{name}") as target:
            target.write(whole)

    def get(self, name: str, local: Path) -> bool:
        """Copy `name` to the file `local`; False where it is absent."""
        try:
            source = self.system.open_input_stream(f"{self.path}/{name}")
        except FileNotFoundError:
            return False
        with source:
            _replace(local, lambda part: shutil.copyfileobj(source, part, 1 << 22))
        return True

    def read(self, name: str) -> bytes | None:
        """The content of `name`; None where it is absent."""
        try:
            with self.system.open_input_stream(f"{self.path}/{name}") as source:
                content: bytes = source.read()
        except FileNotFoundError:
            return None
        return content

    def names(self) -> list[str]:
        """Of the files in it, sorted; none where the folder is absent."""
        found = self.system.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(f.base_name for f in found if f.is_file and not f.base_name.endswith(PART))

    def rename(self, name: str, other: str) -> None:
        """Call a file something else; another file of that name is gone."""
        self.system.move(f"{self.path}/{name}", f"{self.path}/{other}")

    def remove(self, name: str) -> None:
        """Remove a file; an absent one is fine."""
        with suppress(FileNotFoundError):
            self.system.delete_file(f"{self.path}/{name}")

    def clear(self) -> None:
        """Remove the folder with all that is in it; an absent one is fine."""
        with suppress(FileNotFoundError):
            self.system.delete_dir(self.path)


def _replace(path: Path, write: Callable[[Any], object]) -> None:
    """Have `write` fill a file beside `path`, which becomes `path` once it is on the disk."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with open(part, "xb") as file:  # readable by whom the user's umask lets, as `tempfile` has it for nobody
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)  # the new name is on the disk only when its folder is
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
