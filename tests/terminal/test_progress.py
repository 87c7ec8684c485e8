"""The live view: what it counts, and what is left of a trial's line on a narrow terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from platform.files.spec import Goal
from platform.planning.results import Outcome, Results
from platform.terminal.progress import LiveView
from platform.tracking.trials import Place, TrialState
from trainables.settings.resolving import resolve

CONFIG = resolve({"method": "backmix", "protocol": "digits", "epochs": 15})


def trial(number: int) -> TrialState:
    searched = {"mask_ratio": 0.1034567, "cut_size": 0.0632111}
    return TrialState(Place("search", "search", "search", number, searched=searched), CONFIG, f"{number:016x}")


def frame(view: LiveView, width: int) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, no_color=True, width=width)
    with console.capture() as shown:
        console.print(view._bars.get_renderable())
    return shown.get().splitlines()


@pytest.fixture
def view() -> LiveView:
    """Six trials, of which three are next and two have a worker."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    live = LiveView(console, Results(), {"search": Goal(metric="val/auroc", mode="max")})
    live.begin(6, lambda: None)
    return live


@pytest.mark.parametrize("width", [80, 120])
def test_a_trial_starts_runs_and_only_then_has_numbers(view: LiveView, width: int) -> None:
    trials = [trial(number) for number in (1, 2, 3)]
    for one in trials:
        view.started(one)
    assert len(frame(view, width)) == 1  # no worker yet, no line
    for one in trials[:2]:
        view.placed(one)
    first, *lines = frame(view, width)
    assert first.rstrip().endswith("2 starting")
    assert [" ".join(line.split()[:2]) for line in lines] == ["search 1", "search 2"]
    assert all("0/15" in line and " starting" in line for line in lines)
    trials[0].epoch, trials[0].metrics = 3, {"val/auroc": 0.9}
    view.reported(trials[0])
    first, one, two = frame(view, width)
    assert first.rstrip().endswith("1 running  1 starting")
    assert "3/15" in one and " val/auroc 0" in one and "starting" not in one  # noqa: PT018
    assert " starting" in two


def test_rows_that_share_a_trial_are_one_trial_of_the_bar(view: LiveView) -> None:
    for row in ("MSP", "MLS", "Energy"):
        place = Place("toy", "row", row, 1)
        view.results.add(Outcome(place, CONFIG, "shared", "finished", {}))
    one = trial(1)
    view.started(one)
    view.ended(one)
    assert " 1/6 " in frame(view, 80)[0]


def test_another_attempt_starts_again(view: LiveView) -> None:
    one = trial(1)
    view.started(one)
    view.placed(one)
    view.reported(one)
    assert frame(view, 80)[0].rstrip().endswith("1 running")
    one.attempt = 2
    view.placed(one)
    assert frame(view, 80)[0].rstrip().endswith("1 starting")


def test_a_terminal_shows_an_escape_sequence_of_a_setting_and_does_not_obey_it(view: LiveView) -> None:
    one = TrialState(Place("toy", "row", "\x1b]0;mine\x07", 1, searched={"optimizer": "[red]\x1b[2J"}), CONFIG, "1")
    view.started(one)
    view.placed(one)
    (line,) = frame(view, 120)[1:]
    assert r"\x1b]0;mine\x07" in line
    assert r"optimizer [red]\x1b[2J" in line
    assert "\x1b" not in line


def test_a_log_is_told_each_minute_how_far_all_trials_are() -> None:
    now = [0.0]
    console = Console(file=io.StringIO(), width=160)
    live = LiveView(console, Results(), {}, clock=lambda: now[0])
    live.begin(6, lambda: 2000 - now[0])
    one = trial(1)
    live.started(one)
    live.placed(one)
    for now[0], one.epoch in ((20, 1), (59, 2), (61, 3), (100, 6), (121, 9)):  # type: ignore[assignment]
        live.reported(one)
    told = [line for line in console.file.getvalue().splitlines() if "trials done" in line]  # type: ignore[attr-defined]
    assert told == [
        "0 of 6 trials done, 6 left, about 0:32:19  1 running",
        "0 of 6 trials done, 6 left, about 0:31:19  1 running",
    ]


def test_what_is_left_is_asked_from_time_to_time_and_runs_in_between() -> None:
    now, asked = [0.0], []
    live = LiveView(Console(file=io.StringIO(), force_terminal=True), Results(), {}, clock=lambda: now[0])
    live.begin(6, lambda: asked.append(now[0]) or 600.0)  # type: ignore[func-returns-value]
    one = trial(1)
    live.started(one)
    live.placed(one)
    for now[0] in (1, 2, 3):  # type: ignore[assignment]
        live.reported(one)
    assert asked == [0]
    assert "0:09:57" in frame(live, 80)[0]
    now[0] = 5
    live.reported(one)
    assert asked == [0, 5]
    assert "0:10:00" in frame(live, 80)[0]


def test_the_epochs_of_an_earlier_attempt_tell_nothing_of_a_trials_speed() -> None:
    now = [0.0]
    live = LiveView(Console(file=io.StringIO(), force_terminal=True), Results(), {}, clock=lambda: now[0])
    live.begin(1, lambda: None)
    one = trial(1)
    live.started(one)
    live.placed(one)
    now[0], one.resumed, one.epoch = 60.0, 9, 11
    live.reported(one)
    assert "0:02:00" in frame(live, 120)[1]  # four of 15 epochs, at half a minute each
    one.attempt, now[0] = 2, 100.0  # its worker was lost
    live.placed(one)
    now[0], one.resumed, one.epoch = 110.0, 11, 12
    live.reported(one)
    assert "0:00:30" in frame(live, 120)[1]  # three, at ten seconds each


def test_a_log_says_after_which_epoch_a_trial_goes_on_and_not_once_more_what_came_before() -> None:
    console = Console(file=io.StringIO(), width=160)
    live = LiveView(console, Results(), {})
    live.begin(1, lambda: None)
    one = trial(1)
    live.started(one)
    live.placed(one)
    one.resumed = 7
    for one.epoch in range(1, 13):
        live.reported(one)
    told = [line for line in console.file.getvalue().splitlines() if "epoch" in line]  # type: ignore[attr-defined]
    assert [" ".join(line.split()[:6]) for line in told] == [
        "search 1 goes on after epoch",
        "search 1 epoch 9/15",
        "search 1 epoch 12/15",
    ]
