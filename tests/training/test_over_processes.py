"""Layers of one network on several processes: what was within a batch norm stays, and what is not known is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from timm.layers import BatchNormAct2d, EvoNorm2dB0, SplitBatchNorm2d
from torch import nn

from trainables.models import build_model
from trainables.processes import Processes, over_processes

CPU = torch.device("cpu")
ALONE = Processes(0, 1)
WORKERS, ROWS = 2, 7  # one process has four rows, the other three

NORMS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "vectors": (nn.BatchNorm1d, (6,)),
    "sequences": (nn.BatchNorm1d, (6, 5)),
    "maps, and timm's activation": (BatchNormAct2d, (6, 3, 2)),
    "volumes": (nn.BatchNorm3d, (6, 2, 3, 2)),
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "densenet121"])
def test_a_network_of_timm_says_the_same_and_has_the_same_keys(name: str, device: str) -> None:
    torch.manual_seed(0)
    network = build_model(f"timm:{name}", 4, 32).eval()
    shared = copy.deepcopy(network)
    over_processes(shared, ALONE, torch.device(device))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(shared(images).logits_BK, network(images).logits_BK, rtol=0, atol=0)
    assert shared.state_dict().keys() == network.state_dict().keys()


def seen(norm: nn.Module, rows: torch.Tensor, processes: Processes = ALONE) -> dict[str, Any]:
    """What a norm in train mode gives for this process's rows, the gradients of them, and its statistics after."""
    mine = processes.mine(rows).requires_grad_()
    normed = norm(mine)
    weight = torch.linspace(-1, 1, rows.numel(), dtype=rows.dtype).view_as(rows)
    (processes.gather(normed) * weight).square().sum().div(processes.size).backward()
    assert mine.grad is not None
    parts = {"normed": processes.gather(normed), "gradient": processes.gather(mine.grad)}
    return {name: part.detach() for name, part in parts.items()} | dict(norm.named_buffers())


def rows_and_norm(name: str) -> tuple[torch.Tensor, nn.Module]:
    torch.manual_seed(1)
    kind, shape = NORMS[name]
    norm = kind(6).double()
    nn.init.normal_(norm.get_parameter("weight"))
    return torch.randn(ROWS, *shape, dtype=torch.float64), norm


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=WORKERS)
    result = {}
    for name in NORMS:
        rows, norm = rows_and_norm(name)
        network = nn.Sequential(norm)
        over_processes(network, Processes(rank, WORKERS), CPU)
        result[name] = seen(network[0], rows, Processes(rank, WORKERS))
    torch.save(result, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("norms")
    torch.multiprocessing.spawn(work, (folder,), nprocs=WORKERS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.parametrize("name", NORMS)
def test_two_processes_normalise_as_one(name: str, workers: list[dict[str, Any]]) -> None:
    rows, norm = rows_and_norm(name)
    alone = seen(norm, rows)
    for worker in workers:
        torch.testing.assert_close(worker[name], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_frozen_norm_stays_frozen(device: str) -> None:
    network = nn.Sequential(nn.BatchNorm2d(3)).requires_grad_(False).eval()
    over_processes(network, ALONE, torch.device(device))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network[0].training


class OwnNorm(nn.BatchNorm2d):
    """A norm of somebody's own."""


@pytest.mark.parametrize("kind", [OwnNorm, SplitBatchNorm2d, EvoNorm2dB0])
def test_a_norm_that_is_not_known_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=f"several workers cannot share batch statistics of a .*{kind.__name__}: take"):
        over_processes(nn.Sequential(nn.Sequential(kind(4))), ALONE, CPU)


def test_a_norm_without_weights_is_refused_on_the_cpu() -> None:
    with pytest.raises(ValueError, match=r"on CPUs, several workers need weight, .* of BatchNorm1d"):
        over_processes(nn.Sequential(nn.BatchNorm1d(4, affine=False)), ALONE, CPU)


class OwnDropout(nn.Dropout):
    """A dropout of somebody's own."""


@pytest.mark.parametrize("kind", [nn.Dropout1d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, OwnDropout])
def test_a_dropout_that_is_not_known_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=f"several workers cannot draw for each other what a .*{kind.__name__} drops"):
        over_processes(nn.Sequential(nn.Sequential(kind())), ALONE, CPU)
