"""Files of finished weights where other trials look for them, by identity: whole, or not there. Without torch."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import BinaryIO

from trainables.storage.folder import Folder


class WeightsError(RuntimeError):
    """Weights that are missing, damaged or of another network; the message says which and where."""


def weights_path(folder: Path, identity: str) -> Path:
    """Where the weights of the trial with this identity are kept among teachers."""
    return folder / f"{identity}.pt"


def keep_weights(weights: Path, folder: Folder, identity: str) -> None:
    """Copy the weights that a trial ended with to where others look for them, with their sha256 beside them."""
    content = weights.read_bytes()
    folder.write(io.BytesIO(content), f"{identity}.pt")
    folder.write(io.BytesIO(hashlib.sha256(content).hexdigest().encode()), f"{identity}.sha256")


def kept_weights(folder: Folder, identity: str) -> bytes | None:
    """What `keep_weights` has kept, as it was then; None where it is absent or damaged. Raises `OSError`.

    Without a sha256, which a process that was killed may have left out, the checksums within the file count.
    """
    content = folder.read(f"{identity}.pt")
    if content is None:
        return None
    digest = folder.read(f"{identity}.sha256")
    if digest is None:
        return content if is_whole(io.BytesIO(content)) else None
    return content if hashlib.sha256(content).hexdigest().encode() == digest else None


def is_whole(weights: Path | BinaryIO) -> bool:
    """Whether each part of a file of torch's has the checksum that came with it, at which torch does not look."""
    try:
        with zipfile.ZipFile(weights) as archive:
            return archive.testzip() is None
    except (MemoryError, OSError):
        raise
    except Exception:  # zipfile has no one type for what is damaged
        return False
