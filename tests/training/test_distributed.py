"""Two processes of one trial, on the CPU by gloo: what they compute together is what one process computes alone.

Where a number is compared, networks are in float64. In float32 the same holds but for rounding, which a ReLU at 0 and a
batch of 13 turn into differences that would hide a mistake.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.multiprocessing
from PIL import Image

from tests.helpers.clips import TINY
from trainables.data.augment import HALF
from trainables.data.kept import ImageSet
from trainables.data.pools import StreamedPool
from trainables.data.trial_data import Samples, TrialData
from trainables.images.encoded import Encoded
from trainables.mixes.backmix import BackMix
from trainables.models.output import ConvolutionalNetwork, Network
from trainables.objectives import network_of
from trainables.one_trial import Trial
from trainables.processes import ALONE, Processes
from trainables.protocols.protocols import UNKNOWN
from trainables.scoring.evaluation import fit_head
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve
from trainables.storage.folder import Folder
from trainables.training import loop
from trainables.training.checkpoint import Checkpoints
from trainables.training.loop import Trainer
from trainables.training.teacher import load_teacher, untrained_weights

CPU = torch.device("cpu")
WORKERS = 2
BATCH = 13  # one process has seven images of it, the other six
MIXED = {"method": "asymmetric", "mix_probability": 1.0}

PROMPTED = {**TINY, "lr": 0.1, "warmup_epochs": 0}

CASES: dict[str, dict[str, object]] = {
    "plain": {"method": "plain"},
    "dropout": {"method": "plain", "backbone": "vgg32"},
    "randaugment": {"method": "plain", "augment": "randaugment"},
    "cutmix": {"method": "cutmix", "mix_probability": 1.0},
    "backmix": {"method": "backmix"},
    "backmix, maps of raw images": {"method": "backmix", "recipe": "official"},
    "backmix, maps by gradient": {"method": "backmix", "backbone": "vit-ti16"},
    "backmix, raw maps by gradient": {"method": "backmix", "backbone": "vit-ti16", "cam_from": "raw"},
    "distill": {"method": "distill"},
    "distill, mixed": {"method": "distill", "mix": "cutmix", "mix_probability": 1.0, "distillation": "kl"},
    "asymmetric": MIXED,
    "asymmetric, raw": {**MIXED, "mix_probability": 0.0},
    "asymmetric, official": {**MIXED, "recipe": "official"},
    "asymmetric, features": {**MIXED, "cmi_on": "features", "teacher": {"backbone": "wrn10-2"}},
    "asymmetric, features, cutout": {**MIXED, "cmi_on": "features", "mix": "cutout"},
    "cmpkd": {"method": "cmpkd"},
    "proser, backmix": {"method": "proser", "mix": "backmix", "dummies": 2, "manifold_weight": 1.0},
    "openmix, backmix": {"method": "openmix", "mix": "backmix", "openmixup": 1},
    "cmpkd, student": {"method": "cmpkd", "pick_by": "student"},
    "teacher-free": {"method": "teacher-free", "tau_upper": 0.4, "tau_lower": 0.4},
    "oe": {"method": "oe"},
    "catimg": {"method": "catimg"},
    "ftavg": {"method": "ftavg"},
    "cssr": {"method": "cssr", "latent_size": 8},
    "rcssr, backmix": {"method": "rcssr", "latent_size": 8, "mix": "backmix"},
    "rpl, a radius for each class": {"method": "rpl", "radius": "per-class"},
    "arpl, backmix, maps by gradient": {"method": "arpl", "mix": "backmix", "cam": "gradient"},
    "arpl-cs": {"method": "arpl-cs", "gan_width": 4},
    "coop": {"method": "coop", **PROMPTED},
    "locoop, backmix": {"method": "locoop", "mix": "backmix", **PROMPTED},
    "a2pt, backmix": {"method": "a2pt", "mix": "backmix", **PROMPTED},
    "vpt, backmix": {"method": "vpt", "mix": "backmix", **PROMPTED},
}
HALF_OF_THE_STEPS = {"mix_probability": 0.5}  # raw and mixed ones take turns by chance

Result = dict[str, Any]


def trial(case: str, **settings: object) -> TrialConfig:
    base = {"backbone": "wrn10-1", "epochs": 1, "batch_size": BATCH, "split": 1}
    return resolve({**base, **CASES[case], **settings})


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


def in_float64(model: Network) -> Network:
    """The network, whose rounding then has no part in a comparison."""
    model.double().register_forward_pre_hook(lambda _, images: (images[0].double(),))
    if isinstance(model, ConvolutionalNetwork):
        maps = model.maps
        model.maps = lambda images_BCHW: maps(images_BCHW.double())  # type: ignore[method-assign]
    return model


@contextmanager
def exact() -> Iterator[None]:
    def frozen(*of: Any) -> Network | None:
        found = load_teacher(*of)
        return in_float64(found) if found else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "network_of", lambda *network: in_float64(network_of(*network)))
        patch.setattr(loop, "load_teacher", frozen)
        yield


def gradients(case: str, folder: Path, processes: Processes = ALONE) -> Result:
    """Loss, gradients, batch statistics and bank of one batch."""
    with exact():
        trainer = Trainer(trial(case), noise(), CPU, teacher_of(case, folder), processes)
    trainer.objective.double()
    trainer.mix.start_epoch()
    loss = trainer.objective.loss(trainer.trained, torch.arange(BATCH).flip(0))
    loss.backward()
    result: Result = {"loss": loss.detach()}
    result |= {f"network.{name}": p.grad for name, p in trainer.model.named_parameters() if p.requires_grad}
    result |= {f"objective.{i}": p.grad for i, p in enumerate(trainer.objective.parameters())}
    return result | statistics(trainer) | bank(trainer)


def after_an_epoch(case: str, folder: Path, processes: Processes = ALONE) -> Result:
    """Every weight, the batch statistics and the bank, after an epoch of real steps; and what a head of its own then
    finds in the training images."""
    with exact():
        trainer = Trainer(trial(case, **HALF_OF_THE_STEPS), noise(), CPU, teacher_of(case, folder), processes)
    trainer.objective.double()
    result = everything(trainer)
    fit_head(trainer.model, noise().train, CPU, "fp32")
    return result | statistics(trainer)


def statistics(trainer: Trainer) -> Result:
    """Those of batches and heads; frozen towers have none."""
    buffers = trainer.model.named_buffers()
    return {f"statistics.{name}": value for name, value in buffers if not name.startswith("towers.")}


def everything(trainer: Trainer) -> Result:
    """What an epoch leaves of the loss, the network, the objective, the mix and the random numbers."""
    head = list(trainer.model.head.parameters()) if hasattr(trainer.model, "head") else []
    before = [weight.detach().clone() for weight in head]
    result: Result = {"loss": torch.tensor(trainer.epoch())}
    result |= {f"network.{name}": value for name, value in trainer.model.state_dict().items()}
    result |= {f"objective.{i}": p.detach() for i, p in enumerate(trainer.objective.parameters())}
    assert not any(torch.equal(weight, old) for weight, old in zip(head, before, strict=True))
    return result | bank(trainer) | {"dropout": torch.rand(4), "batches": torch.rand(4, generator=trainer.generator)}


def bank(trainer: Trainer) -> Result:
    return {"bank": trainer.mix.bank_Nhw.clone()} if isinstance(trainer.mix, BackMix) else {}


def join(rank: int, folder: Path, name: str) -> Processes:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/{name}", rank=rank, world_size=WORKERS)
    return Processes(rank, WORKERS)


def work(rank: int, folder: Path) -> None:
    """What each process does: all cases, one after the other."""
    processes = join(rank, folder, "meet")
    result = {
        "gradients": {case: gradients(case, folder, processes) for case in CASES},
        "epoch": {case: after_an_epoch(case, folder, processes) for case in CASES},
        "float32": everything(Trainer(trial("plain", lr=0.01), noise(), CPU, processes=processes)),
        "streamed": streamed(folder, processes),
        "told": (processes.broadcast(rank), processes.agree(rank == 0), processes.agree(rank == 1)),
    }
    torch.save(result, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def streamed(folder: Path, processes: Processes = ALONE) -> torch.Tensor:
    """Encoded images in batches of five and two as announced, and three that were not."""
    paths = sorted((folder / "pictures").iterdir())
    source, rows = Encoded(pa.array(map(str, paths)), None, 40), torch.arange(len(paths))
    pool = StreamedPool(source, rows, rows, CPU, 32, HALF, 2, processes)
    batches = rows.flip(0).split(5)
    pool.ahead(batches)
    return torch.cat([pool[ids] for ids in (*batches, torch.tensor([3, 1, 2]))])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    (root / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(7):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{number}.png")
    for case in CASES:
        (root / case).mkdir()
        untrained_weights(trial(case), noise(), root / case)
    return root


@pytest.fixture(scope="module")
def workers(folder: Path) -> list[Result]:
    """What each of two processes found."""
    torch.multiprocessing.spawn(work, (folder,), nprocs=WORKERS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]


def assert_close(together: Result, alone: Result, tolerance: float) -> None:
    """Each whole tensor's error, relative to its norm: single elements are sums that nearly cancel."""
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        if value is None:  # a projection that this batch does not need
            assert together[name] is None, name
        else:
            assert (together[name] - value).double().norm() <= tolerance * value.double().norm(), name


@pytest.mark.parametrize("case", CASES)
def test_two_parts_of_a_batch_give_the_loss_gradients_statistics_and_bank_of_the_whole(
    case: str, workers: list[Result], folder: Path
) -> None:
    alone = gradients(case, folder)
    assert all(value is not None for name, value in alone.items() if name.startswith("network."))
    for worker in workers:
        assert_close(worker["gradients"][case], alone, 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_after_real_steps_two_processes_hold_what_one_does(case: str, workers: list[Result], folder: Path) -> None:
    assert_close(workers[0]["epoch"][case], after_an_epoch(case, folder), 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_after_real_steps_all_processes_hold_the_same_to_the_last_digit(case: str, workers: list[Result]) -> None:
    first, second = (worker["epoch"][case] for worker in workers)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_in_float32_they_differ_by_rounding(workers: list[Result]) -> None:
    torch.set_num_threads(1)  # as the processes have
    alone = everything(Trainer(trial("plain", lr=0.01), noise(), CPU))
    assert_close(workers[0]["float32"], alone, 2e-2)  # of biases, which began at 0; weights agree to 1e-4


def test_each_process_decodes_its_part_of_a_batch_and_has_all_of_it(workers: list[Result], folder: Path) -> None:
    alone = streamed(folder)
    pictures = [np.asarray(Image.open(path)) for path in sorted((folder / "pictures").iterdir())]
    assert np.array_equal(alone, [pictures[i] for i in (6, 5, 4, 3, 2, 1, 0, 3, 1, 2)])
    assert all(torch.equal(worker["streamed"], alone) for worker in workers)


def test_the_first_process_speaks_for_all(workers: list[Result]) -> None:
    assert [worker["told"] for worker in workers] == [(0, True, False)] * WORKERS


@pytest.mark.parametrize(("method", "shared"), [("plain", 13), ("proser, backmix", 6)])  # half of a batch at a time
def test_a_batch_that_not_every_process_has_a_part_of_is_refused(method: str, shared: int) -> None:
    with pytest.raises(ValueError, match=f"{shared + 1} workers cannot share batches of {shared}: take fewer workers"):
        Trainer(trial(method), noise(), CPU, processes=Processes(0, shared + 1))


# Whole trials: two epochs of four steps, judged after each.
WHOLE = {"backbone": "vgg32", "epochs": 2}


def judged() -> TrialData:
    data = noise()
    return replace(data, validation={"known": data.train, "unknown": images(2, 20, np.full(20, UNKNOWN))})


def seen(trial_of_all: Trial, out: Path, processes: Processes, stop_at: float = 99) -> list[tuple[float, int]]:
    """Go through the reports, until the first process says stop: progress and number of metrics of each."""
    result = []
    for report in trial_of_all.reports(out, tick=0.0):
        result.append((report.progress, len(report.metrics)))
        if processes.agree(processes.first and report.progress >= stop_at):
            trial_of_all.save()
            break
    return result


def whole_trials(rank: int, folder: Path) -> None:
    """An uninterrupted trial, and one that stops within its second epoch and goes on in new processes' place."""
    processes = join(rank, folder, "again")
    config, data, out = trial("plain", **WHOLE), judged(), folder / f"out{rank}"
    mine = Checkpoints(Folder.at(folder / f"kept{rank}"))  # the first process's folder is the one that counts

    def start() -> Trial:
        with exact():
            return Trial(config, data, CPU, checkpoints=mine, processes=processes)

    whole = seen(start(), out / "whole", processes)
    mine.clear()
    first = seen(start(), out / "parts", processes, stop_at=1.5)
    resumed = start()
    rest = seen(resumed, out / "parts", processes)
    slow = Trial(config, data, CPU, processes=processes)
    started = time.perf_counter()
    ticks = [r.progress for r in slow.reports(out / "slow", tick=0.2) if not r.metrics]
    seconds = time.perf_counter() - started
    result = {"whole": whole, "first": first, "rest": rest, "resumed": resumed.resumed_epoch}
    torch.save({**result, "ticks": ticks, "seconds": seconds}, folder / f"trial{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def trials(folder: Path) -> list[Result]:
    torch.multiprocessing.spawn(whole_trials, (folder,), nprocs=WORKERS)
    return [torch.load(folder / f"trial{rank}.pt", weights_only=True) for rank in range(WORKERS)]


def test_all_processes_go_through_the_same_reports(trials: list[Result]) -> None:
    first, second = ([progress for progress, _ in t["whole"]] for t in trials)
    assert first == second
    assert [p for p in first if p == int(p)] == [1, 2]
    assert trials[0]["ticks"] == trials[1]["ticks"]


def test_ticks_come_about_as_often_as_was_asked(trials: list[Result]) -> None:
    assert 1 <= len(trials[0]["ticks"]) <= trials[0]["seconds"] / 0.2


def test_a_stopped_trial_goes_on_from_the_first_process_checkpoint_to_the_same_end(
    trials: list[Result], folder: Path
) -> None:
    assert [t["resumed"] for t in trials] == [1.5, 1.5]
    assert [[progress for progress, _ in [*t["first"], *t["rest"]]] for t in trials] == [
        [progress for progress, _ in t["whole"]] for t in trials
    ]
    for name in ("weights.pt", "scores.parquet"):
        whole, parts = (folder / "out0" / run / name for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_the_first_process_alone_evaluates_and_writes(trials: list[Result], folder: Path) -> None:
    assert min(number for _, number in trials[0]["whole"] if number) > 4
    assert max(number for _, number in trials[1]["whole"]) == 4  # loss, rate, speed, seconds
    assert not (folder / "out1").exists()
    assert not (folder / "kept1").exists()


def test_the_weights_do_not_depend_on_the_number_of_processes(trials: list[Result], folder: Path) -> None:
    with exact():
        alone = Trial(trial("plain", **WHOLE), judged(), CPU)
    list(alone.reports(folder / "alone"))
    one, two = (torch.load(folder / out / "weights.pt", weights_only=True) for out in ("alone", "out0/whole"))
    assert_close(two, one, 1e-6)
