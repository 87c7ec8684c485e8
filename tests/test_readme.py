"""What the README promises: its two commands, settings that exist, pictures that are there."""

import re
from pathlib import Path

from trainables.config import SETTINGS
from trainables.data.protocols import PROTOCOLS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_first_two_commands_are_the_sweep_and_the_tests() -> None:
    commands = re.findall(r"^\s*(?:\$ )?(uv run .*)$", README, re.MULTILINE)
    assert commands[:2] == ["uv run python -m platform.sweep search_spaces/backmix.yaml", "uv run pytest"]


def test_every_setting_is_in_the_table() -> None:
    options = {name for name, s in SETTINGS.items() if s.methods} - {"mask_ratio", "cut_size", "bank_decay"}
    internal = {"pseudo_unknown", "test"}
    for name in set(SETTINGS) - options - internal:
        assert f"`{name}`" in README, name


def test_every_protocol_and_family_is_named() -> None:
    for name, protocol in PROTOCOLS.items():
        for word in (name, *protocol.families, *protocol.other_sets):
            assert f"`{word}`" in README, word


def test_files_it_links_to_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
