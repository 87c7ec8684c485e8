"""What a finished trial recorded of its validation images, judged by another score than its own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from trainables.data.trial_data import build
from trainables.evaluating import evaluate_again
from trainables.one_trial import run_trial
from trainables.scoring.rejudged import Validated
from trainables.settings.resolving import resolve

CPU = torch.device("cpu")
SETTINGS = {"method": "plain", "protocol": "digits", "backbone": "wrn10-1", "epochs": 1, "holdout": 0.2}
SETTINGS |= {"pseudo_unknown": 2, "test": False, "odin_epsilon": 0}
Trained = tuple[Path, dict[str, float]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The files of a trial of a search, and its metrics."""
    out, config = tmp_path_factory.mktemp("trained"), resolve(SETTINGS)
    *_, last = run_trial(config, build(config, Path()), CPU, out)
    return out, last.metrics


def read(trained: Trained) -> pd.DataFrame:
    return pd.read_parquet(trained[0] / "scores.parquet")


@pytest.mark.parametrize("score", ["msp", "mls", "energy", "feature_norm"])
def test_a_recorded_score_gives_what_the_trial_measured(score: str, trained: Trained) -> None:
    found = Validated.of(read(trained)).metrics(resolve({**SETTINGS, "score": score}))
    measured = {f"val/{metric}": trained[1][f"val/pseudo-unknown/{score}/{metric}"] for metric in ("auroc", "oscr")}
    assert found == pytest.approx(measured, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1000])
def test_a_temperature_gives_what_an_evaluation_of_the_weights_by_odin_measures(
    temperature: float, trained: Trained, tmp_path: Path
) -> None:
    config = resolve({**SETTINGS, "score": "odin", "odin_temperature": temperature})
    again = evaluate_again(config, build(config, Path()), CPU, tmp_path, trained[0] / "weights.pt")
    found = Validated.of(read(trained)).metrics(config)
    measured = {f"val/{metric}": again[f"val/pseudo-unknown/odin/{metric}"] for metric in ("auroc", "oscr")}
    assert found == pytest.approx(measured, abs=1e-4)  # its logits come of other batches


@pytest.mark.parametrize("k", [1, 13])
def test_another_neighbour_gives_what_an_evaluation_of_the_weights_measures(
    k: int, trained: Trained, tmp_path: Path
) -> None:
    config, weights = resolve({**SETTINGS, "score": "knn"}), trained[0] / "weights.pt"
    evaluate_again(config, build(config, Path()), CPU, tmp_path / "recorded", weights)
    recorded = pd.read_parquet(tmp_path / "recorded" / "scores.parquet")
    other = resolve({**SETTINGS, "score": "knn", "knn_k": k})
    again = evaluate_again(other, build(config, Path()), CPU, tmp_path / "again", weights)
    measured = {f"val/{metric}": again[f"val/pseudo-unknown/knn/{metric}"] for metric in ("auroc", "oscr")}
    assert Validated.of(recorded).metrics(other) == pytest.approx(measured, abs=1e-4)  # recorded in float32


def test_no_test_sample_has_any_influence(trained: Trained) -> None:
    table, config = read(trained), resolve({**SETTINGS, "score": "mls"})
    tested = table.assign(part="test", mls=np.random.default_rng(0).normal(size=len(table)))
    both = pd.concat([tested, table], ignore_index=True)
    assert Validated.of(both).metrics(config) == Validated.of(table).metrics(config)
    with pytest.raises(ValueError, match="no validation samples"):
        Validated.of(tested)
