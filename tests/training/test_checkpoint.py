"""A trial that is interrupted between any two steps ends as one that was not, to the last digit."""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.clips import TINY
from tests.helpers.squares import squares
from trainables.data.trial_data import TrialData
from trainables.evaluating import evaluate_again
from trainables.objectives import network_of
from trainables.one_trial import Report, Trial, run_trial
from trainables.settings.config import TrialConfig
from trainables.settings.methods import METHODS
from trainables.settings.resolving import resolve
from trainables.storage.folder import Folder
from trainables.storage.weights import WeightsError
from trainables.training.checkpoint import Checkpoints
from trainables.training.loop import Trainer
from trainables.training.teacher import untrained_weights

CPU = torch.device("cpu")
BACKMIX = {"method": "backmix", "cut_size": 0.1}
PROMPTED = ("coop", "locoop", "vpt")  # clip trains nothing
CASES: dict[str, dict[str, object]] = {
    **{method: {"method": method, "gan_width": 4} for method in METHODS if method not in ("clip", *PROMPTED)},
    **{method: {"method": method, "mix": "backmix", "warmup_epochs": 0, **TINY} for method in PROMPTED},
    "backmix, official": {**BACKMIX, "recipe": "official"},
    "backmix, random bank": {**BACKMIX, "bank_init": "random", "bank_read": "normalise"},
    "backmix, bank of the last epoch": {**BACKMIX, "bank_refresh": "epoch"},
    "asymmetric, projection": {"method": "asymmetric", "cmi_on": "features", "teacher": {"backbone": "wrn10-2"}},
    "randaugment": {"method": "plain", "augment": "randaugment", "randaugment_ops": 2},
    "augmix": {"method": "cutmix", "augment": "augmix"},
    "randomized quantization": {"method": "plain", "augment": "randomized-quantization"},
    "dropout": {"method": "plain", "backbone": "vgg32"},
    "adam, warm-up": {"method": "mixup", "optimizer": "adam", "lr": 0.001, "warmup_epochs": 1},
    "bf16": {**BACKMIX, "precision": "bf16"},
}


def trial(**settings: object) -> TrialConfig:
    base = {"backbone": "wrn10-1", "epochs": 3, "batch_size": 12, "split": 1, "seed": 2}
    return resolve({**base, **settings})


def images(count: int = 40) -> TrialData:
    """Three steps an epoch and a remainder; twelve images judge each epoch, and twelve the end."""
    data, _ = squares(count)
    few = squares(12)[0].train
    unknown = replace(few, labels=few.labels * 0 - 1)
    judged = {"known": few, "unknown": unknown}
    return replace(data, outliers=squares(16)[0].train, validation=judged, test=judged)


def timeless(reports: list[Report]) -> dict[int, dict[str, float]]:
    """Metrics by epoch, without those that a clock gives."""
    return {r.epoch: {k: v for k, v in r.metrics.items() if "second" not in k} for r in reports if r.metrics}


def start(config: TrialConfig, folder: Path, out: str = "out", **changes: Any) -> Trial:
    """A trial with the checkpoints that are in `folder`."""
    torch.set_num_threads(1)
    data = images()
    torch.manual_seed(0)
    teacher = untrained_weights(config, data, folder)  # the same each time
    checkpoints = Checkpoints(Folder.at(folder / "checkpoints"))
    return Trial(config, data, CPU, **{"teacher": teacher, "checkpoints": checkpoints, **changes})


def run_until(interrupted: Trial, steps: int, out: Path) -> list[Report]:
    """Go on until `steps` steps of three an epoch are done, and keep what there is then."""
    seen = []
    for report in interrupted.reports(out, tick=0):
        seen.append(report)
        if report.progress >= steps / 3 - 1e-9:
            interrupted.save()
            break
    return seen


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "weights.pt", weights_only=True)


def assert_same_end(a: Path, b: Path) -> None:
    torch.testing.assert_close(weights_of(a), weights_of(b), rtol=0, atol=0)
    for name in ("weights.pt", "scores.parquet", "config.yaml"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_a_trial_interrupted_within_an_epoch_ends_as_one_that_was_not(case: str, tmp_path: Path) -> None:
    config = trial(**CASES[case])
    whole = list(start(config, tmp_path, checkpoints=None).reports(tmp_path / "whole"))
    first = run_until(start(config, tmp_path), 4, tmp_path / "parts")
    torch.manual_seed(99)  # what another trial does in between
    second = start(config, tmp_path)
    assert second.resumed_epoch == pytest.approx(4 / 3)
    rest = list(second.reports(tmp_path / "parts"))
    assert not second.warnings
    assert timeless([*first, *rest]) == timeless(whole)
    assert second.history == [(r.epoch, r.metrics) for r in [*first, *rest] if r.metrics]
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("method", "steps"), [("backmix", 1), ("backmix", 3), ("backmix", 5), ("backmix", 8), ("arpl-cs", 5)]
)
def test_it_may_be_interrupted_after_any_step(method: str, steps: int, tmp_path: Path) -> None:
    config = trial(method=method, gan_width=4)  # 5 of 3 steps an epoch is within the second pass of one with two
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    run_until(start(config, tmp_path), steps, tmp_path / "parts")
    list(start(config, tmp_path).reports(tmp_path / "parts"))
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("train", ["all", "head"])
def test_a_network_that_others_trained_is_fine_tuned_to_the_same_end(train: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.save(network_of(trial(method="plain"), 3, 32).state_dict(), tmp_path / "given.pt")
    config = trial(method="plain", weights=str(tmp_path / "given.pt"), train=train)
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    run_until(start(config, tmp_path), 4, tmp_path / "parts")
    list(start(config, tmp_path).reports(tmp_path / "parts"))
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    given, ended = torch.load(tmp_path / "given.pt", weights_only=True), weights_of(tmp_path / "parts")
    assert not torch.equal(given["head.weight"], ended["head.weight"])
    assert torch.equal(given["stem.weight"], ended["stem.weight"]) == (train == "head")


def test_interruptions_may_follow_each_other(tmp_path: Path) -> None:
    config = trial(method="backmix", recipe="official")
    list(run_trial(config, images(), CPU, tmp_path / "whole"))
    for steps in range(1, 9):
        run_until(start(config, tmp_path), steps, tmp_path / "parts")
    list(start(config, tmp_path).reports(tmp_path / "parts"))
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_crash_in_the_evaluation_costs_no_training(tmp_path: Path) -> None:
    config = trial(method="plain")
    list(start(config, tmp_path, checkpoints=None).reports(tmp_path / "whole"))
    (tmp_path / "out").write_text("where a folder should be")
    with pytest.raises(FileExistsError):
        list(start(config, tmp_path).reports(tmp_path / "out"))
    again = start(config, tmp_path)
    assert again.resumed_epoch == 3
    assert [epoch for epoch, _ in again.history] == [1, 2]
    (report,) = again.reports(tmp_path / "again")
    assert report.last
    assert report.metrics["train/images_per_second"] > 0
    assert_same_end(tmp_path / "whole", tmp_path / "again")


def test_epochs_that_a_driver_may_have_missed_are_in_the_history(tmp_path: Path) -> None:
    config = trial(method="plain")
    seen = run_until(start(config, tmp_path), 7, tmp_path / "out")
    resumed = start(config, tmp_path)
    assert resumed.history == [(r.epoch, r.metrics) for r in seen if r.metrics]
    assert [r.epoch for r in resumed.reports(tmp_path / "out")] == [3]


def test_ticks_lie_between_steps_and_show_no_metrics(tmp_path: Path) -> None:
    reports = list(start(trial(method="plain"), tmp_path).reports(tmp_path / "out", tick=0))
    assert [round(3 * r.progress) for r in reports] == list(range(1, 10))
    assert [r.epoch for r in reports] == [0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert [bool(r.metrics) for r in reports] == [False, False, True] * 3
    assert [r.last for r in reports] == [False] * 8 + [True]


def test_the_speed_of_an_epoch_is_that_of_its_steps_before_and_after_the_interruption(tmp_path: Path) -> None:
    config = trial(method="plain", epochs=1)
    run_until(start(config, tmp_path), 2, tmp_path / "out")
    resumed = start(config, tmp_path)
    before = resumed.trainer.begin_epoch().seconds
    assert before > 0
    (report,) = resumed.reports(tmp_path / "out")
    assert report.metrics["train/images_per_second"] < 36 / before


def test_the_seconds_of_a_trial_go_on_after_an_interruption(tmp_path: Path) -> None:
    config = trial(method="plain")
    run_until(start(config, tmp_path), 7, tmp_path / "out")  # in the third epoch
    resumed = start(config, tmp_path)
    before, began = resumed.trainer.begin_epoch().seconds, time.perf_counter()
    (last,) = resumed.reports(tmp_path / "out")
    here = time.perf_counter() - began
    first, second, all_three = (m["train/seconds"] for _, m in resumed.history)
    assert 0 < first < second < all_three == last.metrics["train/seconds"]
    assert all_three <= second + before + here


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


def test_another_score_is_the_same_training(tmp_path: Path) -> None:
    run_until(start(trial(method="plain"), tmp_path), 4, tmp_path / "out")
    assert start(trial(method="plain", score="energy"), tmp_path).resumed_epoch > 1


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


def test_finished_weights_are_evaluated_on_other_sets_without_training(tmp_path: Path) -> None:
    config = trial(method="plain")
    data = images()
    *_, last = run_trial(config, data, CPU, tmp_path / "first")
    again = evaluate_again(config, data, CPU, tmp_path / "again", tmp_path / "first" / "weights.pt")
    assert again == {k: v for k, v in last.metrics.items() if not k.startswith("train/")}
    assert_same_end(tmp_path / "first", tmp_path / "again")
    more = replace(data, test={**data.test, "other": squares(20)[0].train})
    more.test["other"].labels[:] = -1
    metrics = evaluate_again(config, more, CPU, tmp_path / "more", tmp_path / "first" / "weights.pt")
    assert "test/other/msp/auroc" in metrics


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="does not hold the weights of wrn10-1"):
        evaluate_again(trial(method="plain"), images(), CPU, tmp_path, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="the weights are not at"):
        evaluate_again(trial(method="plain"), images(), CPU, tmp_path, tmp_path / "absent.pt")
