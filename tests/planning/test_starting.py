"""A search that starts from what is known: finished trials of its own kind, and settings to try first."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from platform.files import search_file
from platform.terminal.tables import trials_table
from tests.helpers.database import new_database
from tests.helpers.searches import SEARCH, Search
from trainables.reading.yaml_file import ConfigError


def second(search: Search, *start: str, trials: int = 2) -> str:
    """Another search like the first one, whose file is kept beside it."""
    (search.folder / "first.yaml").write_text(SEARCH)
    listed = ", ".join(start or (f"{search.folder}/first.yaml",))
    return SEARCH.replace("name: toy", "name: second").replace("trials: 3", f"trials: {trials}\nstart_from: [{listed}]")


def test_finished_trials_of_a_search_are_known_to_another_whose_proposals_they_are(search: Search) -> None:
    search.command([0.7, 0.9, 0.5])
    results = search.command([0.6, 0.8], text=second(search))
    told = list(search.study.history())
    assert [(one.known, one.metrics["val/auroc"]) for one in told] == [
        *((True, value) for value in (0.7, 0.9, 0.5)),  # the one that was confirmed, on test images, is none of them
        *((False, value) for value in (0.6, 0.8)),
    ]
    assert results.best["second"] == [told[1].proposal.settings]
    assert (results.trials("finished"), results.cached) == (2, 4)  # its confirmation is there as well
    assert len(search.tried()) == 5
    again = search.command([], text=second(search))
    assert (again.trials("finished"), len(list(search.study.history()))) == (0, 5)


def test_what_is_known_is_told_apart_and_counted_in_the_terminal_and_the_store(search: Search) -> None:
    search.command([0.7, 0.9, 0.5])
    results = search.command([0.6, 0.8], text=second(search))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(trials_table(search.sweep, search.study, results))
    assert capture.get().count("known") == 3
    sweep = next(s for s in search.reader.sweeps if s.experiment == "second")
    assert sweep.params["known_results"] == "3"


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ("float: [0.01, 0.1]", 3),
        ("float: [0.0001, 0.5], log: true", 3),
        ("float: [0.2, 0.5]", 0),
        ("choice: [0.3, 0.4]", 0),
    ],
)
def test_only_settings_that_lie_in_the_space_are_known(change: str, known: int, search: Search) -> None:
    search.command([0.7, 0.9, 0.5])
    search.command([], text=second(search).replace("float: [0.01, 0.1]", change), cut=True)
    assert sum(told.known for told in search.study.history()) == known


def test_trials_of_other_fixed_settings_are_not_known_but_their_best_is_proposed_first(search: Search) -> None:
    search.command([0.7, 0.9, 0.5])
    best = search.best()
    search.command([0.6, 0.8], text=second(search).replace("epochs: 3", "epochs: 2"))
    told = list(search.study.history())
    assert [one.known for one in told] == [False, False]
    assert told[0].proposal.settings == best


@pytest.mark.parametrize(("neighbour", "known"), [(5, 3), (7, 0)])
def test_trials_that_were_judged_by_a_score_with_other_settings_are_not_known(
    neighbour: int, known: int, search: Search
) -> None:
    search.command([0.7, 0.9, 0.5], text=SEARCH.replace("epochs: 3", "epochs: 3, score: knn, knn_k: 5"))
    text = second(search).replace("epochs: 3", f"epochs: 3, score: knn, knn_k: {neighbour}")
    search.command([], text=text, cut=True)
    assert sum(told.known for told in search.study.history()) == known


def test_guesses_are_proposed_first_once_and_the_rest_of_them_is_the_samplers(search: Search) -> None:
    text = second(search, "{lr: 0.05}", "{momentum: 0.5}", trials=4).replace(
        "lr: {", "momentum: {float: [0.1, 0.9]}, lr: {"
    )
    search.command([0.7], text=text, cut=True)
    search.command([0.6, 0.8, 0.5], text=text)
    settings = [told.proposal.settings for told in search.study.history()]
    assert (len(settings), settings[0]["lr"], settings[1]["momentum"]) == (4, 0.05, 0.5)
    assert [one["lr"] for one in settings].count(0.05) == 1


def test_a_mean_is_known_where_all_of_its_trainings_are(search: Search) -> None:
    means = "seeds: [0, 1]\n"
    other = SEARCH.replace("name: toy", "name: other") + means + "optuna: {seed: 5}\n"
    search.command([0.7, 0.9, 0.5], text=SEARCH)  # with seed 0 alone
    search.command([], text=second(search).replace("trials", f"{means}trials"), cut=True)
    assert not any(told.known for told in search.study.history())
    search.command([0.7, 0.9, 0.5, 0.3, 0.1, 0.1], text=other)
    search.command([], text=second(search).replace("trials", f"{means}trials"), cut=True)
    known = [told.metrics["val/auroc"] for told in search.study.history() if told.known]
    assert known == pytest.approx([0.8, 0.4, 0.1])


def test_a_search_starts_from_another_store(search: Search, tmp_path: Path) -> None:
    search.command([0.7, 0.9, 0.5])
    (tmp_path / "elsewhere").mkdir()
    here = Search(tmp_path / "elsewhere", f"sqlite:///{new_database(tmp_path / 'elsewhere')}")
    here.command([0.6, 0.8], text=second(here, search.uri))
    assert [told.known for told in here.study.history()] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("[{lr: 0.5}]", "start_from.0.lr: 0.5 is not in what is searched"),
        ("{lrr: 0.05}", "start_from.0.lrr: is not searched (did you mean 'lr'?)"),
        ("rows.yaml", "rows.yaml is not a search: it has no `search`. A search starts from what searches have seen"),
        ("nowhere.yaml", "nowhere.yaml"),
        ("7", "write a search file, an MLflow store"),
    ],
)
def test_what_a_search_cannot_start_from_is_refused(
    start: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.yaml").write_text("name: rows\nbase: {protocol: digits}\nrows: [{name: Plain, set: {method: plain}}]\n")
    Path("toy.yaml").write_text(f"{SEARCH}start_from: {start}\n")
    with pytest.raises(ConfigError) as error:
        search_file.load(Path("toy.yaml"))
    assert said in str(error.value)


def test_a_search_that_has_found_nothing_yet_is_nothing_to_start_from(search: Search) -> None:
    with pytest.raises(ConfigError, match=r"first\.yaml, profile paper, has no result yet"):
        search.command([], text=second(search))
