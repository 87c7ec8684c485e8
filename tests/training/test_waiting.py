"""A training step never waits for the device: nothing is read back, no shape depends on values."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.clips import TINY
from tests.helpers.reads import NothingReadBack
from tests.helpers.squares import config, squares
from trainables.settings.methods import METHODS
from trainables.settings.objectives import OBJECTIVES
from trainables.training.loop import Trainer
from trainables.training.teacher import untrained_weights

OFFICIAL = ["plain", "cutout", "mixup", "cutmix", "decoupled-cutmix", "backmix", "distill", "asymmetric"]
TRAINED = [method for method in METHODS if method != "clip"]
STEPS = [(m, "paper", p) for m in TRAINED for p in (0.0, 1.0)] + [(m, "official", 1.0) for m in OFFICIAL]


def trainer_of(method: str, recipe: str, probability: float, device: str, folder: Path) -> Trainer:
    network = TINY if OBJECTIVES[METHODS[method]["objective"]].image_text else {"backbone": "wrn10-1"}
    mix = {"mix": "backmix"} if network is TINY and probability else {}  # and foregrounds by their attention
    trial = config(
        method=method, recipe=recipe, batch_size=8, warmup_epochs=0, mix_probability=probability, **network, **mix
    )
    data, _ = squares(images=24)
    if len(trial.training_sets) > 1:
        data = replace(data, outliers=squares(images=12)[0].train)
    return Trainer(trial, data, torch.device(device), untrained_weights(trial, data, folder))


@pytest.mark.parametrize(("method", "recipe", "probability"), STEPS)
def test_no_step_reads_from_the_device(
    method: str, recipe: str, probability: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(method, recipe, probability, "cpu", tmp_path)
    # The coin is the host's own; here nothing else may be read, wherever it lies.
    monkeypatch.setattr(type(trainer.mix.images), "coin", lambda images, p: p == 1)
    ids = torch.arange(8)
    trainer.step(ids)
    adam = getattr(trainer.objective, "optimizers", {}).values()  # Adam counts its steps on the host
    with NothingReadBack([state["step"] for optimizer in adam for state in optimizer.state.values()]):
        trainer.step(ids + 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("method", "recipe", "probability"), STEPS)
def test_no_step_waits_for_a_gpu(method: str, recipe: str, probability: float, tmp_path: Path) -> None:
    trainer = trainer_of(method, recipe, probability, "cuda", tmp_path)
    ids = torch.arange(16, device="cuda")
    trainer.step(ids[:8])
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(ids[8:])
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_read_would_be_noticed() -> None:
    values = torch.arange(3)
    for read in (lambda: values.sum().item(), lambda: values[values > 1], lambda: values.nonzero()):
        with pytest.raises(AssertionError), NothingReadBack():
            read()
