"""Files that take settings from other files: what is no search, and searches that start from each other."""

from pathlib import Path

import pytest

from tests.helpers.mistakes import ABLATION, SEARCH, said_of


def test_a_row_cannot_take_its_settings_from_what_is_no_search(tmp_path: Path) -> None:
    table, search = tmp_path / "table.yaml", tmp_path / "search.yaml"
    search.write_text(SEARCH)

    def best_of(path: Path, settings: str) -> str:
        row = f"name: Plain, best_of: {path}, set: {settings}"
        table.write_text(ABLATION.replace("name: Plain, set: {method: plain}", row))
        return said_of(table)

    assert "rows.1.best_of: " in best_of(table, "{}")
    assert "is not a search" in best_of(table, "{}")
    assert "takes nothing: the row sets all that is searched" in best_of(
        search, "{method: backmix, mask_ratio: 0.1, cut_size: 0.1}"
    )
    assert "searches mask_ratio, which cutmix has not" in best_of(search, "{cut_size: 0.1}")


@pytest.mark.parametrize("circle", [["p"], ["p", "q"], ["p", "q", "r"]])
def test_searches_that_start_from_each_other_are_told_as_a_circle(
    circle: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{name}.yaml" for name in circle]
    for name, start in zip(names, [*names[1:], names[0]], strict=True):
        Path(name).write_text(f"{SEARCH}start_from: {start}\n")
    said = said_of(Path("p.yaml"))
    assert f"is a circle: {', '.join([*names, 'p.yaml'])}. Take one of these out" in said
    assert len(said) < 200
