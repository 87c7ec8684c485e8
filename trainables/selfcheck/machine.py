"""What the machine is, and which versions of what run on it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from trainables.selfcheck.told import Line, Scope, heading, row


def machine(scope: Scope) -> Iterator[Line]:
    yield from heading("machine", "")
    if scope.on_gpu:
        of = torch.cuda.get_device_properties(scope.device)
        yield row("GPU", f"{of.name}, {of.total_memory / 2**30:.0f} GiB, {of.multi_processor_count} multiprocessors")
        yield row("driver", _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"))
        yield row("compute capability", f"{of.major}.{of.minor}, bf16: {torch.cuda.is_bf16_supported()}")
    else:
        yield row("GPU", "none: only what a CPU can show is checked")
    yield row("CPU", f"{_processor()}, {os.cpu_count()} cores, torch uses {torch.get_num_threads()}")
    yield row("Python", sys.version.split()[0])
    yield row("torch", f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    for package in ("torchvision", "numpy", "triton"):
        yield row(package, _version(package))
    yield row("code", _code())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _code() -> str:
    """The commit, where it is one's own copy of git, and a digest of the sources of `trainables`, which always is."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    commit = _said("git", "-C", str(folder), "rev-parse", "--short=12", "HEAD")
    changed = _said("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}{', changed' if changed not in ('', '–') else ''}, sources {digest.hexdigest()[:12]}"


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "–"
    return done.stdout.strip().replace("\n", ", ")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
