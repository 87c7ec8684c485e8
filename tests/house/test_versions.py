"""The versions that were tested stand in `pyproject.toml`."""

import re
import tomllib
from itertools import chain

from tests.helpers.paths import ROOT


def test_every_dependency_has_a_version_that_was_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = chain(project["project"]["dependencies"], *project["dependency-groups"].values())
    tested = {line.partition("==")[0] for line in project["tool"]["uv"]["constraint-dependencies"]}
    assert {re.split(r"[^\w-]", line)[0].lower() for line in wanted} <= tested
