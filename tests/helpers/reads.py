"""Notices what makes the host wait for a device, on a machine that has none."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NothingReadBack(TorchDispatchMode):
    """Fails at what makes the host wait for a device: reading a value, and shapes that depend on values.

    What lies `on_the_host` by design may be read.
    """

    def __init__(self, on_the_host: Sequence[torch.Tensor] = ()) -> None:
        super().__init__()
        self.on_the_host = on_the_host

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.name()
        if args and any(args[0] is tensor for tensor in self.on_the_host):
            return func(*args, **(kwargs or {}))
        assert not name.startswith(("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")), name
        if name.startswith("aten::index"):
            indices = args[1] if isinstance(args[1], list | tuple) else []
            assert all(i is None or i.dtype != torch.bool for i in indices)
        return func(*args, **(kwargs or {}))
