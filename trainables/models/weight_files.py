"""Files of weights, read without running code from them, and what of them fits a network."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from trainables.storage.weights import WeightsError, is_whole

State = dict[str, torch.Tensor]
SHOWN = 4  # names in a message
NESTED = ("state_dict", "model", "net")  # where training codes keep the state dict beside what else they save


def read_state(path: Path) -> State:
    """The state dict in a file, without the prefix of `DataParallel` and of `torch.compile`.

    Raises `WeightsError`, in one line, where it is damaged or holds something else.
    """
    try:
        content = _content(path)
    except (MemoryError, WeightsError):
        raise
    except pickle.UnpicklingError as error:  # torch's text advises to load it without the check
        said = (
            "holds something else than tensors, or is damaged: what could run code is not read; save the state_dict()"
        )
        raise WeightsError(f"{path} {said}") from error
    except Exception as error:  # whatever a parser says to what is no file of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} is no file of weights, or is damaged: {reason}") from error
    return _state(content, path)


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ModuleNotFoundError as error:
            raise WeightsError(f"{path}: reading it takes safetensors (pip install safetensors)") from error
        return load_file(path)
    if zipfile.is_zipfile(path) and not is_whole(path):
        raise ValueError("its bytes are not those that were written")
    return torch.load(path, map_location="cpu", weights_only=True)


def _state(content: Any, path: Path) -> State:
    """The state dict in what a file holds, without the prefix of `DataParallel` and of `torch.compile`."""
    while isinstance(content, dict) and (inner := next((n for n in NESTED if isinstance(content.get(n), dict)), "")):
        content = content[inner]
    tensors = isinstance(content, dict) and all(isinstance(value, torch.Tensor) for value in content.values())
    if not tensors or not content:
        raise WeightsError(f"{path} holds no state dict: a mapping of names to tensors, alone or as `state_dict`")
    for prefix in ("module.", "_orig_mod.", "module."):
        if all(str(key).startswith(prefix) for key in content):
            content = {str(key).removeprefix(prefix): value for key, value in content.items()}
    return dict(content)


def misfits(found: State, expected: State) -> Iterator[str]:
    """What of `found` does not fit the `expected` keys and shapes: missing, left over, of another shape, not finite."""
    missing = [key for key in expected if key not in found]
    left = [key for key in found if key not in expected]
    others = [key for key in expected if key in found and found[key].shape != expected[key].shape]
    if missing:
        yield f"missing {_listed(missing)}"
    if left:
        yield f"left over {_listed(left)}"
    if others:
        yield f"of another shape {_listed([f'{k} ({_by(found[k])}, not {_by(expected[k])})' for k in others])}"
    for key in expected.keys() & found.keys() - set(others):
        if not found[key].isfinite().all():
            yield f"{key} has values that are not finite"
            return


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _by(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
