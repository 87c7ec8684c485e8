"""Weights that are read again are those that were written, or none."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from platform.running.execute import _Store
from platform.tracking.index import FinishedTrial
from platform.tracking.tracker import Tracker
from tests.helpers.database import new_database
from trainables.data.trial_data import TrialData, build
from trainables.models import build_model
from trainables.settings.resolving import resolve
from trainables.storage.folder import Folder
from trainables.storage.weights import WeightsError, keep_weights, kept_weights
from trainables.training.teacher import read_weights

CPU = torch.device("cpu")
Harm = Callable[[bytes], bytes]


CONFIG = resolve({"method": "plain", "backbone": "wrn10-1"})


@pytest.fixture(scope="module")
def data() -> TrialData:
    return build(CONFIG, Path())


@pytest.fixture
def weights(tmp_path: Path, data: TrialData) -> Path:
    torch.save(build_model("wrn10-1", len(data.classes), data.image_size).state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Harm:
    """A whole file with other content."""

    def harm(content: bytes) -> bytes:
        state = torch.load(io.BytesIO(content), weights_only=True)
        file = io.BytesIO()
        other = change(state)
        torch.save(state if other is None else other, file)
        return file.getvalue()

    return harm


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGED: dict[str, Harm] = {
    "a flipped bit": flip,
    "a zeroed block": lambda content: content[:40_000] + bytes(4096) + content[44_096:],
    "cut short": lambda content: content[:-1000],
    "empty": lambda _: b"",
    "something else": lambda _: b"not weights",
}
WRONG: dict[str, Harm] = {
    "NaN": changed(lambda state: state.update({"head.bias": state["head.bias"] * torch.nan})),
    "infinite": changed(lambda state: state.update({"head.bias": (state["head.bias"] + 1) / 0})),
    "of another type": changed(lambda state: state.update({"head.bias": state["head.bias"].double()})),
    "one too few": changed(lambda state: state.__delitem__("head.bias")),
    "of another network": changed(lambda _: {"other": torch.zeros(1)}),
    "a list": changed(lambda state: list(state.values())),
    "numbers": changed(lambda state: dict.fromkeys(state, 1)),
    "objects": changed(lambda _: {"head.bias": Path("anything")}),
}


@pytest.mark.parametrize("harm", [*DAMAGED, *WRONG])
def test_damaged_or_wrong_weights_are_refused_in_one_line(harm: str, weights: Path, data: TrialData) -> None:
    weights.write_bytes({**DAMAGED, **WRONG}[harm](weights.read_bytes()))
    with pytest.raises(WeightsError, match=r"weights.pt does not hold the weights of wrn10-1: \S") as refused:
        read_weights(CONFIG, data, weights, CPU)
    assert "\n" not in str(refused.value)


def test_whole_weights_are_read_as_they_were_written(weights: Path, data: TrialData, tmp_path: Path) -> None:
    keep_weights(weights, Folder.at(tmp_path / "teachers"), "identity")
    assert kept_weights(Folder.at(tmp_path / "teachers"), "identity") == weights.read_bytes()
    read = read_weights(CONFIG, data, tmp_path / "teachers" / "identity.pt", CPU).state_dict()
    torch.testing.assert_close(dict(read), torch.load(weights, weights_only=True), rtol=0, atol=0)


@pytest.mark.parametrize("harm", [*DAMAGED, *WRONG, "other numbers"])
def test_kept_weights_that_are_not_what_was_kept_are_not_there(harm: str, weights: Path, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "teachers")
    keep_weights(weights, folder, "identity")
    other = (
        changed(lambda state: state.update({"head.bias": state["head.bias"] + 1})) if harm == "other numbers" else None
    )
    folder.write(io.BytesIO((other or {**DAMAGED, **WRONG}[harm])(weights.read_bytes())), "identity.pt")
    assert kept_weights(folder, "identity") is None
    keep_weights(weights, folder, "identity")
    assert kept_weights(folder, "identity") == weights.read_bytes()


@pytest.mark.parametrize("harm", DAMAGED)
def test_without_a_digest_the_files_own_checksums_count(harm: str, weights: Path, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "teachers")
    keep_weights(weights, folder, "identity")
    folder.remove("identity.sha256")
    assert kept_weights(folder, "identity") == weights.read_bytes()
    folder.write(io.BytesIO(DAMAGED[harm](weights.read_bytes())), "identity.pt")
    assert kept_weights(folder, "identity") is None


def test_a_damaged_teacher_is_fetched_from_mlflow_again(weights: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{new_database(tmp_path)}"
    client = MlflowClient(store)
    experiment = client.create_experiment("taught", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, str(weights))
    folder = Folder.at(tmp_path / "teachers")
    keep_weights(weights, folder, "identity")
    folder.write(io.BytesIO(weights.read_bytes()[:-1000]), "identity.pt")
    tracker = Tracker(store, tmp_path / "outbox", lambda said: None)
    try:
        found = _Store(tracker, {}, folder, fresh=False).fetch_weights(
            FinishedTrial("identity", run, "taught", "row", "teacher", "", "", 0.0, 0.0, "cpu", "{}")
        )
    finally:
        tracker.close()
    assert found
    assert kept_weights(folder, "identity") == weights.read_bytes()
