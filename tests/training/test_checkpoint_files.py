"""Checkpoints on the disk: which are kept, and what becomes of those that are damaged, of others, or do not fit."""

from __future__ import annotations

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.interrupted import (
    CASES,
    CPU,
    assert_same_end,
    images,
    run_until,
    start,
    trial,
)
from trainables.one_trial import run_trial
from trainables.storage.folder import Folder
from trainables.training.checkpoint import Checkpoints
from trainables.training.loop import Trainer


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Folder.at(tmp_path / "kept"))
    for step in (1, 2, 10, 11):
        assert checkpoints.save(step, {"step": step})
    assert [name.split(".")[0] for name in checkpoints.folder.names()] == ["000000010", "000000011"]
    assert checkpoints.load() == {"step": 11}
    checkpoints.clear()
    assert not (tmp_path / "kept").exists()
    assert checkpoints.load() is None


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [damage, lambda path: path.write_bytes(path.read_bytes()[:-100])])
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(harm: Any, tmp_path: Path) -> None:
    config = trial(method="backmix")
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    interrupted = start(config, tmp_path)
    reports = interrupted.reports(tmp_path / "out", tick=0)
    for report in reports:
        if report.progress > 1:
            interrupted.save()
        if report.progress > 2:
            break
    before, newest = sorted((tmp_path / "checkpoints").iterdir())
    harm(newest)
    again = start(config, tmp_path)
    assert again.resumed_epoch == pytest.approx(int(before.name.split(".")[0]) / 3)
    (warning,) = again.warnings
    assert newest.name in warning
    list(again.reports(tmp_path / "parts"))
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    whole = Checkpoints(Folder.at(tmp_path / "checkpoints"))
    assert whole.load() is not None
    assert not whole.damaged


def test_a_damaged_checkpoint_is_removed_when_the_next_is_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Folder.at(tmp_path))
    for step in (1, 2):
        assert checkpoints.save(step, {"step": step})
    damage(max(tmp_path.iterdir()))
    assert checkpoints.load() == {"step": 1}
    assert checkpoints.save(3, {"step": 3})
    assert [name.split(".")[0] for name in checkpoints.folder.names()] == ["000000001", "000000003"]


def test_with_all_checkpoints_damaged_it_starts_anew_and_says_so(tmp_path: Path) -> None:
    config = trial(method="plain")
    run_until(start(config, tmp_path), 4, tmp_path / "out")
    for path in (tmp_path / "checkpoints").iterdir():
        damage(path)
    again = start(config, tmp_path)
    assert again.resumed_epoch == 0
    assert again.warnings
    assert len(list(again.reports(tmp_path / "out"))) == 3


def test_a_file_that_holds_objects_is_not_loaded(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Folder.at(tmp_path))
    assert checkpoints.save(1, {"object": Path("anything")})
    assert checkpoints.load() is None
    assert "it holds more than tensors" in checkpoints.damaged[0]


def test_a_checkpoint_of_another_trial_is_ignored(tmp_path: Path) -> None:
    run_until(start(trial(method="plain"), tmp_path), 4, tmp_path / "out")
    other = start(trial(method="plain", lr=0.05), tmp_path)
    assert other.resumed_epoch == 0
    assert other.history == []
    assert "starting anew: the checkpoint is of trial" in other.warnings[0]
    assert len(list((tmp_path / "checkpoints").glob("aside-*.pt"))) == 2
    run_until(other, 1, tmp_path / "out")
    assert start(trial(method="plain", lr=0.05), tmp_path).resumed_epoch == pytest.approx(1 / 3)


def made_on_a_gpu(state: dict[str, Any]) -> None:
    """As a GPU's checkpoint is when it is read: its generators' states are of another shape."""
    state["trainer"]["made_on"] = "cuda"
    state["trainer"]["random"] |= {"device": torch.zeros(16, dtype=torch.uint8), "cuda": torch.zeros(16)}


def rewrite(folder: Path, change: Any) -> None:
    """The newest checkpoint with other content, which its digest fits."""
    checkpoints = Checkpoints(Folder.at(folder / "checkpoints"))
    state = checkpoints.load()
    other = change(state)
    checkpoints.clear()
    assert checkpoints.save(5, state if other is None else other)


@pytest.mark.parametrize("case", ["backmix", "randaugment", "adam, warm-up"])
def test_a_checkpoint_of_another_kind_of_device_is_continued_with_new_random_numbers(case: str, tmp_path: Path) -> None:
    config = trial(**CASES[case])
    interrupted = start(config, tmp_path)
    run_until(interrupted, 5, tmp_path / "out")
    rewrite(tmp_path, made_on_a_gpu)
    again = start(config, tmp_path)
    assert again.resumed_epoch == pytest.approx(5 / 3)
    torch.testing.assert_close(
        dict(again.trainer.model.state_dict()), dict(interrupted.trainer.model.state_dict()), rtol=0, atol=0
    )
    assert (
        again.trainer.optimizer.state_dict()["state"].keys()
        == interrupted.trainer.optimizer.state_dict()["state"].keys()
    )
    assert again.warnings == [
        "goes on at epoch 1.67 on cpu from a checkpoint made on cuda: random numbers are others from here on"
    ]
    beginning = start(config, tmp_path, checkpoints=None).trainer
    assert not torch.equal(again.trainer.generator.get_state(), beginning.generator.get_state())
    assert [r.epoch for r in again.reports(tmp_path / "out")] == [2, 3]


WRONG_CONTENT: dict[str, Any] = {
    "no mapping": lambda state: [1, 2],
    "nothing of a trial": lambda state: {"step": 1},
    "no trainer": lambda state: {**state, "trainer": None},
    "an older state": lambda state: state["trainer"].update(
        trains=state["trainer"]["trains"].replace("state 3", "state 2")
    ),
    "no model": lambda state: state["trainer"].__delitem__("model"),
    "another network": lambda state: state["trainer"].update(model={"other": torch.zeros(3)}),
    "no network": lambda state: state["trainer"].update(model=7),
    "another optimiser": lambda state: state["trainer"]["optimizer"].__delitem__("param_groups"),
    "a bank of other images": lambda state: state["trainer"]["objective"]["mix"].update(bank=torch.zeros(3, 2, 2)),
    "random numbers as text": lambda state: state["trainer"]["random"].update(host="random"),
    "half an epoch": lambda state: state["trainer"]["epoch"].__delitem__("order"),
    "a history of something else": lambda state: state.update(history=[5]),
}


@pytest.mark.parametrize("case", WRONG_CONTENT)
def test_a_whole_checkpoint_with_the_wrong_content_is_kept_aside_and_the_trial_starts_anew(
    case: str, tmp_path: Path
) -> None:
    config = trial(method="backmix", epochs=2)
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    run_until(start(config, tmp_path), 5, tmp_path / "out")

    rewrite(tmp_path, WRONG_CONTENT[case])
    again = start(config, tmp_path)
    (warning,) = again.warnings
    assert warning.startswith("starting anew: ")
    assert "kept aside" in warning
    assert [name.split("-")[0] for name in Folder.at(tmp_path / "checkpoints").names()] == ["aside"]
    list(again.reports(tmp_path / "parts"))
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_state_of_another_trial_changes_nothing() -> None:
    one, other = (Trainer(trial(method="plain", lr=lr), images(), CPU) for lr in (0.1, 0.2))
    before = {name: value.clone() for name, value in other.model.state_dict().items()}
    one.epoch()
    with pytest.raises(ValueError, match="the checkpoint is of trial"):
        other.load_state(one.state())
    torch.testing.assert_close(dict(other.model.state_dict()), before, rtol=0, atol=0)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_does_not_fit_is_told_and_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Folder.at(tmp_path))
    checkpoints.save(1, {"step": 1})
    with room_for(100_000):
        assert not checkpoints.save(2, {"step": torch.zeros(100_000)})
    assert "no checkpoint could be written at step 2: " in checkpoints.trouble
    assert len(list(tmp_path.iterdir())) == 1
    assert checkpoints.load() == {"step": 1}
    assert checkpoints.save(3, {"step": 3})
    assert not checkpoints.trouble


def test_a_disk_that_takes_no_checkpoint_does_not_end_the_trial(tmp_path: Path) -> None:
    config = trial(method="plain")
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    (tmp_path / "file").write_text("")
    full = start(config, tmp_path, checkpoints=Checkpoints(Folder.at(tmp_path / "file" / "checkpoints")))
    list(full.reports(tmp_path / "parts"))
    assert "no checkpoint could be written at step 9" in full.warnings[0]
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_state_is_made_of_what_can_be_read_back_without_running_code() -> None:
    content = io.BytesIO()
    torch.save(Trainer(trial(method="backmix"), images(), CPU).state(), content)
    content.seek(0)
    torch.load(content, weights_only=True)
