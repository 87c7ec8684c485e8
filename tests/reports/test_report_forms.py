"""What the forms of a report hold together: wide tables, labels, claims, and names that mean something elsewhere."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from platform.files import search_file
from platform.reports import forms
from platform.reports.of_file import chosen
from platform.reports.page import index_page
from platform.reports.source import TableSource
from platform.reports.table import ReportTable
from platform.tracking.index import SweepRun
from platform.tracking.reader import Reader
from tests.helpers.paths import ROOT
from tests.helpers.tables import TABLE

SEARCH_SPACES = ROOT / "search_spaces"
ESCAPE = "\x1b]0;mine\x07\nnext"


def skeleton(file: Path) -> ReportTable:
    """The table of a file of which nothing has run."""
    spec = search_file.load(file).profile("paper")
    return TableSource(spec, spec, file, "paper", (), False, None, lambda path, profile: {}).table(
        lambda trial, name: None
    )


@pytest.fixture
def table(tmp_path: Path) -> ReportTable:
    (tmp_path / "toy.yaml").write_text(TABLE)
    return skeleton(tmp_path / "toy.yaml")


def renamed(table: ReportTable, name: str) -> ReportTable:
    cells = tuple(tuple(replace(cell, row=name) for cell in line) for line in table.cells)
    return replace(table, cells=cells, caption=(name,))


def test_latex_has_a_label_the_claims_and_a_heading_over_what_is_published(table: ReportTable) -> None:
    text = forms.latex(table)
    assert r"\label{tab:toy}" in text
    assert r"{\footnotesize measured} & {\footnotesize published}" in text
    assert r"\item BackMix \& more $-$ Plain, AUROC: published +1.0; not measured" in text
    assert forms.tex("p < 0.001, 5 % & n_1") == r"p $<$ 0.001, 5 \% \& n\_1"


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("[CLS] token", "{}[CLS] token"),  # no argument of the line break before it
        ("*ours", "{}*ours"),
        ("λ = 0.5", r"$\lambda$ = 0.5"),
        ("with --set", "with -{}-set"),  # no dash
    ],
)
def test_a_name_means_nothing_to_latex(name: str, latex: str) -> None:
    assert forms.tex(name) == latex


def test_of_a_latex_table_with_many_columns_the_published_numbers_are_in_the_line_below() -> None:
    lines = forms.latex(skeleton(SEARCH_SPACES / "backmix" / "table1.yaml")).splitlines()
    below = [line for line in lines if line.startswith(r"\quad {\footnotesize published} & {\footnotesize ")]
    assert len(below) == 4
    assert r"\begin{tabular}{l" + "r" * 8 + "}" in lines


@pytest.mark.parametrize(("name", "small"), [("asymmetric/table01", True), ("asymmetric/table02", False)])
def test_a_latex_table_of_more_lines_than_a_page_has_is_set_in_small_letters(name: str, small: bool) -> None:
    lines = forms.latex(skeleton(SEARCH_SPACES / f"{name}.yaml")).splitlines()
    assert ("\\footnotesize" in lines) == small


def test_an_index_counts_no_claim_of_which_nothing_is_measured(table: ReportTable) -> None:
    text = index_page([(table, "toy.html")])
    assert "none of 2 judged yet" in text
    assert "0 of 2" not in text


@pytest.mark.parametrize("form", [forms.markdown, forms.latex, forms.comma_separated])
def test_no_form_has_an_escape_sequence_or_a_newline_of_a_name(
    form: Callable[[ReportTable], str], table: ReportTable
) -> None:
    text = form(renamed(table, ESCAPE))
    assert "mine" in text
    assert "\x1b" not in text
    assert "\nnext" not in text


def test_a_terminal_shows_an_escape_sequence_and_does_not_obey_it(table: ReportTable) -> None:
    shown = forms.terminal(renamed(table, ESCAPE))
    assert "\x1b" not in "".join(map(str, [*shown.columns[0].cells, shown.caption]))
    assert forms.in_terminal(ESCAPE) == r"\x1b]0;mine\x07\nnext"


@pytest.mark.parametrize("name", ["=1+1", "+ CutMix", "-2", "@SUM(A1)"])
def test_a_text_of_a_csv_is_no_formula_and_numbers_stay_numbers(name: str, table: ReportTable) -> None:
    table = renamed(table, name)
    cells = tuple(tuple(replace(c, values={(0, 0): 0.5}, published=70.0) for c in line) for line in table.cells)
    line = next(csv.DictReader(io.StringIO(forms.comma_separated(replace(table, cells=cells)))))
    assert line["row"] == f"'{name}"
    assert float(line["difference"]) == -20.0


def test_markdown_takes_no_markup_from_a_name() -> None:
    assert (
        forms.in_markdown("a|b <b> `c` *d* [x](y) mask_ratio [12]") == r"a\|b \<b> \`c\` \*d\* \[x](y) mask_ratio [12]"
    )


QUICK = ("quick", "epochs=3 lr=0.1")


@pytest.mark.parametrize(
    ("ran", "changed", "found"),
    [
        ([QUICK, ("quick", "")], (), ("quick", ("epochs=3", "lr=0.1"))),  # the newest is the first
        ([QUICK, ("paper", "")], (), ("paper", ())),
        ([QUICK, ("paper", "")], ("epochs=3", "lr=0.1"), ("quick", ("epochs=3", "lr=0.1"))),
        ([QUICK], ("epochs=4",), ("quick", ("epochs=4",))),
        ([], (), ("paper", ())),
    ],
)
def test_without_a_profile_it_is_the_papers_where_it_ran_else_the_newest_run(
    ran: list[tuple[str, str]], changed: tuple[str, ...], found: tuple[str, tuple[str, ...]], tmp_path: Path
) -> None:
    (tmp_path / "toy.yaml").write_text(TABLE + "profiles: {quick: {splits: [0]}}\n")
    reader = Reader("", sweeps=[SweepRun("", "toy", True, profile, changes, {}, {}) for profile, changes in ran])
    assert chosen(search_file.load(tmp_path / "toy.yaml"), reader, None, changed) == found
