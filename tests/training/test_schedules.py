"""Learning rates: beside torch's own schedulers, and as the recipes of the literature have them at their borders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler, MultiStepLR

from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer
from trainables.training.schedules import rate_factor, temperature


def trial(**settings: object) -> TrialConfig:
    return resolve({"method": "plain", "split": 1, "backbone": "wrn10-1", **settings})


def factors(config: TrialConfig, steps_per_epoch: int = 1) -> list[float]:
    """Of every step of a training."""
    return [rate_factor(config, step, steps_per_epoch) for step in range(config.epochs * steps_per_epoch)]


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def rates(schedule: LRScheduler, epochs: int) -> list[float]:
    """What torch's scheduler has in each epoch, from a rate of 1."""
    seen = []
    for _ in range(epochs):
        seen.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("epochs", [1, 7, 200])
def test_cosine_is_torchs(epochs: int) -> None:
    assert factors(trial(epochs=epochs)) == pytest.approx(rates(CosineAnnealingLR(optimizer(), epochs), epochs))


@pytest.mark.parametrize(("epochs", "restarts"), [(60, 2), (8, 1), (10, 4)])
def test_restarts_are_torchs(epochs: int, restarts: int) -> None:
    theirs = CosineAnnealingWarmRestarts(optimizer(), epochs // (restarts + 1))
    assert factors(trial(epochs=epochs, restarts=restarts)) == pytest.approx(rates(theirs, epochs))


def test_a_floor_is_torchs_eta_min() -> None:
    theirs = CosineAnnealingWarmRestarts(optimizer(), 20, eta_min=1e-3)
    assert factors(trial(epochs=60, restarts=2, lr_floor=0.001)) == pytest.approx(rates(theirs, 60))


@pytest.mark.parametrize(("epochs", "restarts"), [(60, 2), (10, 1), (10, 4), (6, 2)])
def test_each_part_between_restarts_falls_to_its_last_epoch(epochs: int, restarts: int) -> None:
    parts = np.reshape(factors(trial(epochs=epochs, restarts=restarts)), (restarts + 1, -1))
    assert (np.diff(parts) < 0).all()
    assert parts[:, -1] == pytest.approx(min(factors(trial(epochs=epochs, restarts=restarts))))


@pytest.mark.parametrize(("epochs", "restarts"), [(3, 2), (5, 20), (5, 3), (10, 2), (10, 9)])
def test_restarts_with_which_training_would_end_at_a_high_rate_are_refused(epochs: int, restarts: int) -> None:
    with pytest.raises(ConfigError, match=f"restarts: {restarts} cut {epochs} epochs into {restarts + 1} parts"):
        trial(epochs=epochs, restarts=restarts)


def test_restarts_are_of_the_cosine_alone() -> None:
    assert factors(trial(epochs=5, restarts=3, schedule="constant")) == [1] * 5


def test_multistep_is_torchs() -> None:
    ours = factors(trial(epochs=200, schedule="multistep", milestones=[60, 120, 160], lr_factor=0.2))
    assert ours == pytest.approx(rates(MultiStepLR(optimizer(), [60, 120, 160], gamma=0.2), 200))


def test_constant_stays() -> None:
    assert factors(trial(epochs=5, schedule="constant"), steps_per_epoch=3) == [1] * 15


def test_the_rate_changes_between_epochs_and_not_within() -> None:
    ours = np.reshape(factors(trial(epochs=6), steps_per_epoch=4), (6, 4))
    assert (ours == ours[:, :1]).all()
    assert len(set(ours[:, 0])) == 6


def test_warm_up_grows_with_every_batch_to_the_rate_that_the_schedule_has() -> None:
    ours = factors(trial(epochs=4, schedule="constant", warmup_epochs=2), steps_per_epoch=5)
    assert ours == pytest.approx([*(step / 10 for step in range(1, 11)), *[1] * 10])


def test_the_schedule_goes_on_underneath_a_warm_up() -> None:
    warmed, cold = (factors(trial(epochs=12, warmup_epochs=w), steps_per_epoch=3) for w in (4, 0))
    assert warmed[12:] == cold[12:]
    assert warmed[:12] == pytest.approx([(step + 1) / 12 * factor for step, factor in enumerate(cold[:12])])


MULTISTEP = {"schedule": "multistep", "lr_factor": 0.1, "nesterov": False}
# Settings of each recipe, and its rates: in the epoch on either side of every border, and in the last.
RECIPES: dict[str, tuple[dict[str, object], dict[int, float]]] = {
    "ARPL": (
        {**MULTISTEP, "lr": 0.1, "weight_decay": 1e-4, "epochs": 100, "milestones": [30, 60, 90], "batch_size": 64},
        {0: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001, 89: 0.001, 90: 1e-4, 99: 1e-4},
    ),
    "ARPL, Tiny-ImageNet": (
        {**MULTISTEP, "optimizer": "adam", "lr": 1e-3, "epochs": 100, "milestones": [30, 60, 90], "batch_size": 64},
        {0: 1e-3, 29: 1e-3, 30: 1e-4, 59: 1e-4, 60: 1e-5, 89: 1e-5, 90: 1e-6, 99: 1e-6},
    ),
    "AGC": (
        {"lr": 0.1, "lr_floor": 1e-3, "weight_decay": 1e-4, "nesterov": False, "epochs": 600}
        | {"restarts": 2, "warmup_epochs": 10},
        {100: 0.05005, 199: 1.06e-4, 200: 0.1, 300: 0.05005, 400: 0.1, 599: 1.06e-4},
    ),
    "CSSR": (
        {**MULTISTEP, "lr": 0.4, "momentum": 0.0, "weight_decay": 5e-4, "epochs": 200, "milestones": [120, 190]},
        {0: 0.4, 119: 0.4, 120: 0.04, 189: 0.04, 190: 0.004, 199: 0.004},
    ),
    "CSSR, Tiny-ImageNet": (
        {**MULTISTEP, "lr": 0.4, "momentum": 0.0, "epochs": 235, "milestones": [150, 225], "warmup_epochs": 1},
        {1: 0.4, 149: 0.4, 150: 0.04, 224: 0.04, 225: 0.004, 234: 0.004},
    ),
    "MEDAF": (
        {**MULTISTEP, "lr": 0.1, "weight_decay": 1e-5, "epochs": 150, "milestones": [130]},
        {0: 0.1, 129: 0.1, 130: 0.01, 149: 0.01},
    ),
    "BackMix": (
        {"lr": 0.1, "weight_decay": 5e-4, "epochs": 200},
        {0: 0.1, 100: 0.05, 199: 6.2e-6},
    ),
    "Asymmetric": (
        {**MULTISTEP, "lr": 0.1, "lr_factor": 0.2, "epochs": 200, "milestones": [60, 120, 160], "batch_size": 32},
        {0: 0.1, 59: 0.1, 60: 0.02, 119: 0.02, 120: 0.004, 159: 0.004, 160: 8e-4, 199: 8e-4},
    ),
}


def few_images(count: int) -> TrialData:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels, rows = np.arange(count) % 3, np.arange(count)
    source = ImageSet("noise", pixels, labels, rows, "noise", 0, "drawn here")
    return TrialData((0, 1, 2), 32, True, Samples(source, rows, labels))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_optimizer_has_a_recipes_rates_at_its_borders(recipe: str) -> None:
    settings, expected = RECIPES[recipe]
    config = trial(**settings)
    trainer = Trainer(config, few_images(2 * config.batch_size), torch.device("cpu"))
    assert trainer.steps_per_epoch == 2
    seen = []
    for _ in range(config.epochs * trainer.steps_per_epoch):
        seen.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()  # no gradient: only the schedule moves
        trainer.schedule.step()
    for epoch, rate in expected.items():
        assert seen[2 * epoch : 2 * epoch + 2] == pytest.approx([rate] * 2, rel=0.01), epoch


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_optimizer_is_the_recipes(recipe: str) -> None:
    settings, _ = RECIPES[recipe]
    config = trial(**settings)
    trainer = Trainer(config, few_images(4), torch.device("cpu"))
    group = trainer.optimizer.param_groups[0]
    if config.optimizer == "adam":
        assert isinstance(trainer.optimizer, torch.optim.Adam)
    else:
        assert (group["momentum"], group["nesterov"]) == (settings.get("momentum", 0.9), settings.get("nesterov", True))
    assert group["weight_decay"] == settings.get("weight_decay", 5e-4)


def test_the_trainer_moves_the_rate_with_every_batch_of_a_warm_up() -> None:
    trainer = Trainer(trial(epochs=3, warmup_epochs=2, batch_size=4, lr=0.6), few_images(12), torch.device("cpu"))
    seen = []
    for ids in torch.arange(12).split(4):
        seen.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.step(ids)
    assert seen == pytest.approx([0.1, 0.2, 0.3])


def test_a_temperature_wave_is_negcos_formula_and_ends_high() -> None:
    config = trial(epochs=600, temperature_period=200, temperature_low=0.1, temperature_high=0.4)
    t = np.arange(500)
    wave = 0.1 + 0.3 * (1 + np.cos(2 * np.pi * (t - 100) / 200)) / 2
    found = [temperature(config, epoch) for epoch in range(600)]
    assert found == pytest.approx([*wave, *[0.4] * 100])
    assert (found[0], found[100], found[200]) == pytest.approx((0.1, 0.4, 0.1))


def test_cross_entropy_divides_logits_by_the_temperature_of_its_epoch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    rows = np.arange(8)
    data = TrialData(
        (0, 1), 32, True, Samples(ImageSet("noise", pixels, rows % 2, rows, "noise", 0, "drawn"), rows, rows % 2)
    )
    config = trial(epochs=2, temperature_period=2, batch_size=8, lr=1e-9)
    trainer, plain = (Trainer(c, data, torch.device("cpu")) for c in (config, trial(epochs=2, batch_size=8, lr=1e-9)))
    trainer.epoch()
    trainer.epoch()
    seen = plain.mix.batch(torch.arange(8))
    logits = plain.model(seen.images_BCHW).logits_BK
    expected = torch.nn.functional.cross_entropy(logits / 2.0, seen.labels_B)
    assert plain.objective.cross_entropy(logits, seen).item() != pytest.approx(expected.item(), rel=1e-3)
    assert trainer.objective.cross_entropy(logits, seen).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_wave_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing of the wave is left"):
        trial(epochs=10, temperature_period=20)


def test_temperatures_without_a_wave_change_no_identity() -> None:
    prints = {trial().training_images[0]: "images"}
    assert identity_of(trial(temperature_low=0.3, temperature_high=3), prints) == identity_of(trial(), prints)
    assert identity_of(trial(temperature_period=100), prints) != identity_of(trial(), prints)
