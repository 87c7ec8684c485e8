"""Where a trial runs."""

from __future__ import annotations

import torch


def gpu_memory() -> int:
    """Bytes of the smallest GPU that this process sees; 0 where it sees none."""
    return min((torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())), default=0)


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU where torch sees one, else the CPU. Raises `RuntimeError` where there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    torch.empty(0, device=device)
    return device
