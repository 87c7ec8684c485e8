"""What a trial continues from after an interruption: its latest states, each whole or not there."""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import torch

from trainables.storage.folder import Folder

KEPT = 2  # the newest, and the one before in case that the newest is damaged
DIGITS = 16  # of a file's sha256, in hex
ASIDE = "aside-"


class Checkpoints:
    """States of one trial in a folder of their own, that one process writes. A name is the step and a digest."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.damaged: list[str] = []  # files that `load` could not use, each with the reason
        self.trouble = ""  # why the latest `save` failed; empty where it did not
        self._unusable: set[str] = set()

    def save(self, step: int, state: dict[str, Any]) -> bool:
        """Write the state at training step `step`, and keep the newest two.

        A store that cannot be written (a full disk) must not end a trial: then it is False, and `trouble` says why.
        """
        content = io.BytesIO()  # in memory, where torch cannot mix up the device's errors with the disk's
        torch.save(state, content)
        name = f"{step:09d}.{hashlib.sha256(content.getbuffer()).hexdigest()[:DIGITS]}.pt"
        content.seek(0)
        try:
            self.folder.write(content, name)
            usable = [other for other in self._names() if other not in self._unusable | {name}]
            for other in {*usable[: len(usable) - KEPT + 1], *self._unusable}:
                self.folder.remove(other)
        except OSError as error:
            self.trouble = f"no checkpoint could be written at step {step}: {error}"
            return False
        self._unusable.clear()
        self.trouble = ""
        return True

    def load(self) -> Any:
        """The newest state that is whole, on the CPU; None where there is none. What is in it is not looked at.

        Raises `OSError` where the store cannot be listed, or where files are there and none could be read.
        """
        unread: OSError | None = None
        for name in reversed(self._names()):
            try:
                content = self.folder.read(name)
            except OSError as error:
                unread = error
                self._leave_out(name, str(error))
                continue
            if content is None:
                continue
            if hashlib.sha256(content).hexdigest()[:DIGITS] != name.split(".")[1]:
                self._leave_out(name, f"its {len(content):,} bytes are not those that were written")
                continue
            try:
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:  # torch's text advises to load it without the check
                self._leave_out(name, "it holds more than tensors, numbers and texts")
            except MemoryError:
                raise
            except Exception as error:  # whatever a parser says to what is no file of its own
                self._leave_out(name, (str(error) or type(error).__name__).splitlines()[0])
        if unread:
            raise unread
        return None

    def set_aside(self) -> str:
        """Keep them under other names, where `load` does not find them, until `clear`; the folder that they are in.

        Raises `OSError` where the store cannot be written.
        """
        for name in self._names():
            self.folder.rename(name, f"{ASIDE}{name}")
        return self.folder.path

    def clear(self) -> None:
        """Remove them all, with those that were set aside."""
        self.folder.clear()

    def _names(self) -> list[str]:
        """From the oldest step to the newest."""
        names = (name for name in self.folder.names() if name.endswith(".pt") and name.count(".") == 2)
        return [name for name in names if not name.startswith(ASIDE)]

    def _leave_out(self, name: str, reason: str) -> None:
        self.damaged.append(f"{name}: {reason}")
        self._unusable.add(name)
