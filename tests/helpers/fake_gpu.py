"""A GPU that is not there: tensors on `cuda` that have a shape and a device but no numbers, on any machine.

What is on the host stays real. Whatever would fail on a GPU or wait for it fails here: tensors of two devices in one
operation, numbers that are read back, shapes that depend on them, copies to the device that the host waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from trainables.data import augment, image_ops

CUDA = torch.device("cuda")
aten = torch.ops.aten
ONCE = (augment._shift_and_scale, image_ops._on)  # what is copied to a device at the first batch, and kept
COPIES = (aten._to_copy.default, aten.copy_.default)


class ReadBackError(RuntimeError):
    """The host would have waited for the device."""


class OnCuda(torch.Generator):
    """A generator that says that it is on the GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA


class FakeGPU(TorchDispatchMode):
    """To be opened inside a `FakeTensorMode`. `reading`: the host may wait, and reads noise."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (
            func.namespace == "aten" and torch.is_inference_mode_enabled()
        ):  # where an operation that is made of others comes whole
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        on_gpu = [t for t in tensors if isinstance(t, FakeTensor)]
        target = kwargs.get("device")
        if not on_gpu and (target is None or torch.device(target).type != "cuda"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        on_host = [t for t in tensors if not isinstance(t, FakeTensor) and t.dim()]
        if func is aten._local_scalar_dense.default or (func in COPIES and _to_host(func, args, target)):
            return self._read(func, args, kwargs)
        if func in COPIES and on_host and not self.reading and not _asynchronous(func, args, kwargs):
            raise ReadBackError(f"the host would wait for its copy to the GPU: {func}")
        if func not in COPIES and on_gpu and on_host:
            raise RuntimeError(f"{func} of tensors on the GPU and on the host")
        if func is aten.exponential_.default:  # of which torch has no fake with a generator
            return args[0]
        return func(*args, **kwargs)

    def _read(self, func: Any, args: Any, kwargs: Any) -> Any:
        if not self.reading:
            raise ReadBackError(f"the host would wait for the GPU: {func} of {tuple(args[0].shape)}")
        with unset_fake_temporarily():
            if func is aten._local_scalar_dense.default:
                return 1.0 if args[0].dtype.is_floating_point else 1
            source = args[0] if func is aten._to_copy.default else args[1]
            dtype = kwargs.get("dtype") or source.dtype
            noise = torch.rand(tuple(source.shape), dtype=torch.float64).mul_(2).to(dtype)
            return noise if func is aten._to_copy.default else args[0].copy_(noise)


def _to_host(func: Any, args: Any, target: Any) -> bool:
    if func is aten.copy_.default:
        return isinstance(args[1], FakeTensor) and not isinstance(args[0], FakeTensor)
    return isinstance(args[0], FakeTensor) and target is not None and torch.device(target).type == "cpu"


def _asynchronous(func: Any, args: Any, kwargs: Any) -> bool:
    return bool(kwargs.get("non_blocking") or (func is aten.copy_.default and len(args) > 2 and args[2]))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGPU]:
    """The fake GPU, switched on."""
    real, load, save = torch.Generator, torch.load, torch.save

    def generator(device: Any = "cpu") -> torch.Generator:
        return OnCuda() if torch.device(device).type == "cuda" else real(device)

    def loaded(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return load(*args, **kwargs)

    def saved(value: Any, file: Any) -> None:
        on_host = tree_map(lambda part: part.cpu() if isinstance(part, torch.Tensor) else part, value)
        with unset_fake_temporarily():
            save(on_host, file)

    def gradient(
        outputs: torch.Tensor, inputs: torch.Tensor | list[torch.Tensor], **_: Any
    ) -> tuple[torch.Tensor, ...]:
        of = [inputs] if isinstance(inputs, torch.Tensor) else inputs
        return tuple(torch.empty_like(each) for each in of)  # a real one needs a driver

    monkeypatch.setattr(torch, "Generator", generator)
    monkeypatch.setattr(torch, "load", loaded)
    monkeypatch.setattr(torch, "save", saved)
    # The order in memory of a fake tensor's numbers cannot be changed in place, nor does it matter.
    monkeypatch.setattr(torch.utils, "swap_tensors", lambda one, other: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    monkeypatch.setattr(torch.autograd, "grad", gradient)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    for once in ONCE:
        once.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True), FakeGPU() as fake:
        yield fake
    for once in ONCE:
        once.cache_clear()


@contextmanager
def nothing_read(fake: FakeGPU) -> Iterator[None]:
    """As in a training step: nothing is read back."""
    fake.reading = False
    try:
        yield
    finally:
        fake.reading = True
