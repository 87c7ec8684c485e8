"""A network of one's own, named by module and class."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from trainables.data.trial_data import build
from trainables.evaluating import evaluate_given
from trainables.one_trial import run_trial
from trainables.reading.yaml_file import ConfigError
from trainables.settings.identity import identity_of, weights_fingerprints
from trainables.settings.resolving import resolve

SOURCE = """
import torch
from torch import nn
from trainables.models.output import Network, Output

class Tiny(Network):
    def __init__(self, num_classes, image_size):
        super().__init__()
        self.num_features = 8
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        features = self.conv(images).relu().mean(dim=(2, 3))
        return Output(self.head(features), features, None)

class NoNetwork:
    pass
"""
CPU = torch.device("cpu")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_network.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_network"
    sys.modules.pop("my_network", None)


def test_a_network_of_ones_own_is_trained_given_and_named_by_its_source(module: str, tmp_path: Path) -> None:
    base = {"method": "plain", "backbone": f"{module}:Tiny", "images_per_class": 20}
    config = resolve({**base, "epochs": 1, "batch_size": 32})
    (report,) = run_trial(config, build(config, Path()), CPU, tmp_path / "trained")
    given = resolve({**base, "images_per_class": None, "weights": str(tmp_path / "trained" / "weights.pt")})
    given = resolve({**given.settings(), "train": "none"})
    again = evaluate_given(given, build(given, Path()), CPU, tmp_path / "given")
    assert again["test/digits/mls/auroc"] == report.metrics["test/digits/mls/auroc"]
    prints = weights_fingerprints(given) | {"digits": "fingerprint"}
    names = {identity_of(given, prints), identity_of(config, prints), identity_of(resolve({"method": "plain"}), prints)}
    assert len(names) == 3
    mixed = {"method": "backmix", "backbone": f"{module}:Tiny"}
    with pytest.raises(ConfigError, match="shows no maps, by which BackMix tells object from background"):
        resolve(mixed)
    with pytest.raises(ConfigError, match="is no mix, objective or backbone: derive it from"):
        resolve({"method": "plain", "backbone": f"{module}:NoNetwork"})
    with pytest.raises(ConfigError, match="is a backbone: write it as `backbone`"):
        resolve({"objective": "ce", "mix": f"{module}:Tiny"})
