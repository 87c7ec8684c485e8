"""A table as text: for the terminal, as Markdown, as LaTeX and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from platform.reports.table import Comparison, ReportCell, ReportTable

MARK = "†"
LEGEND = f"In brackets: published, and measured − published; {MARK}: more than the spread explains (95 %)."
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$", "†": r"$^\dagger$",
    "×": r"$\times$", "μ": r"$\mu$", "η": r"$\eta$", "τ": r"$\tau$", "≤": r"$\leq$", "≥": r"$\geq$", "–": "--",
}  # fmt: skip


def decimals(table: ReportTable) -> int:
    """As many as the paper prints, at least one."""
    printed = [cell.published for cell in table.all_cells if cell.published is not None]
    return 2 if any(abs(value * 10 - round(value * 10)) > 1e-6 for value in printed) else 1


def measured(cell: ReportCell, digits: int) -> str:
    """`84.1 ± 0.3`, with n where it is not all; empty where there is nothing."""
    if cell.mean is None:
        return ""
    spread = "" if cell.std is None else f" ± {cell.std:.{digits}f}"
    return f"{cell.mean:.{digits}f}{spread}" + (f" ({cell.n}/{cell.wanted})" if cell.n < cell.wanted else "")


def published(cell: ReportCell, digits: int) -> str:
    """`84.3 −0.2†`; empty where the paper has no number."""
    if cell.published is None:
        return ""
    if cell.difference is None:
        return f"{cell.published:.{digits}f}"
    return f"{cell.published:.{digits}f} {signed(cell.difference, digits)}{MARK if cell.marked else ''}"


def signed(value: float, digits: int = 1) -> str:
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−")


def cell_text(cell: ReportCell, digits: int) -> str:
    """Everything of a cell on one line."""
    beside = published(cell, digits)
    state = cell.state
    told = measured(cell, digits)
    if not told:
        told = "" if state == "published only" else state
    elif state != "done" and "missing" not in state:
        told += f" {state.partition(', ')[2]}"
    return " ".join(part for part in (told, f"[{beside}]" if beside else "") if part) or "–"


def numbers(table: ReportTable) -> str:
    """n of the cells, once for all."""
    counts = sorted({cell.wanted for cell in table.all_cells if cell.trials})
    if not counts:
        return "Nothing of it is trained by this project."
    of = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"n = {of} where a cell does not say otherwise."


def notes(table: ReportTable, legend: str = LEGEND) -> list[str]:
    """What stands below a table."""
    any_published = any(cell.published is not None for cell in table.all_cells)
    return [*table.caption, numbers(table), *([legend] if any_published else [])]


def compared(comparison: Comparison, digits: int) -> str:
    """A claim and what became of it, in one line."""
    claim, found = comparison.claim, comparison.found
    said = f"published {signed(comparison.published, digits)}" if comparison.published is not None else ""
    said = said or f"published {'higher' if claim.sign == '+' else 'lower'}"
    if found is None:
        ours = "not measured"
    else:
        interval = ""
        if found.low is not None and found.high is not None:
            interval = f" [{signed(found.low, digits)}, {signed(found.high, digits)}]"
        p = f", Wilcoxon p = {found.wilcoxon:.3f}" if found.wilcoxon is not None else ""
        ours = f"measured {signed(found.mean, digits)}{interval}, n = {found.n} {found.unit}{p}"
    outcome = {"missing": "", "no interval": "too few for an interval"}.get(comparison.verdict, comparison.verdict)
    size = f", {comparison.size}" if comparison.size == "as published" else ""
    size = size or (f", {comparison.size} than published" if comparison.size else "")
    return f"{claim.row} − {claim.over}, {comparison.column}: {said}; {ours}" + (
        f": {outcome}{size}" if outcome else ""
    )


def terminal(table: ReportTable) -> Table:
    digits = decimals(table)
    shown = Table(title=escape(table.title), title_justify="left", caption_justify="left", show_lines=False)
    shown.add_column("row")
    for heading in table.headings:
        shown.add_column(escape(heading), justify="right")
    for line in table.cells:
        shown.add_row(escape(line[0].row), *(_in_terminal(cell, digits) for cell in line))
    shown.caption = "\n".join(map(escape, notes(table)))
    return shown


def _in_terminal(cell: ReportCell, digits: int) -> str:
    text = escape(cell_text(cell, digits))
    if cell.marked:
        return f"[bold]{text}[/bold]"
    return text if cell.mean is not None else f"[dim]{text}[/dim]"


def markdown(table: ReportTable) -> str:
    digits = decimals(table)
    lines = [f"**{table.title}**", ""]
    lines.append(_piped(["row", *table.headings]))
    lines.append("|---|" + "---:|" * len(table.headings))
    lines += [_piped([line[0].row, *(cell_text(cell, digits) for cell in line)]) for line in table.cells]
    lines += ["", " ".join(notes(table))]
    if table.comparisons:
        lines += ["", *(f"- {compared(one, digits)}" for one in table.comparisons)]
    return "\n".join(lines) + "\n"


def _piped(cells: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


def latex(table: ReportTable) -> str:
    """A `table` environment for `\\usepackage{booktabs}`: of each column what was measured, then what was published."""
    digits = decimals(table)
    both = ["r@{\\hspace{0.6em}}r" for _ in table.headings]
    heads = [f"\\multicolumn{{2}}{{c}}{{{tex(heading)}}}" for heading in table.headings]
    rules = [f"\\cmidrule(lr){{{2 * i + 2}-{2 * i + 3}}}" for i in range(len(heads))]
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{tex(table.title)}. {tex(' '.join([*table.caption, numbers(table)]))} Beside it: published; "
        "$^\\dagger$: differs by more than the spread explains.}",
        f"\\begin{{tabular}}{{l{''.join(both)}}}",
        "\\toprule",
        " & ".join(["", *heads]) + " \\\\",
        " ".join(rules),
    ]
    for line in table.cells:
        cells = []
        for cell in line:
            ours = measured(cell, digits) or ("" if cell.state == "published only" else "--")
            theirs = "" if cell.published is None else f"{cell.published:.{digits}f}{MARK if cell.marked else ''}"
            cells += [tex(ours), tex(theirs)]
        lines.append(" & ".join([tex(line[0].row), *cells]) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def tex(text: str) -> str:
    """Text as LaTeX reads it."""
    return "".join(_TEX.get(character, character) for character in text)


CSV_COLUMNS = (
    "table", "profile", "row", "column", "state", "n", "wanted", "mean", "std", "published", "difference", "marked",
    "split_family", "identities", "runs",
)  # fmt: skip


def comma_separated(table: ReportTable) -> str:
    """One line a cell, in percent, unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(_csv_line(table, cell) for cell in table.all_cells)
    return text.getvalue()


def _csv_line(table: ReportTable, cell: ReportCell) -> Iterator[object]:
    families = dict.fromkeys(trial.config.split_family for trial in cell.trials)
    yield from (table.name, table.profile, cell.row, cell.column, cell.state, cell.n, cell.wanted)
    for value in (cell.mean, cell.std, cell.published, cell.difference):
        yield "" if value is None else value
    yield "yes" if cell.marked else ""
    yield " ".join(families)
    yield " ".join(trial.identity for trial in cell.trials)
    yield " ".join(trial.run_id for trial in cell.trials)
