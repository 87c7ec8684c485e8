"""Two processes of one trial, on the CPU by gloo: what they compute together is what one process computes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import nn

from trainables.config import TrialConfig
from trainables.data.sets import ImageSet
from trainables.data.trial_data import UNKNOWN, Samples, TrialData
from trainables.distributed import ALONE, Processes
from trainables.learners.backmix import BackMix
from trainables.models.vit import ViT
from trainables.teacher import untrained_weights
from trainables.training import Trainer

CPU = torch.device("cpu")
WORKERS = 2
BATCH = 12
MIXED = {"method": "asymmetric", "mix_probability": 1.0}

CASES: dict[str, dict[str, object]] = {
    "plain": {"method": "plain"},
    "cutmix": {"method": "cutmix", "mix_probability": 1.0},
    "backmix": {"method": "backmix"},
    "backmix, maps of raw images": {"method": "backmix", "recipe": "official"},
    "backmix, maps by gradient": {"method": "backmix", "backbone": "vit-ti8"},
    "backmix, raw maps by gradient": {"method": "backmix", "backbone": "vit-ti8", "cam_from": "raw"},
    "distill": {"method": "distill"},
    "distill, mixed": {"method": "distill", "mix": "cutmix", "mix_probability": 1.0, "distillation": "kl"},
    "asymmetric": MIXED,
    "asymmetric, raw": {**MIXED, "mix_probability": 0.0},
    "asymmetric, official": {**MIXED, "recipe": "official"},
    "asymmetric, features": {**MIXED, "cmi_on": "features", "teacher": {"backbone": "wrn10-2"}},
    "asymmetric, features, cutout": {**MIXED, "cmi_on": "features", "mix": "cutout"},
    "teacher-free": {"method": "teacher-free", "tau_upper": 0.4, "tau_lower": 0.4},
    "oe": {"method": "oe"},
    "catimg": {"method": "catimg"},
    "ftavg": {"method": "ftavg"},
}
HALF_OF_THE_STEPS = {"mix_probability": 0.5}  # raw and mixed ones take turns by chance
SEVERAL_STEPS = ("backmix", "backmix, maps of raw images", "asymmetric, features", "asymmetric, features, cutout")

Result = dict[str, Any]


def trial(case: str, **settings: object) -> TrialConfig:
    base = {"backbone": "wrn10-1", "epochs": 1, "batch_size": BATCH, "split": 1}
    return TrialConfig.from_settings({**base, **CASES[case], **settings})


def images(seed: int, count: int, labels: np.ndarray) -> Samples:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Samples(
        ImageSet("noise", pixels, labels, np.arange(count), "noise", 0, "drawn here"), np.arange(count), labels
    )


def noise() -> TrialData:
    count = 4 * BATCH
    known = images(0, count, np.arange(count) % 3)
    return TrialData((0, 1, 2), 32, True, known, outliers=images(1, count, np.full(count, UNKNOWN)))


def teacher_of(case: str, folder: Path) -> Path | None:
    """Weights of the right shape, as `case` has them in its own folder."""
    path = folder / case / "untrained.pt"
    return path if path.is_file() else None


def gradients(case: str, folder: Path, processes: Processes = ALONE) -> Result:
    """Loss, gradients and bank of one batch, with batch norm frozen: its statistics are of each process's own part."""
    trainer = Trainer(trial(case), noise(), CPU, teacher_of(case, folder), processes)
    trainer.model.train()
    for module in trainer.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    if isinstance(trainer.model, ViT):  # its head is 0 at first: no gradient and no map would reach beyond it
        nn.init.normal_(trainer.model.body.heads.head.weight, generator=torch.Generator().manual_seed(0))
    trainer.learner.start_epoch()
    loss = trainer.learner.loss(trainer.trained, torch.arange(BATCH).flip(0))
    loss.backward()
    result: Result = {"loss": loss.detach()}
    result |= {f"network.{name}": p.grad for name, p in trainer.model.named_parameters()}
    result |= {f"learner.{i}": p.grad for i, p in enumerate(trainer.learner.parameters())}
    return result | bank(trainer)


def after_an_epoch(case: str, folder: Path, processes: Processes) -> Result:
    """Every weight and the bank, after an epoch of real steps."""
    trainer = Trainer(trial(case, **HALF_OF_THE_STEPS), noise(), CPU, teacher_of(case, folder), processes)
    before = trainer.model.head.weight.detach().clone()
    result: Result = {"loss": trainer.epoch(), "moved": not torch.equal(before, trainer.model.head.weight)}
    result |= {f"network.{name}": p.detach() for name, p in trainer.model.named_parameters()}
    result |= {f"learner.{i}": p.detach() for i, p in enumerate(trainer.learner.parameters())}
    return result | bank(trainer)


def bank(trainer: Trainer) -> Result:
    return {"bank": trainer.learner.bank_Nhw.clone()} if isinstance(trainer.learner, BackMix) else {}


def work(rank: int, folder: Path) -> None:
    """What each process does: all cases, one after the other."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=WORKERS)
    processes = Processes(rank, WORKERS)
    Trainer(trial("plain", backbone="vgg32"), noise(), CPU, processes=processes)
    result = {
        "dropped": nn.functional.dropout(torch.ones(100)),
        "gradients": {case: gradients(case, folder, processes) for case in CASES},
        "epoch": {case: after_an_epoch(case, folder, processes) for case in SEVERAL_STEPS},
    }
    torch.save(result, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    for case in CASES:
        (root / case).mkdir()
        untrained_weights(trial(case), noise(), root / case)
    return root


@pytest.fixture(scope="module")
def workers(folder: Path) -> list[Result]:
    """What each of two processes found."""
    torch.multiprocessing.spawn(work, (folder,), nprocs=WORKERS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.parametrize("rank", range(WORKERS))
@pytest.mark.parametrize("case", CASES)
def test_two_halves_of_a_batch_give_the_loss_gradients_and_bank_of_the_whole(
    case: str, rank: int, workers: list[Result], folder: Path
) -> None:
    alone = gradients(case, folder)
    together = workers[rank]["gradients"][case]
    assert all(value is not None for name, value in alone.items() if name.startswith("network."))
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        if value is None:  # a projection that this batch does not need
            assert together[name] is None, name
        else:  # the whole tensor's error: single elements are sums that nearly cancel
            assert (together[name] - value).norm() <= 1e-3 * value.norm() + 1e-7, name


@pytest.mark.parametrize("case", SEVERAL_STEPS)
def test_after_real_steps_all_processes_hold_the_same_weights_and_bank(case: str, workers: list[Result]) -> None:
    first, second = (worker["epoch"][case] for worker in workers)
    assert first["moved"]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_each_process_drops_channels_of_its_own(workers: list[Result]) -> None:
    assert not torch.equal(workers[0]["dropped"], workers[1]["dropped"])
