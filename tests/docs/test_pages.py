"""What the README and the pages promise: commands, settings that exist, files that are there."""

import re
import runpy
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from trainables.protocols.protocols import PROTOCOLS
from trainables.settings.resolving import SETTINGS

README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
SWEEP = "uv run python -m platform.sweep search_spaces/backmix.yaml"


def test_the_first_two_commands_bring_uv_and_are_the_sweep_and_the_tests() -> None:
    commands = re.findall(r"^\s*(?:\$ )?((?:[^#|`\n]* && )?uv run .*)$", README, re.MULTILINE)
    assert commands[:2] == [f"python3 -m pip install uv && {SWEEP}", "uv run pytest"]


def test_pages_that_are_made_from_the_code_are_what_it_makes() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make.py"))["pages"]()
    assert {path: path.read_text() for path in made} == made


def test_every_setting_is_on_its_page() -> None:
    said = (ROOT / "docs" / "settings.md").read_text()
    for name in SETTINGS:
        assert f"`{name}`" in said, name


def test_every_protocol_family_and_unknown_set_is_named() -> None:
    said = (ROOT / "docs" / "protocols.md").read_text()
    for name, protocol in PROTOCOLS.items():
        for word in (name, *protocol.families, *protocol.parts, *protocol.other_sets):
            assert f"`{word}`" in said, word


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_links_to_exist(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_mix_of_ones_own_is_the_example() -> None:
    assert (ROOT / "examples/noise_mix.py").read_text().strip() in (ROOT / "docs" / "extending.md").read_text()


def test_every_key_of_a_file_is_named() -> None:
    from platform.files.spec import ABLATION_KEYS, SEARCH_KEYS

    said = (ROOT / "docs" / "writing.md").read_text()
    for key in (*ABLATION_KEYS, *SEARCH_KEYS):
        assert f"`{key}`" in said, key


def test_every_ablation_and_search_that_is_shown_is_valid(tmp_path: Path) -> None:
    from platform.files import search_file

    pages = "\n".join((ROOT / page).read_text() for page in PAGES)
    shown = re.findall(r"```yaml\n(name: .*?)```", pages, re.DOTALL)
    assert shown
    for text in shown:
        (tmp_path / "shown.yaml").write_text(text)
        assert search_file.load(tmp_path / "shown.yaml").profiles
