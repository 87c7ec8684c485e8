"""Whether a step computes the same on the GPU as on the CPU: two steps of every method from the same weights, on the
same images, with the same random numbers.

Generators of two devices draw different numbers, so those that the CPU drew are handed out again on the GPU, in the
order in which they are asked for. Without a GPU, torch's own convolutions stand in for it beside those of oneDNN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.data.trial_data import TrialData
from trainables.selfcheck.subjects import AUGMENTED, batches_of, cases, drawn, trainer_of
from trainables.selfcheck.told import Line, Scope, heading, reason, row
from trainables.settings.config import TrialConfig

STEPS = 2
CPU = torch.device("cpu")
# The largest relative differences: in float32 of the first loss and of its gradient, in which an activation that rounds
# to the other side of a ReLU shows; in float64, of whatever differs most, though images and maps stay float32.
TOLERANCE = (1e-4, 5e-2, 1e-4)
LOOSE = (2e-2, 2e-1, 2e-1)  # where some pixels are read half-way between two others


class Draws(TorchDispatchMode):
    """Keeps every random number that is drawn while it is open, or puts those of an earlier run in its place."""

    def __init__(self, earlier: Sequence[torch.Tensor] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: list[torch.Tensor] = []
        self.earlier = None if earlier is None else iter(earlier)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # Attention and fused dropout, which may draw too, give several tensors.
        if torch.Tag.nondeterministic_seeded not in func.tags or not isinstance(result, torch.Tensor):
            return result
        if self.earlier is None:
            self.kept.append(result.detach().clone())
            return result
        drawn = next(self.earlier, None)
        if drawn is None or drawn.shape != result.shape:
            raise RuntimeError(f"the CPU drew other numbers: {func} of {tuple(result.shape)} is not among them")
        return result.copy_(drawn)


@dataclass
class Steps:
    """What a few steps of a trial gave, on the CPU."""

    losses: list[float] = field(default_factory=list)
    gradient: torch.Tensor = field(default_factory=lambda: torch.zeros(0))  # of the first loss
    change: torch.Tensor = field(default_factory=lambda: torch.zeros(0))  # of all weights


def agreement(scope: Scope) -> Iterator[Line]:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    other = str(scope.device) if scope.on_gpu else "the CPU without oneDNN"
    yield Line(
        f"The same weights, images and draws on the CPU and on {other}; TF32 off. Relative differences: in float32 of "
        f"the first loss and its gradient, in float64 the largest of loss, gradient and weights in {STEPS} steps. At "
        f"most {', '.join(f'{t:g}' for t in TOLERANCE)}; augmented {', '.join(f'{t:g}' for t in LOOSE)}."
    )
    yield from heading("method", "loss", "gradient", f"float64, {STEPS} steps", "")
    for name, config in cases(scope.quick).items():
        allowed = LOOSE if name in AUGMENTED else TOLERANCE
        data = drawn(96, 16 if scope.quick and config.objective != "arpl-cs" else 32)  # its discriminator needs 32 px
        try:
            found = differences(config, data, scope.device)
        except Exception as error:
            yield row(name, "", "", "", reason(error), failed=True)
            continue
        good = all(f <= most for f, most in zip(found, allowed, strict=True))  # NaN is not
        yield row(name, *(f"{f:.1e}" for f in found), "" if good else "differs", failed=not good)


def differences(config: TrialConfig, data: TrialData, device: torch.device) -> tuple[float, float, float]:
    """Of the first loss and of its gradient in float32, and the largest of all in float64, relative to the CPU's."""
    one, other = _both(config, data, device, torch.float32)
    exact, near = _both(config, data, device, torch.float64)
    largest = max(
        *(_apart(a, b) for a, b in zip(exact.losses, near.losses, strict=True)),
        _relative(exact.gradient, near.gradient),
        _relative(exact.change, near.change),
    )
    return _apart(one.losses[0], other.losses[0]), _relative(one.gradient, other.gradient), largest


def _both(config: TrialConfig, data: TrialData, device: torch.device, dtype: torch.dtype) -> tuple[Steps, Steps]:
    """The steps on the CPU, and on the device with the CPU's draws."""
    with Draws() as draws:
        one = steps_of(config, data, CPU, dtype)
    native = nullcontext() if device.type == "cuda" else torch.backends.mkldnn.flags(enabled=False)
    with native, Draws(draws.kept):
        return one, steps_of(config, data, device, dtype)


def steps_of(config: TrialConfig, data: TrialData, device: torch.device, dtype: torch.dtype) -> Steps:
    """A few steps of a new trial, whose networks compute in `dtype`."""
    trainer = trainer_of(config, data, device)
    torch.backends.cudnn.benchmark = False  # to try algorithms for each small shape takes the longest
    for module in (trainer.model, trainer.objective, trainer.objective.given.teacher):
        if module is not None:
            module.to(dtype)
            module.register_forward_pre_hook(lambda _, images: images[0].to(dtype))
    trained = [*trainer.model.parameters(), *trainer.objective.parameters()]
    before, told = _flat(trained), Steps()
    for ids in batches_of(trainer)[:STEPS]:
        told.losses.append(trainer.step(ids).item())
        if not len(told.gradient):
            told.gradient = _flat([p.grad for p in trained if p.grad is not None])
    told.change = _flat(trained) - before
    return told


def _apart(one: float, other: float) -> float:
    return abs(one - other) / max(abs(one), 1e-6)


def _flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.detach().flatten().double().cpu() for t in tensors])


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / one.norm().clamp_min(1e-12))
