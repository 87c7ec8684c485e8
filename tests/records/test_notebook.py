"""The notebook of docs/, run in the folder of a store, and what it shows of it."""

import contextlib
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

import osr
import trainables
from tests.helpers.paths import ROOT
from tests.records.conftest import Command
from trainables.reading.yaml_file import ConfigError


@pytest.fixture(scope="module")
def ran(place: Path) -> dict[str, Any]:
    """What the names of the notebook stand for, once all of its cells have run."""
    matplotlib.use("agg")
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    names: dict[str, Any] = {}
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSR_CACHE", str(place / "cache"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        exec(text.replace("search_spaces/backmix.yaml", "toy.yaml"), names)
    return names


def test_the_frame_of_trials_is_what_the_command_lists(ran: dict[str, Any], run: Command) -> None:
    listed = {trial["run_id"]: trial for trial in json.loads(run("list", "--json").stdout)["trials"]}
    frame: pd.DataFrame = ran["trials"]
    assert set(frame.index) == set(listed)
    for run_id, trial in listed.items():
        assert frame.loc[run_id, "status"] == trial["status"]
        recorded = trial["metrics"].get("test/accuracy", float("nan"))
        assert frame.loc[run_id, "test/accuracy"] == pytest.approx(recorded, nan_ok=True)


def test_the_network_of_a_trial_gives_the_logits_that_it_recorded(ran: dict[str, Any], place: Path) -> None:
    scores, network, config = ran["scores"], ran["network"], ran["store"].config(ran["trial"])
    assert not network.training
    data = trainables.trial_data(config, Path("data"))
    known = scores[scores["set"] == "known"]
    pool = data.test["known"].on(torch.device("cpu"))
    with torch.no_grad():
        logits = network(pool.seen(torch.arange(len(pool)))).logits_BK
    assert torch.allclose(logits, torch.tensor(np.stack(known["logits"])), atol=1e-4)


def test_a_trial_by_hand_reports_each_epoch_and_leaves_its_files(ran: dict[str, Any], place: Path) -> None:
    assert len(ran["losses"]) == 2
    assert {path.name for path in (place / "results" / "notebook").iterdir()} == {
        "config.yaml",
        "scores.parquet",
        "weights.pt",
    }


def test_a_table_is_a_frame_of_its_cells(ran: dict[str, Any], place: Path) -> None:
    with contextlib.chdir(place):
        table = ran["store"].table("toy.yaml")
    assert list(table["row"].unique()) == ["Plain"]
    assert {"mean", "std", "n", "published"} <= set(table.columns)


def test_settings_are_a_frame_too(ran: dict[str, Any]) -> None:
    settings = ran["store"].settings()
    assert set(settings["mix"].dropna()) == {"none", "cutmix"}


def test_what_is_not_there_is_told_as_the_command_tells_it(ran: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c3 has no scores\.parquet: it is failed"):
        ran["store"].scores("c3")
    with pytest.raises(ConfigError, match="no runs yet"):
        osr.Store(f"sqlite:///{tmp_path}/none.db").trials()
    with pytest.raises(AttributeError, match="no attribute 'Shop'"):
        _ = osr.Shop
    with pytest.raises(AttributeError, match="no attribute 'shop'"):
        _ = trainables.shop
