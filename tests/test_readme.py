"""What the README promises: its two commands, settings that exist, pictures that are there."""

import re
from pathlib import Path

from trainables.protocols.protocols import PROTOCOLS
from trainables.settings.config import SETTINGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SWEEP = "uv run python -m platform.sweep search_spaces/backmix.yaml"


def test_the_first_two_commands_bring_uv_and_are_the_sweep_and_the_tests() -> None:
    commands = re.findall(r"^\s*(?:\$ )?((?:[^#|`\n]* && )?uv run .*)$", README, re.MULTILINE)
    assert commands[:2] == [f"python3 -m pip install uv && {SWEEP}", "uv run pytest"]


def test_every_setting_is_in_the_table() -> None:
    options = {name for name, s in SETTINGS.items() if s.methods} - {"mask_ratio", "cut_size", "bank_decay"}
    internal = {"pseudo_unknown", "test"}
    for name in set(SETTINGS) - options - internal:
        assert f"`{name}`" in README, name


def test_every_protocol_family_and_unknown_set_is_named() -> None:
    said = (ROOT / "docs" / "protocols.md").read_text()
    for name, protocol in PROTOCOLS.items():
        for word in (name, *protocol.families, *protocol.parts, *protocol.other_sets):
            assert f"`{word}`" in said, word


def test_files_it_links_to_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_method_of_ones_own_is_the_example() -> None:
    assert (ROOT / "examples/noise_mix.py").read_text().strip() in README


def test_every_key_of_a_file_is_named() -> None:
    from platform.files.spec import ABLATION_KEYS, SEARCH_KEYS

    for key in (*ABLATION_KEYS, *SEARCH_KEYS):
        assert f"`{key}`" in README, key


def test_every_ablation_and_search_that_it_shows_is_valid(tmp_path: Path) -> None:
    from platform.files import search_file

    shown = re.findall(r"```yaml\n(name: .*?)```", README, re.DOTALL)
    assert shown
    for text in shown:
        (tmp_path / "shown.yaml").write_text(text)
        assert search_file.load(tmp_path / "shown.yaml").profiles
