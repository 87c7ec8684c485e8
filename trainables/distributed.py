"""A trial on several processes: each runs the network on its part of the batch, and all compute the whole loss.

Every process draws the same random numbers for the global batch and gathers what the network gave for it, so
partners come from the whole batch, DIST sees all its logits, and a CAM bank is whole everywhere. A learner is written
as if there were one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed


class _Gather(torch.autograd.Function):
    """Concatenate over processes. Each of them has the same loss, and DistributedDataParallel averages gradients of
    parameters over processes: scaled by their number, that average is the sum over the whole batch."""

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor, rank: int, size: int) -> torch.Tensor:
        ctx.rank, ctx.size = rank, size
        local = local.contiguous()
        parts = [torch.empty_like(local) for _ in range(size)]
        torch.distributed.all_gather(parts, local)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return grad[0].chunk(ctx.size)[ctx.rank] * ctx.size, None, None


@dataclass(frozen=True)
class Processes:
    """This process among those of its trial."""

    rank: int = 0
    size: int = 1

    def mine(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's rows of a global batch, whose length `size` divides."""
        return batch if self.size == 1 else batch.chunk(self.size)[self.rank]

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        """The global batch from everyone's rows, with gradients for these here."""
        if self.size == 1:
            return part
        gathered: torch.Tensor = _Gather.apply(part, self.rank, self.size)
        return gathered


ALONE = Processes()
