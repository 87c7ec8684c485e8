"""How fast a trial trains beside a bare step of the same network, what a step is made of, and what compiling gives."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.selfcheck.timing import ON_CPU, SMALL, USUAL, Workload, as_trained, bare, peak, rate, trainer_for
from trainables.selfcheck.told import Line, Scope, heading, reason, row
from trainables.training.loop import Trainer

METHODS = ("plain", "backmix", "asymmetric")


def speed(scope: Scope) -> Iterator[Line]:
    """Images a second, and memory, of the real step and of a bare one."""
    yield Line(
        "Images a second (± half of the range of 3 windows). `bare`: forward, cross-entropy, backward and update on "
        "fixed images; the others: the trainer's step, with images on the device. fp32 with TF32 convolutions, as "
        "torch has them. MiB: the most that tensors took, images included."
    )
    yield from heading("network", "precision", "step", "images/s", "of bare", "MiB", "")
    networks = [(n, p) for p in ("bf16", "fp32") for n in USUAL] + [(n, "bf16") for n in SMALL]
    for network, kind in networks if scope.on_gpu else [(ON_CPU, "fp32")]:
        whole = 0.0
        for method in ("bare", *METHODS):
            try:
                _empty(scope)
                trainer = trainer_for(network, "plain" if method == "bare" else method, kind, scope)
                step = bare(trainer) if method == "bare" else as_trained(trainer)
                found = rate(step, network.batch_size, scope)
            except Exception as error:
                yield row(network, kind, method, "", "", "", reason(error), failed=True)
                continue
            whole = found.images if method == "bare" else whole
            yield row(network, kind, method, found, f"{found.images / whole:.0%}" if whole else "", peak(scope), "")
            del trainer, step


def _empty(scope: Scope) -> None:
    """Forget what the last network held."""
    gc.collect()
    if scope.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


PROFILED = 5  # steps


def profile(scope: Scope) -> Iterator[Line]:
    """Kernels of a step, how busy they keep the device, and which take longest."""
    if not scope.on_gpu:
        yield Line("Kernels run on a device alone.")
        return
    yield from heading("network", "step", "kernels a step", "ms a step", "GPU busy", "longest, with their share")
    for network in (USUAL[0], USUAL[1], SMALL[1]):
        for method in METHODS:
            try:
                step = as_trained(trainer_for(network, method, "bf16", scope))
                kernels, ms, busy, longest = _profiled(step)
            except Exception as error:
                yield row(network, method, "", "", "", reason(error), failed=True)
                continue
            yield row(network, method, f"{kernels:.0f}", f"{ms:.1f}", f"{busy:.0%}", longest)


def _profiled(step: Callable[[], Any]) -> tuple[float, float, float, str]:
    """Kernels and ms a step, the share of the time that one of them runs, and the five longest."""
    for _ in range(12):
        step()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(4 * PROFILED):
        step()
    torch.cuda.synchronize()
    ms = 1000 * (time.perf_counter() - started) / (4 * PROFILED)  # without what the profiler itself costs
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profiler:
        for _ in range(PROFILED):
            step()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    kernels = [e for e in events if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    taken: Counter[str] = Counter()
    for event in kernels:
        taken[event["name"]] += event["dur"]
    total = taken.total()
    longest = "; ".join(f"{_short(name)} {time / total:.0%}" for name, time in taken.most_common(5))
    return len(kernels) / PROFILED, ms, min(1.0, total / PROFILED / 1000 / ms), longest


def _short(name: str) -> str:
    """Of a kernel's name, what tells it from others."""
    plain = name.removeprefix("void ").replace("at::native::", "").replace("(anonymous namespace)::", "")
    return f"`{plain[:60]}`"


def captured(scope: Scope) -> Iterator[Line]:
    """A whole step as one CUDA graph: what is left where the host need not launch kernels."""
    if not scope.on_gpu:
        yield Line("CUDA graphs are a GPU's.")
        return
    yield Line(
        "The same kernels, launched as one: `plain` and `backmix` are the trainer's whole step, draws included, with "
        "the learning rate of the capture. `loss`: relative difference to the eager step's, after 5 bare steps."
    )
    yield from heading("network", "step", "eager images/s", "captured images/s", "gain", "loss", "MiB", "")
    for network in (USUAL[0], *SMALL):
        for method in ("bare", "plain", "backmix"):
            try:
                _empty(scope)
                yield _captured(network, method, scope)
            except Exception as error:
                yield row(network, method, "", "", "", "", "", reason(error), failed=True)
                torch.cuda.synchronize()


def _captured(network: Workload, method: str, scope: Scope) -> Line:
    make = "plain" if method == "bare" else method
    eager = trainer_for(network, make, "bf16", scope)
    before = rate(bare(eager) if method == "bare" else as_trained(eager), network.batch_size, scope)
    trainer = trainer_for(network, make, "bf16", scope)
    ids = trainer.begin_epoch().order[: network.batch_size].clone()
    step = bare(trainer) if method == "bare" else lambda: trainer.step(ids)
    graph, loss = _graph(step, trainer)
    apart = ""
    if method == "bare":
        other = bare(trainer_for(network, make, "bf16", scope))
        for _ in range(3 + 5):
            expected = other()
        for _ in range(5):
            graph.replay()
        apart = f"{abs(loss.item() - expected.item()) / abs(expected.item()):.1e}"
    after = rate(graph.replay, network.batch_size, scope)
    cells = (before, after, f"{after.images / before.images:.2f} ×", apart, peak(scope))
    return row(network, method, *cells, "")


def _graph(step: Callable[[], torch.Tensor], trainer: Trainer) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    """The step captured after three that were taken, and where its loss is."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(trainer.generator)
    with torch.cuda.graph(graph):
        loss = step()
    return graph, loss


MODES: dict[str, dict[str, Any]] = {"compiled": {}, "compiled, CUDA graphs": {"mode": "reduce-overhead"}}


def compiled(scope: Scope) -> Iterator[Line]:
    """What torch.compile of the network gives a bare step and BackMix's, and how far its numbers are."""
    if not scope.on_gpu:
        yield Line("Compiling is measured where it is meant to pay: on a GPU.")
        return
    yield Line(
        "The network compiled, the rest of a step as it is. `loss`, `gradient`: relative differences to the eager "
        "network, same weights and images."
    )
    yield from heading(
        "network", "precision", "", "first step, s", "bare images/s", "backmix images/s", "loss", "gradient", "MiB", ""
    )
    took = 0.0
    for kind in ("bf16", "fp32"):
        for mode, options in MODES.items():
            for network in USUAL:
                if scope.until - time.monotonic() < 1.3 * took + 20:
                    yield row(network, kind, mode, "", "", "", "", "", "", "left out: no time")
                    continue
                started = time.monotonic()
                try:
                    _empty(scope)
                    torch._dynamo.reset()
                    yield _compiled(network, kind, mode, options, scope)
                except Exception as error:
                    yield row(network, kind, mode, "", "", "", "", "", "", reason(error), failed=True)
                took = max(took, time.monotonic() - started)


def _compiled(network: Workload, kind: str, mode: str, options: dict[str, Any], scope: Scope) -> Line:
    trainer = trainer_for(network, "backmix", kind, scope)
    torch.backends.cudnn.allow_tf32 = False
    expected = _loss_and_gradient(bare(trainer), trainer)
    trainer = trainer_for(network, "backmix", kind, scope)
    network_compiled: nn.Module = torch.compile(trainer.model, **options)  # type: ignore[assignment]
    trainer.trained = network_compiled
    step = bare(trainer, trainer.trained)
    started = time.perf_counter()
    found = _loss_and_gradient(step, trainer)
    first = time.perf_counter() - started
    torch.backends.cudnn.allow_tf32 = True
    peak(scope)
    plain = rate(step, network.batch_size, scope)
    backmix = rate(as_trained(trainer), network.batch_size, scope)
    loss, gradient = (float((a - b).norm() / a.norm()) for a, b in zip(expected, found, strict=True))
    cells = (f"{first:.0f}", plain, backmix, f"{loss:.1e}", f"{gradient:.1e}", peak(scope))
    return row(network, kind, mode, *cells, "")


def _loss_and_gradient(step: Callable[[], torch.Tensor], trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor]:
    loss = step().double().cpu()
    each = [p.grad.flatten().double().cpu() for p in trainer.model.parameters() if p.grad is not None]
    return loss, torch.cat(each)
