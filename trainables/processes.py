"""A trial on several processes: each runs the network on its part of the batch, and all compute the whole loss.

Every process draws the same random numbers for the global batch and gathers what the network gave for it, so
partners come from the whole batch, DIST sees all its logits, and a CAM bank is whole everywhere. Batch norm takes the
statistics of the whole batch, and dropout draws for it. So mixes and objectives are written as if there were one, the
number of processes changes results by rounding only, and what changes in training is the same in each of them. (The
one exception is dropout of single values on GPUs, whose draws are others for one process.)

Shapes: B rows, C channels, H W a feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

T = TypeVar("T")
_OF_TORCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class _Gather(torch.autograd.Function):
    """Concatenate over processes. Each of them has the same loss, and DistributedDataParallel averages gradients of
    parameters over processes: scaled by their number, that average is the sum over the whole batch."""

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor, rank: int, counts: list[int]) -> torch.Tensor:
        ctx.rank, ctx.counts = rank, counts
        return _gathered(local, counts)

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return grad[0].split(ctx.counts)[ctx.rank] * len(ctx.counts), None, None


class _Sum(torch.autograd.Function):
    """Sum over processes, each of which goes on with the sum: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor) -> torch.Tensor:
        total = local.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> torch.Tensor:
        total = grad[0].clone()
        torch.distributed.all_reduce(total)
        return total


class _Exchange(torch.autograd.Function):
    """Concatenate over processes, each of which goes on with other rows: a row's gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor, rank: int, counts: list[int]) -> torch.Tensor:
        ctx.rank, ctx.counts = rank, counts
        return _gathered(local, counts)

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        total = grad[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total.split(ctx.counts)[ctx.rank], None, None


def _gathered(local: torch.Tensor, counts: list[int]) -> torch.Tensor:
    padded = local.new_zeros(max(counts), *local.shape[1:])  # what is gathered must have one shape
    padded[: len(local)] = local
    parts = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@dataclass(eq=False)
class Processes:
    """This process among those of its trial, which are torch's default process group."""

    rank: int = 0
    size: int = 1
    rows: int = field(default=0, init=False)  # of the global batch that was divided last

    @property
    def first(self) -> bool:
        """Whether this is the one that evaluates and writes."""
        return self.rank == 0

    def mine(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's rows of a global batch; the first processes have one more where `size` does not divide it."""
        if self.size == 1:
            return batch
        self.rows = len(batch)
        return batch.split(self._counts())[self.rank]

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        """The global batch that `mine` divided last, from everyone's rows, with gradients for these here."""
        if self.size == 1:
            return part
        gathered: torch.Tensor = _Gather.apply(part, self.rank, self._counts())
        return gathered

    def average(self, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Each tensor's mean over processes, in one message: what DistributedDataParallel makes of gradients."""
        if self.size == 1:
            return list(parts)
        flat = torch.cat([part.flatten() for part in parts])
        torch.distributed.all_reduce(flat)
        means = (flat / self.size).split([part.numel() for part in parts])
        return [mean.view_as(part) for mean, part in zip(means, parts, strict=True)]

    def exchange(self, part: torch.Tensor) -> torch.Tensor:
        """As `gather`, in the middle of a network, where each process then works on rows of its own."""
        if self.size == 1:
            return part
        exchanged: torch.Tensor = _Exchange.apply(part, self.rank, self._counts())
        return exchanged

    def _counts(self) -> list[int]:
        return [self.rows // self.size + (rank < self.rows % self.size) for rank in range(self.size)]

    def broadcast(self, value: T) -> T:
        """What process 0 says, everywhere: all of them must call it. The host waits for the device."""
        if self.size == 1:
            return value
        said = [value]
        torch.distributed.broadcast_object_list(said, src=0)
        return said[0]

    def agree(self, flag: bool) -> bool:
        """Process 0's `flag`, everywhere: all of them must call it."""
        return self.broadcast(flag)


ALONE = Processes()


def over_processes(model: nn.Module, processes: Processes, device: torch.device) -> None:
    """Let the layers of `model` that look at more than one row look at those of all processes. In place.

    Raises `ValueError` where a layer keeps batch statistics, or drops values, in a way that is not known here.
    """
    for name, child in model.named_children():
        if isinstance(child, _DropoutNd):
            setattr(model, name, _dropout_of_all(child, processes))
            continue
        layer = _norm_of_all(child, device) if _keeps_batch_statistics(child) else child
        setattr(model, name, layer)
        over_processes(layer, processes, device)


def _dropout_of_all(dropout: _DropoutNd, processes: Processes) -> DropoutOfAll:
    if type(dropout) not in (nn.Dropout, nn.Dropout2d):
        kind = f"{type(dropout).__module__}.{type(dropout).__qualname__}"
        instead = "take one worker, or torch's Dropout or Dropout2d"
        raise ValueError(f"several workers cannot draw for each other what a {kind} drops: {instead}")
    return DropoutOfAll(dropout, processes)


def _keeps_batch_statistics(layer: nn.Module) -> bool:
    """Whether it is a batch norm, of torch or otherwise. A frozen one has statistics, and no parameters."""
    trained = any(True for _ in layer.parameters(recurse=False))
    return isinstance(layer, _BatchNorm) or (trained and getattr(layer, "running_var", None) is not None)


def _norm_of_all(norm: nn.Module, device: torch.device) -> nn.Module:
    kind = type(norm)
    activates = (kind.__module__.partition(".")[0], kind.__name__) == ("timm", "BatchNormAct2d")  # without an import
    if not isinstance(norm, _BatchNorm) or not (activates or kind in _OF_TORCH):
        own = f"{kind.__module__}.{kind.__qualname__}"
        raise ValueError(f"several workers cannot share batch statistics of a {own}: take one worker, or torch's norms")
    new = nn.SyncBatchNorm.convert_sync_batchnorm(norm) if device.type == "cuda" else BatchNormOfAll.of(norm)
    if activates:
        new.register_forward_hook(_drop_and_activate)
    return new


def _drop_and_activate(norm: Any, _: tuple[torch.Tensor], normed_BCHW: torch.Tensor) -> torch.Tensor:
    """Let follow what timm's layer has within it, and torch's own has not."""
    activated_BCHW: torch.Tensor = norm.act(norm.drop(normed_BCHW))
    return activated_BCHW


class BatchNormOfAll(_BatchNorm):
    """Batch norm with the statistics of all processes' rows, for the CPU, where torch's own does not run.

    Of rows that are vectors, sequences, maps or volumes.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> BatchNormOfAll:
        """The same layer, its very weights and statistics, over all processes."""
        if any(part is None for part in (norm.weight, norm.bias, norm.running_mean, norm.momentum)):
            raise ValueError(f"on CPUs, several workers need weight, bias, running statistics and momentum of {norm}")
        new = cls(norm.num_features)
        vars(new).update(vars(norm))  # frozen or not, in train mode or not, and with the layers within it
        return new

    def _check_input_dim(self, _: torch.Tensor) -> None:
        """Take whatever the layer that this one replaces took."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels come second."""
        if not self.training:
            return super().forward(x)
        count, exact = x.numel() // self.num_features, self.weight.dtype
        others = [0, *range(2, x.ndim)]
        var_C, mean_C = (s.double() for s in torch.var_mean(x.to(exact), dim=others, correction=0))
        # One message. In float64 the difference of the two large numbers below loses nothing that matters.
        sums = torch.cat([count * mean_C, count * (var_C + mean_C**2), mean_C.new_tensor([count])])
        sum_C, squares_C, total = _Sum.apply(sums).split([self.num_features, self.num_features, 1])
        mean_C = sum_C / total
        var_C = squares_C / total - mean_C**2
        self._remember(mean_C.detach().to(exact), (var_C.detach() * total / (total - 1)).to(exact))
        scale_C = self.weight * (var_C + self.eps).rsqrt().to(exact)
        shift_C = self.bias - mean_C.to(exact) * scale_C
        along = (-1, *[1] * (x.ndim - 2))
        return torch.addcmul(shift_C.view(along), x, scale_C.view(along)).to(x.dtype)

    def _remember(self, mean_C: torch.Tensor, unbiased_C: torch.Tensor) -> None:
        """Move the running statistics as torch's batch norm does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(unbiased_C, self.momentum)


class DropoutOfAll(nn.Module):
    """Dropout of values or of channels that draws for all processes' rows, and takes its own: on a CPU, and of channels
    anywhere, as one process alone would. Of values, a GPU alone draws otherwise: there the masks are others."""

    def __init__(self, alone: _DropoutNd, processes: Processes) -> None:
        super().__init__()
        self.p, self.of_channels, self.processes = alone.p, isinstance(alone, nn.Dropout2d), processes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows come first."""
        if not self.training or not self.p:
            return x
        shape = (x.shape[1], 1, 1) if self.of_channels else x.shape[1:]
        kept = x.new_empty(self.processes.rows, *shape).bernoulli_(1 - self.p).div_(1 - self.p)
        return x * self.processes.mine(kept)
