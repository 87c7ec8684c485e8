"""An objective with a head of its own: its score, what that needs of the training images, and where it is refused."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from trainables.data.trial_data import build
from trainables.models.head import LinearHead
from trainables.models.output import Output
from trainables.objectives.cross_entropy import CrossEntropy
from trainables.one_trial import run_trial
from trainables.reading.yaml_file import ConfigError
from trainables.scoring.evaluation import forward
from trainables.settings.objectives import CrossEntropySettings
from trainables.settings.resolving import resolve
from trainables.training.teacher import read_weights

CPU = torch.device("cpu")
NEAR = f"{__name__}:Near"


@dataclass(frozen=True)
class NearSettings(CrossEntropySettings):
    defaults: ClassVar[dict[str, Any]] = {"score": "near"}
    own_scores: ClassVar[tuple[str, ...]] = ("near",)
    own_head: ClassVar[bool] = True
    length: float = 1.0


class NearHead(LinearHead):
    """Beside the linear logits, how near the features are to the mean of the training images."""

    def __init__(self, channels: int, num_classes: int, settings: NearSettings) -> None:
        super().__init__(channels, num_classes)
        self.length = settings.length
        self.register_buffer("mean_C", torch.zeros(channels))

    def forward(self, maps_BChw: torch.Tensor) -> Output:
        output = super().forward(maps_BChw)
        distance_B = (output.features_BC - self.get_buffer("mean_C")).norm(dim=1)
        return output._replace(more={"near": -distance_B / self.length})

    def fit(self, maps: Callable[[], Iterator[torch.Tensor]]) -> None:
        self.get_buffer("mean_C").copy_(torch.cat([m.mean(dim=(2, 3)) for m in maps()]).mean(dim=0))


class Near(CrossEntropy):
    settings: NearSettings
    head = NearHead


def settings(**more: object) -> dict[str, object]:
    return {"objective": NEAR, "backbone": "wrn10-1", "epochs": 1, "images_per_class": 20, **more}


def test_a_score_of_its_own_comes_from_the_training_images(tmp_path: Path) -> None:
    config = resolve(settings(length=2.0))
    data = build(config, Path())
    list(run_trial(config, data, CPU, tmp_path))
    train = forward(read_weights(config, data, tmp_path / "weights.pt", CPU), data.train, CPU, "fp32")
    known = forward(read_weights(config, data, tmp_path / "weights.pt", CPU), data.test["known"], CPU, "fp32")
    expected = -np.linalg.norm(known.features_NC - train.features_NC.mean(axis=0), axis=1) / 2
    table = pd.read_parquet(tmp_path / "scores.parquet")
    np.testing.assert_allclose(table.loc[table["set"] == "known", "near"], expected, rtol=1e-4)


def test_the_score_of_an_objective_is_its_own_unless_another_is_said() -> None:
    assert resolve(settings()).score == "near"
    assert resolve(settings(score="mls")).score == "mls"
    assert resolve({"method": "plain"}).score == "msp"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"objective": "ce", "teacher": {"objective": NEAR}, "score": "near"}, "score: 'near' is not one of"),
        (settings(backbone="vit-ti4"), "a ViT's head is linear"),
    ],
)
def test_where_a_head_or_a_score_does_not_belong_it_is_refused(told: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(told)
