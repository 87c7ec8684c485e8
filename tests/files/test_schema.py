"""The JSON schema of search files, and the settings as the terminal lists them."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from platform import sweep
from platform.files.schema import WHERE, schema, schema_text
from tests.helpers.paths import ROOT
from tests.helpers.sweeps import here
from trainables.reading import yaml_file
from trainables.settings.config import TRIAL_SETTINGS
from trainables.settings.explained import settings_of
from trainables.settings.methods import METHODS
from trainables.settings.resolving import SETTINGS

FILES = [*sorted((ROOT / "search_spaces").rglob("*.yaml")), *sorted((ROOT / "examples").glob("*.yaml"))]
VALIDATOR = Draft202012Validator(schema())


def mistakes(file: Any) -> list[str]:
    return ["/".join(map(str, error.path)) for error in VALIDATOR.iter_errors(file)]


def test_the_committed_schema_is_what_the_code_makes() -> None:
    assert (ROOT / WHERE).read_text() == schema_text(), f"python -m platform.sweep --schema > {WHERE}"
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_ours_is_right_by_it(path: Path) -> None:
    assert mistakes(yaml_file.load(path).data) == []


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"colums": {}}, ""),
        ({"base": {"method": "backmux"}}, "base/method"),
        ({"base": {"epochs": 0}}, "base/epochs"),
        ({"base": {"teacher": {"lr": "high"}}}, "base/teacher/lr"),
        ({"splits": ["a"]}, "splits/0"),
        ({"resources": {"gpus_per_worker": "all"}}, "resources/gpus_per_worker"),
        ({"profiles": {"quick": {"base": {"epochs": "many"}}}}, "profiles/quick/base/epochs"),
    ],
)
def test_a_mistake_is_found_where_it_is(changed: dict[str, Any], where: str) -> None:
    file = {"name": "toy", "base": {"method": "plain"}, "rows": [{"name": "Plain"}]}
    assert mistakes(file) == []
    assert mistakes({**file, **changed}) == [where]


def test_settings_and_methods_are_explained() -> None:
    names = schema()["$defs"]["settings"]["properties"]
    assert set(names) == set(SETTINGS)
    assert all(len(one["description"]) > 20 for one in names["method"]["anyOf"])
    assert names["mask_ratio"]["description"].endswith("(of backmix)")


@pytest.mark.parametrize("method", METHODS)
def test_the_settings_of_a_method_are_listed_as_it_has_them(method: str) -> None:
    listed = {name: default for name, default, _, _ in settings_of(method)}
    assert set(listed) >= set(TRIAL_SETTINGS) - {"objective", "mix"}
    assert set(listed) <= set(SETTINGS)


def test_a_method_that_there_is_not_is_told(tmp_path: Path) -> None:
    done = here(sweep.main, tmp_path, "--list-settings", "backmux")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("backmux: no method of this name (did you mean 'backmix'?)")


def test_the_terminal_lists_the_settings_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        sweep.main(["--list-settings", "backmix"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "mask_ratio" in said
    assert "outlier_set" not in said


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweep.main(["--schema"])
    assert json.loads(capsys.readouterr().out) == schema()
