"""Whether two trials train on one GPU at a time, each in a process of its own, as several trials of a sweep do."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from trainables.selfcheck.timing import USUAL, Workload, as_trained, trainer_for
from trainables.selfcheck.told import Line, Scope, heading, reason, row


class Shared(NamedTuple):
    """What one of the trials had."""

    images: float  # a second
    tensors: float  # MiB at most
    reserved: float  # MiB that torch took from the device for them


def sharing(scope: Scope) -> Iterator[Line]:
    if not scope.on_gpu:
        yield Line("Two processes share a GPU where there is one.")
        return
    yield Line(
        "BackMix in bf16. `tensors` and `reserved`: the most of each process, in MiB; `on the device`: what is taken "
        "of it in all, the processes' contexts included."
    )
    yield from heading("network", "trials", "images/s of each", "in all", "tensors", "reserved", "on the device", "")
    for network in USUAL[:1]:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(2)]
        processes = [context.Process(target=_trial, args=(network, scope, its)) for _, its in pipes]
        for process in processes:
            process.start()
        try:
            yield from _runs(network, [mine for mine, _ in pipes])
        except Exception as error:
            yield row(network, "", "", "", "", "", "", reason(error), failed=True)
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()


def _runs(network: Workload, trials: list[Connection]) -> Iterator[Line]:
    """One of the trials alone, then both."""
    for trial in trials:
        _answer(trial)  # it is warm
    for chosen in (trials[:1], trials):
        for trial in chosen:
            trial.send(True)
        found: list[Shared] = [_answer(trial) for trial in chosen]
        free, total = torch.cuda.mem_get_info()
        images, tensors, reserved = (
            ", ".join(f"{value:,.0f}" for value in values) for values in zip(*found, strict=True)
        )
        whole = f"{sum(f.images for f in found):,.0f}"
        yield row(network, len(chosen), images, whole, tensors, reserved, f"{(total - free) / 2**20:,.0f}", "")
    for trial in trials:
        trial.send(False)


def _answer(trial: Connection) -> Shared:
    if not trial.poll(60):
        raise TimeoutError("a trial did not answer within 60 s")
    said = trial.recv()
    if isinstance(said, str):
        raise RuntimeError(said)
    return Shared(*said)


def _trial(network: Workload, scope: Scope, to: Connection) -> None:
    """Train for a few seconds each time that it is told to."""
    seconds = 2.0 if scope.quick else 4.0
    try:
        step = as_trained(trainer_for(network, "backmix", "bf16", scope))
        for _ in range(12):
            step()
        torch.cuda.synchronize()
        to.send((0.0, 0.0, 0.0))
        while to.recv():
            torch.cuda.reset_peak_memory_stats()
            steps, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                for _ in range(5):
                    step()
                torch.cuda.synchronize()
                steps += 5
            images = steps * network.batch_size / (time.perf_counter() - started)
            most = (torch.cuda.max_memory_allocated() / 2**20, torch.cuda.max_memory_reserved() / 2**20)
            to.send((images, *most))
    except Exception as error:
        to.send(reason(error))
