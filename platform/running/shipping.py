"""What workers on other machines need: `trainables`, and the files of mixes, objectives and protocols of one's own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import trainables
from trainables.protocols.custom import is_custom_protocol
from trainables.settings.custom import custom_part, is_custom


def copy_code(folder: Path, parts: Iterable[str], protocols: Iterable[str] = ()) -> None:
    """Fill `folder` with what `import` finds here, and with what is named by its path from here, at the same places
    below it; nothing else of this machine's files.

    A mix or an objective that cannot be used is left out: what is wrong with it is told where the file is checked.
    """
    ours = Path(str(trainables.__file__)).parent
    shutil.copytree(ours, folder / ours.name, ignore=shutil.ignore_patterns("__pycache__"))
    sources = {path for part in parts if is_custom(part) for path in _sources(part)}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and (path := Path(file).resolve()) in sources:
            parts = [*name.split("."), *(["__init__"] if path.stem == "__init__" else [])]
            target = folder.joinpath(*parts).with_suffix(".py")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    for name in protocols:
        path = Path(name)
        if is_custom_protocol(name) and path.is_file() and not path.is_absolute() and ".." not in path.parts:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path)


def _sources(part: str) -> Sequence[Path]:
    try:
        return custom_part(part).modules
    except ValueError:
        return ()
