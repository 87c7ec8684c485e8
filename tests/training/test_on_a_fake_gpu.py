"""Every objective and mix, backbones and augmentations, all scores and checkpoints, on a GPU that is not there.

Forward passes, losses and updates: without a driver, torch takes no gradient of tensors on a GPU.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.fake_gpu import CUDA, FakeGPU, ReadBackError, gpu, nothing_read
from trainables.mixes.base import TrainingImages
from trainables.one_trial import Trial
from trainables.selfcheck.subjects import batches_of, cases, drawn, small, trainer_of
from trainables.settings.config import TrialConfig
from trainables.settings.mixes import NoMixSettings
from trainables.settings.score_names import EXTRA_SCORES
from trainables.training.loop import Trainer

__all__ = ["gpu"]
CASES = cases(quick=False)
BACKBONES = ("resnet50", "vgg13")  # and those among the cases


def steps(trainer: Trainer, gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a batch in bf16, and of a raw one where a coin may choose it, while nothing may wait for the GPU."""
    sides: Iterator[bool] = cycle([True, True, False])
    alone = not trainer.config.objective_settings.refuses(NoMixSettings())  # then a raw batch has a case of its own
    sorts = 1 if alone else 2
    monkeypatch.setattr(TrainingImages, "coin", lambda self, probability: next(sides))
    first, *batches = batches_of(trainer)[:3]
    trainer.mix.batch(first)  # what is copied to the device once
    for ids in batches[:sorts]:
        with nothing_read(gpu), torch.autocast("cuda", torch.bfloat16):
            loss = trainer.objective.loss(trainer.trained, ids)
        assert (loss.shape, loss.device.type, loss.dtype) == ((), "cuda", torch.float32)
        assert loss.requires_grad


@pytest.mark.parametrize("name", CASES)
def test_a_step(name: str, gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(trainer_of(CASES[name], drawn(48, 32), CUDA), gpu, monkeypatch)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_of_a_backbone(backbone: str, gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 64 if backbone == "vgg13" else 32
    method = "plain" if backbone.startswith("vgg1") else "backmix"
    config = small(method=method, backbone=backbone, image_size=size)
    steps(trainer_of(config, drawn(48, size), CUDA), gpu, monkeypatch)


def test_an_update(gpu: FakeGPU) -> None:
    for optimizer in ("sgd", "adam"):
        trainer = updated(small(method="plain", optimizer=optimizer), gpu)
        assert all(value.device.type == "cuda" for value in _tensors(trainer.optimizer.state_dict()) if value.dim())


def updated(config: TrialConfig, gpu: FakeGPU) -> Trainer:
    """A trainer whose optimiser has taken two steps, as if there had been gradients."""
    trainer = trainer_of(config, drawn(48, 32), CUDA)
    for parameter in [*trainer.model.parameters(), *trainer.objective.parameters()]:
        parameter.grad = torch.empty_like(parameter)
    for _ in range(2):
        with nothing_read(gpu):
            trainer.optimizer.step()
            trainer.schedule.step()
    return trainer


@pytest.mark.parametrize("method", ["backmix", "asymmetric"])
def test_a_checkpoint_moves_to_the_host_and_back(method: str, gpu: FakeGPU) -> None:
    config = small(method=method, **({"cmi_on": "features"} if method == "asymmetric" else {}))
    trainer = updated(config, gpu)
    trainer.begin_epoch().steps = 1
    kept = io.BytesIO()
    torch.save(trainer.state(), kept)
    kept.seek(0)
    other = trainer_of(config, drawn(48, 32), CUDA)
    other.load_state(torch.load(kept, map_location="cpu", weights_only=True))
    assert other.under_way is not None
    assert other.under_way.steps == 1
    assert other.under_way.order.device.type == "cuda"
    for ids in batches_of(other)[1:]:
        other.objective.loss(other.trained, ids)


def test_an_evaluation_with_every_score(gpu: FakeGPU, tmp_path: Path) -> None:
    config = small(method="plain", extra_scores=list(EXTRA_SCORES), epochs=1, precision="bf16")
    data = drawn(48, 32)
    unknown = replace(drawn(20, 32).train, labels=drawn(20, 32).train.labels * 0 - 1)
    judged = {"known": data.train, "unknown": unknown}
    trial = Trial(config, replace(data, test=judged, validation=judged), CUDA)
    trial.trainer.begin_epoch().steps = trial.trainer.steps_per_epoch  # as if it had been trained
    trial.trainer.under_way.seconds = 1.0  # type: ignore[union-attr]
    (report,) = trial.reports(tmp_path)
    assert {f"test/unknown/{score}/auroc" for score in ("msp", "mls", "energy", *EXTRA_SCORES)} <= report.metrics.keys()


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _tensors(value)


def test_a_read_back_and_a_tensor_of_the_host_are_found(gpu: FakeGPU) -> None:
    values = torch.rand(3, device=CUDA)
    with nothing_read(gpu):
        with pytest.raises(ReadBackError):
            values.sum().item()
        with pytest.raises(ReadBackError):
            values.cpu()
        with pytest.raises(ReadBackError):
            torch.rand(3).to(CUDA)
        with pytest.raises(RuntimeError, match="on the GPU and on the host"):
            values + torch.rand(3)
        with pytest.raises(RuntimeError, match="on the GPU and on the host"):
            values[torch.tensor([0, 1])]
        with pytest.raises(Exception, match="nonzero"):
            values[values > 0]
