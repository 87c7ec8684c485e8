"""A table as text: for the terminal, as Markdown, as LaTeX and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from rich.table import Table

from platform.deciding.looks import FIRST
from platform.deciding.paired import CONFIDENCE
from platform.deciding.power import MOST
from platform.deciding.told import say_closed, say_decision, say_hours, say_paired, signed
from platform.files.names import for_spreadsheets
from platform.reports.table import Comparison, ReportCell, ReportTable
from platform.terminal.text import in_terminal
from trainables.reading.yaml_file import printable

MARK = "†"
LEGEND = f"In brackets: published, and measured − published; {MARK}: more than the spread explains (95 %)."
WIDEST = 4  # columns of a LaTeX table that has published numbers beside measured ones; of wider tables they are below
TALLEST = 40  # lines of a LaTeX table in letters of the text's size: of more, with its caption, a page has no room
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$", "†": r"$^\dagger$",
    "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "–": "--",
    "<": "$<$", ">": "$>$", "\N{WORD JOINER}": "{}",
    **{letter: f"$\\{name}$" for letter, name in zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
         "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta",
         "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega"),
        strict=True,
    )},
}  # fmt: skip


def decimals(table: ReportTable) -> int:
    """As many as the paper prints, at least one."""
    printed = [cell.published for cell in table.all_cells if cell.published is not None]
    return 2 if any(abs(value * 10 - round(value * 10)) > 1e-6 for value in printed) else 1


def measured(cell: ReportCell, digits: int, *, with_n: bool = False) -> str:
    """`84.1 ± 0.3`, `with_n` or where that is not all; empty where there is nothing."""
    if cell.mean is None:
        return ""
    spread = "" if cell.std is None else f" ± {cell.std:.{digits}f}"
    n = f" ({cell.n})" if with_n else ""
    n = f" ({cell.n}/{cell.wanted})" if cell.n < cell.wanted else n
    return f"{cell.mean:.{digits}f}{spread}{n}"


def published(cell: ReportCell, digits: int) -> str:
    """`84.3 −0.2†`; empty where the paper has no number."""
    if cell.published is None:
        return ""
    if cell.difference is None:
        return f"{cell.published:.{digits}f}"
    return f"{cell.published:.{digits}f} {signed(cell.difference, digits)}{MARK if cell.marked else ''}"


def counted(table: ReportTable) -> bool:
    """Whether each cell shows its n, since not all have the same."""
    return len({cell.wanted for cell in table.all_cells if cell.trials}) > 1


def cell_text(cell: ReportCell, digits: int, *, with_n: bool = False) -> str:
    """Everything of a cell on one line."""
    beside = published(cell, digits)
    state = cell.state
    told = measured(cell, digits, with_n=with_n)
    if not told:
        told = "" if state == "published only" else state
    elif state != "done" and "missing" not in state:
        told += f" {state.partition(', ')[2]}"
    return " ".join(part for part in (told, f"[{beside}]" if beside else "") if part) or "–"


def numbers(table: ReportTable) -> str:
    """n of the cells, once for all, or what each says of it."""
    counts = {cell.wanted for cell in table.all_cells if cell.trials}
    if not counts:
        return "Nothing of it is trained by this project."
    if counted(table):
        return "n in parentheses; 3/5: three of the five that are wanted."
    return f"n = {counts.pop()} where a cell does not say otherwise."


def notes(table: ReportTable, legend: str = LEGEND) -> list[str]:
    """What stands below a table."""
    any_published = any(cell.published is not None for cell in table.all_cells)
    about = of_differences(table)
    return [*table.caption, numbers(table), *([legend] if any_published else []), *([about] if about else [])]


def compared(comparison: Comparison, digits: int) -> str:
    """A claim and what became of it, in one line."""
    claim = comparison.claim
    said = f"published {signed(comparison.published, digits)}" if comparison.published is not None else ""
    said = said or f"published {'higher' if claim.sign == '+' else 'lower'}"
    ours = _measured_difference(comparison, digits)
    if comparison.verdict == "not claimed":
        return f"{claim.row} − {claim.over}, {comparison.column}: {ours}"
    why = "seeds do not differ, which gives no interval" if comparison.do_not_vary else "too few for an interval"
    outcome = {"missing": "", "no interval": why}.get(comparison.verdict, comparison.verdict)
    if comparison.decision and comparison.decision.closed:
        here = say_closed(comparison.decision)
        outcome = f"{here} here, {outcome}" if comparison.verdict == "not comparable" else here
    size = f", {comparison.size}" if comparison.size == "as published" else ""
    size = size or (f", {comparison.size} than published" if comparison.size else "")
    more = _advice(comparison, digits) + "".join(f"; {said}" for said in comparison.without)
    alone = comparison.verdict in ("holds", "reversed") and (comparison.holm or 0) > _alpha(comparison)
    return f"{claim.row} − {claim.over}, {comparison.column}: {said}; {ours}" + (
        f": {outcome}{size}{', alone: not among all claims (Holm)' if alone else ''}{more}" if outcome else ""
    )


def _advice(comparison: Comparison, digits: int) -> str:
    """`; n = 31 seeds would find the published +1.0 (power 80%), 26 more, 3.1 core-hours`, where it is undecided; of a
    difference that is measured as 0, nothing."""
    advice = comparison.advice
    if advice is None or not (advice.published or round(advice.difference, digits)):
        return ""
    found = f"the {'published' if advice.published else 'measured'} {signed(advice.difference, digits)}"
    power = f"(power {advice.power:.0%})"
    if advice.n is None:
        return f"; no number of {advice.unit} up to {MOST:,} would find {found} {power}"
    if advice.n <= advice.have:
        return f"; {found} would have been found with n = {advice.n} {advice.unit} {power}"
    cost = f", {say_hours(advice.hours)} {advice.devices}-hours" if advice.hours else ""
    return f"; n = {advice.n:,} {advice.unit} would find {found} {power}, {advice.n - advice.have:,} more{cost}"


def _alpha(comparison: Comparison) -> float:
    return comparison.decision.until.alpha if comparison.decision else 1 - CONFIDENCE


def _measured_difference(comparison: Comparison, digits: int) -> str:
    """The mean with its interval: sequential, or for a fixed n. The two are never mixed."""
    found, decision = comparison.found, comparison.decision
    ours = say_decision(decision, digits) if decision else say_paired(found, digits)
    wilcoxon = f", Wilcoxon p {_probability(found.wilcoxon)}" if found and found.wilcoxon is not None else ""
    return f"{ours}{_p_values(comparison)}{wilcoxon}"


def _p_values(comparison: Comparison) -> str:
    if comparison.p is None or comparison.holm is None:
        return ""
    return f", p {_probability(comparison.p)}, Holm p {_probability(comparison.holm)}"


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def of_differences(table: ReportTable) -> str:
    """What the intervals of a table's differences are, in a sentence or two; nothing where it has none."""
    if not table.comparisons:
        return ""
    until, family = table.spec.until, sum(one.tested for one in table.comparisons)
    if until:
        said = (
            f"Differences are paired by split and seed; their {1 - until.alpha:.0%} intervals are sequential, right "
            f"together at every look from {FIRST} to {until.max_seeds} seeds, and over seeds: the splits are fixed."
        )
    else:
        over = dict.fromkeys(one.found.over for one in table.comparisons if one.found)
        meant = {
            "splits": "over splits: the partitions as a sample of all, each the mean of its seeds",
            "seeds": "over seeds: the splits as they are, fixed",
        }
        about = "".join(f"; {meant[name]}" for name in over)
        said = f"Differences are paired by split and seed, with {CONFIDENCE:.0%} t intervals for a fixed n{about}."
    return f"{said} Holm: p among all {family} of this table." if family else said


def terminal(table: ReportTable) -> Table:
    digits, with_n = decimals(table), counted(table)
    shown = Table(title=in_terminal(table.title), title_justify="left", caption_justify="left", show_lines=False)
    shown.add_column("row")
    for heading in table.headings:
        shown.add_column(in_terminal(heading), justify="right")
    for line in table.cells:
        shown.add_row(in_terminal(line[0].row), *(_in_terminal(cell, digits, with_n) for cell in line))
    shown.caption = "\n".join(map(in_terminal, notes(table)))
    return shown


def _in_terminal(cell: ReportCell, digits: int, with_n: bool) -> str:
    text = in_terminal(cell_text(cell, digits, with_n=with_n))
    if cell.marked:
        return f"[bold]{text}[/bold]"
    return text if cell.mean is not None else f"[dim]{text}[/dim]"


def markdown(table: ReportTable) -> str:
    digits, with_n = decimals(table), counted(table)
    lines = [f"**{in_markdown(table.title)}**", ""]
    lines.append(piped(["row", *map(in_markdown, table.headings)]))
    lines.append("|---|" + "---:|" * len(table.headings))
    lines += [
        piped([in_markdown(line[0].row), *(in_markdown(cell_text(cell, digits, with_n=with_n)) for cell in line)])
        for line in table.cells
    ]
    lines += ["", " ".join(map(in_markdown, notes(table)))]
    if table.comparisons:
        lines += ["", *(f"- {in_markdown(compared(one, digits))}" for one in table.comparisons)]
    return "\n".join(lines) + "\n"


def in_markdown(text: str) -> str:
    """Text without what Markdown reads as code, emphasis, HTML, a link or the end of a cell."""
    return re.sub(r"([\\`*<|]|\[(?=[^\]]*\]\()|(?<!\w)_|_(?!\w))", r"\\\1", printable(text))


def piped(cells: list[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def latex(table: ReportTable) -> str:
    """A `table*` environment, for `\\usepackage{booktabs,graphicx}`, never wider than the text nor higher than a page;
    then what was claimed.

    Of each column what was measured, and beside it what was published; in a table of many columns, in the line below.
    """
    digits, with_n = decimals(table), counted(table)
    with_published = [any(line[i].published is not None for line in table.cells) for i in range(len(table.headings))]
    wide = len(table.headings) > WIDEST
    beside = [there and not wide for there in with_published]
    columns = ["r@{\\hspace{0.6em}}r" if two else "r" for two in beside]
    label = re.sub(r"[^A-Za-z0-9]+", "-", table.name).strip("-")
    caption = f"{tex(table.title)}. {tex(' '.join([*table.caption, numbers(table), of_differences(table)]).strip())}"
    if any(with_published):
        caption += " $^\\dagger$: differs from the published number by more than the spread explains."
    lines = [
        "% \\usepackage{booktabs,graphicx}",
        "\\begin{table*}",
        "\\centering",
        f"\\caption{{{caption}}}",
        f"\\label{{tab:{label}}}",
        *(["\\footnotesize"] if len(table.cells) * (1 + (wide and any(with_published))) > TALLEST else []),
        # As wide as it is, but for the text's width at most.
        "\\resizebox{\\ifdim\\width>\\linewidth \\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{l{''.join(columns)}}}",
        "\\toprule",
        *_tex_heads(table.headings, beside),
        "\\midrule",
    ]
    for line in table.cells:
        ours = [
            measured(cell, digits, with_n=with_n) or ("" if cell.state == "published only" else "--") for cell in line
        ]
        theirs = [_tex_published(cell, digits) for cell in line]
        pairs = zip(ours, theirs, beside, strict=True)
        cells = [tex(text) for one, other, two in pairs for text in ((one, other) if two else (one,))]
        lines.append(" & ".join([tex(line[0].row), *cells]) + " \\\\")
        if wide and any(theirs):
            small = [f"{{\\footnotesize {tex(text)}}}" if text else "" for text in ("published", *theirs)]
            lines.append(" & ".join([f"\\quad {small[0]}", *small[1:]]) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}}", "\\end{table*}"]
    if table.comparisons:
        said = (f"\\item {tex(compared(one, digits))}" for one in table.comparisons)
        lines += ["", "\\begin{itemize}\\sloppy", *said, "\\end{itemize}"]
    return "\n".join(lines) + "\n"


def _tex_heads(headings: Sequence[str], beside: Sequence[bool]) -> Iterator[str]:
    """The names of the columns; over those that have published numbers beside measured ones, which is which."""
    if not any(beside):
        yield " & ".join(["", *map(tex, headings)]) + " \\\\"
        return
    heads, rules, kinds, at = [""], [], [""], 2
    for heading, two in zip(headings, beside, strict=True):
        heads.append(f"\\multicolumn{{2}}{{c}}{{{tex(heading)}}}" if two else tex(heading))
        rules += [f"\\cmidrule(lr){{{at}-{at + 1}}}"] if two else []
        kinds += [f"{{\\footnotesize {kind}}}" for kind in (("measured", "published") if two else ("measured",))]
        at += 1 + two
    yield " & ".join(heads) + " \\\\"
    yield " ".join(rules)
    yield " & ".join(kinds) + " \\\\"


def _tex_published(cell: ReportCell, digits: int) -> str:
    return "" if cell.published is None else f"{cell.published:.{digits}f}{MARK if cell.marked else ''}"


def tex(text: str) -> str:
    """Text as LaTeX reads it, at the beginning of a line of a table or of an item too."""
    shown = re.sub("-(?=-)", "-\N{WORD JOINER}", printable(text))  # two are no dash
    begins = "{}" if shown.startswith(("[", "*")) else ""
    return begins + "".join(_TEX.get(character, character) for character in shown)


CSV_COLUMNS = (
    "table", "profile", "row", "column", "state", "n", "wanted", "mean", "std", "published", "difference", "marked",
    "split_family", "identities", "runs", "low", "high", "p", "holm", "verdict", "interval", "heading",
)  # fmt: skip


def comma_separated(table: ReportTable) -> str:
    """The lines of a table as a file for programs and spreadsheets."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(map(for_spreadsheets, line) for line in csv_lines(table))
    return text.getvalue()


def csv_lines(table: ReportTable) -> Iterator[list[object]]:
    """One line a cell, in percent, unrounded, then one a paired difference of two rows, whose `std` is that of a seed
    within a split, or of a partition. `CSV_COLUMNS` are its values, None where there is none."""
    headings = dict(zip(table.spec.columns, table.headings, strict=True))
    for cell in table.all_cells:
        yield [table.name, table.profile, cell.row, cell.column, *_csv_cell(cell), headings[cell.column]]
    for one in table.comparisons:
        if one.interval:
            row = f"{one.claim.row} − {one.claim.over}"
            yield [table.name, table.profile, row, one.column, *_csv_difference(one), headings[one.column]]


def _csv_cell(cell: ReportCell) -> Iterator[object]:
    families = dict.fromkeys(trial.config.split_family for trial in cell.trials)
    yield from (cell.state, cell.n, cell.wanted, cell.mean, cell.std, cell.published, cell.difference)
    yield "yes" if cell.marked else None
    yield " ".join(families)
    yield " ".join(trial.identity for trial in cell.trials)
    yield " ".join(trial.run_id for trial in cell.trials)
    yield from [None] * 6


def _csv_difference(comparison: Comparison) -> Iterator[object]:
    found, decision, interval = comparison.found, comparison.decision, comparison.interval
    assert interval is not None
    yield from ("paired difference", interval.n, None, interval.mean, interval.spread, comparison.published)
    yield from [None] * 5
    yield from (interval.low, interval.high, comparison.p, None if comparison.p is None else comparison.holm)
    yield f"{decision.outcome}, {comparison.verdict}" if decision else comparison.verdict
    yield "sequential, over seeds" if decision else f"fixed, over {found.over}" if found else None
