"""The identity of every trial of every shipped file and profile, frozen: who changes one sees it, and says why.

`python -m tests.settings.test_golden_identities` writes the file anew; what changed belongs in a commit of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from platform.files import search_file
from platform.files.rows import row_list, trials
from platform.files.spec import Spec
from platform.files.trial_settings import search_settings, with_teacher
from tests.helpers.paths import ROOT
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve

GOLDEN = Path(__file__).parent / "golden_identities.json"
FILES = sorted(
    str(p.relative_to(ROOT))
    for p in [*(ROOT / "search_spaces").rglob("*.yaml"), *(ROOT / "examples").glob("*.yaml")]  # clusters' have none
)


class Fingerprints(dict[str, str]):
    """In place of images: a fixed text for each set."""

    def __missing__(self, name: str) -> str:
        return f"fingerprint of {name}"


def identities(spec: Spec) -> dict[str, str]:
    """Of each row and column: a digest of the identities of its trials and teachers, over all splits and seeds."""
    return {name: hashlib.sha256("\n".join(found).encode()).hexdigest()[:16] for name, found in _by_row(spec)}


def _by_row(spec: Spec) -> Iterator[tuple[str, list[str]]]:
    if spec.search:
        yield "search", list(_of(resolve(search_settings(spec))))
        yield "confirm", list(_of(resolve(with_teacher(spec, {}))))
    for row in row_list(spec) if spec.is_ablation else spec.confirm.baselines if spec.confirm else []:
        if row.published_only:
            continue
        columns: dict[str, list[str]] = {}
        for column, config in trials(spec, row):
            columns.setdefault(column, []).extend(_of(config))
        yield from ((f"{row.name} | {column}" if column else row.name, found) for column, found in columns.items())


def _of(config: TrialConfig) -> Iterator[str]:
    yield identity_of(config, Fingerprints())
    if config.teacher:
        yield identity_of(config.teacher, Fingerprints())


def of_file(name: str) -> dict[str, dict[str, str]]:
    file = search_file.load(ROOT / name)
    return {profile: identities(file.profile(profile)) for profile in file.profiles}


@pytest.mark.parametrize("name", FILES)
def test_identities_of_a_shipped_file_are_those_that_were_frozen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # rows take their settings from files named from here
    assert of_file(name) == json.loads(GOLDEN.read_text())[name]


def test_every_shipped_file_is_frozen_and_no_other() -> None:
    assert sorted(json.loads(GOLDEN.read_text())) == FILES


@pytest.mark.parametrize("profile", ["paper", "reduced", "quick"])
def test_prosers_first_stage_in_table_4_is_the_trial_that_plain_is(profile: str) -> None:
    spec = search_file.load(ROOT / "search_spaces/backmix/table4.yaml").profile(profile)
    rows = {row.name: [config for _, config in trials(spec, row)] for row in row_list(spec) if not row.published_only}
    first = [identity_of(config.teacher, Fingerprints()) for config in rows["PROSER"] if config.teacher]
    assert first == [identity_of(config, Fingerprints()) for config in rows["Plain"]]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: of_file(name) for name in FILES}, indent=1, ensure_ascii=False) + "\n")
