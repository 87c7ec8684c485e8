"""A reduced or changed run says so by itself."""

from pathlib import Path

import pytest

from platform.files import search_file
from platform.files.rows import part_of
from platform.planning.plan import ImageSets, Sweep, make_plan
from platform.planning.results import Results
from platform.terminal.tables import rows_table
from tests.helpers.paths import ROOT

DIGITS = ["protocol=digits", "split_family=agc", "epochs=2", "scheduler=null"]


def caption(profile: str, changed: list[str]) -> str:
    file = ROOT / "search_spaces" / "backmix.yaml"
    read = search_file.load(file)
    reduced = not part_of(read.profile(profile), read.profile("paper"))
    sweep = Sweep(file, read.profile(profile, changed), profile, tuple(changed), reduced)
    images = ImageSets(Path())
    make_plan([sweep], images, lambda path, profile: {})
    return str(rows_table(sweep, Results(), images).caption)


@pytest.mark.parametrize(("profile", "changed"), [("quick", []), ("quick", ["lr=0.05"])])
def test_a_reduced_profile_is_not_comparable(profile: str, changed: list[str]) -> None:
    assert "not the paper's protocol, not comparable with its table" in caption(profile, changed)


def test_the_papers_profile_changed_by_hand_says_what_was_changed() -> None:
    said = caption("paper", DIGITS)
    assert "epochs=2" in said
    assert "not the protocol of the file" in said


def test_every_caption_names_data_family_and_score() -> None:
    said = caption("quick", [])
    assert "digits, split family agc" in said
    assert "score msp" in said
