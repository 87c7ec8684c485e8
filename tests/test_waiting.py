"""A training step never waits for the device: nothing is read back, no shape depends on values."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_learners import config, squares
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.methods import METHODS
from trainables.teacher import untrained_weights
from trainables.training import Trainer


class NothingReadBack(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.name()
        assert not name.startswith(("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")), name
        if name.startswith("aten::index"):
            indices = args[1] if isinstance(args[1], list | tuple) else []
            assert all(i is None or i.dtype != torch.bool for i in indices), name
        return func(*args, **(kwargs or {}))


OFFICIAL = [m for m, settings in METHODS.items() if "official" in settings.recipes]
STEPS = [(m, "paper", p) for m in METHODS for p in (0.0, 1.0)] + [(m, "official", 1.0) for m in OFFICIAL]


@pytest.mark.parametrize(("method", "recipe", "probability"), STEPS)
def test_no_step_reads_from_the_device(
    method: str, recipe: str, probability: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = config(method=method, recipe=recipe, backbone="wrn10-1", batch_size=8, mix_probability=probability)
    data, _ = squares(images=24)
    if len(trial.training_sets) > 1:
        data = replace(data, outliers=squares(images=12)[0].train)
    trainer = Trainer(trial, data, torch.device("cpu"), untrained_weights(trial, data, tmp_path))
    # The coin is the host's own; here nothing else may be read, wherever it lies.
    monkeypatch.setattr(type(trainer.learner.training), "coin", lambda training, p: p == 1)
    ids = torch.arange(8)
    trainer.step(ids)
    with NothingReadBack():
        trainer.step(ids + 8)


def test_a_read_would_be_noticed() -> None:
    values = torch.arange(3)
    for read in (lambda: values.sum().item(), lambda: values[values > 1], lambda: values.nonzero()):
        with pytest.raises(AssertionError), NothingReadBack():
            read()
