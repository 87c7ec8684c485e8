"""What a report says of claims: of which population, among how many, what would decide them, without one split."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from platform.deciding.looks import looks
from platform.deciding.power import needed, power
from platform.planning.plan import Plan
from platform.reports import forms
from platform.reports.figures.drawing import Runs
from platform.reports.figures.from_claims import power_curves
from platform.reports.figures.from_components import component_shares
from platform.reports.recorded import Recorded
from platform.reports.source import TableSource
from platform.reports.table import Advice, ReportTable
from platform.tracking.index import SweepRun
from platform.tracking.reader import Reader
from tests.helpers.queues import BASE, just_finished, metrics, plan

ROWS = f"""name: rows
{BASE}
splits: [0, 1, 2, 3]
columns: {{AUROC: test/auroc}}
rows:
  - {{name: Plain, set: {{}}, published: {{AUROC: 80.0}}}}
  - {{name: CutMix, set: {{method: cutmix}}, published: {{AUROC: 70.0}}}}
  - {{name: MixUp, set: {{method: distill, mix: mixup, teacher: {{epochs: 9}}}}, published: {{AUROC: 80.5}}}}
claims:
  - {{row: CutMix, over: Plain, columns: [AUROC]}}
  - {{row: MixUp, over: Plain, columns: [AUROC]}}
"""
PARTS = ["nesterov", "weight_decay", "label_smoothing", "warmup_epochs"]
MEANS = {"Plain": 0.9, "CutMix": 0.8, "MixUp": 0.901}
MEANS |= {"none": 0.80, "without nesterov": 0.83, "without weight_decay": 0.82, "full": 0.87}
MEANS |= {f"without {name}": 0.87 for name in PARTS[2:]} | {f"only {name}": 0.80 for name in PARTS}
NOISE = [0.004, -0.006, 0.011, -0.009, 0.002, -0.003]


def auroc(row: str, split: int, seed: int) -> float:
    return MEANS[row] + (row != "Plain") * NOISE[(split + 2 * seed) % 6] + 0.05 * (row == "MixUp" and split == 3)


def table(text: str, of: Plan | None = None, *, sensitivity: bool = False) -> ReportTable:
    """The table of a store in which every trial of a plan is finished."""
    of = of or plan(text)
    finished = {}
    for request in of.requests:
        values = metrics(auroc(request.place.row, request.config.split, request.config.seed))
        trial = replace(just_finished(request.identity, values), seconds=360.0)
        finished[request.identity] = trial
        if request.config.teacher:
            teacher = of.identity(request.config.teacher)
            finished[teacher] = replace(just_finished(teacher, values), seconds=720.0)
    run = SweepRun("", "rows", True, "paper", "", json.loads(json.dumps(of.images.trained_on)), {})
    spec = plan(text).sweeps[0].spec
    source = TableSource(
        spec, spec, Path("rows.yaml"), "paper", (), False, Reader("", finished, sweeps=[run]), lambda f, p: {},
        sensitivity=sensitivity,
    )  # fmt: skip
    return source.table(lambda trial, name: trial.metrics.get(name))


def said(of: ReportTable) -> list[str]:
    return [forms.compared(one, 1) for one in of.comparisons]


def test_a_line_says_over_what_and_whether_n_was_fixed() -> None:
    cutmix, _ = said(table(ROWS))
    assert "n = 4 partitions, fixed, over splits, p < 0.001, Holm p < 0.001: holds" in cutmix
    seeds = ROWS.replace("splits: [0, 1, 2, 3]", "splits: [0, 1]\nseeds: [0, 1, 2]\nover: seeds")
    assert "n = 3 seeds, fixed, over seeds" in said(table(seeds))[0]


@pytest.mark.parametrize("asked", ["", "resources: {cpus_per_worker: 1, gpus_per_worker: 1}\n"])
def test_an_undecided_claim_says_what_n_would_decide_it_and_what_that_costs_where_it_ran(asked: str) -> None:
    of = table(ROWS + asked)
    mixup = of.comparisons[1]
    assert mixup.found is not None
    assert mixup.found.spread is not None
    n = needed(0.5, mixup.found.spread)
    assert n is not None
    hours = (n - 4) * (360 + 360 + 720) / 3600  # both rows and the teacher
    expected = f"; n = {n} partitions would find the published +0.5 (power 80%), {n - 4} more, {hours:.2g} core-hours"
    assert said(of)[1].endswith(f"undecided{expected}")
    assert of.comparisons[0].advice is None


@pytest.mark.parametrize(
    ("advice", "expected"),
    [
        (
            Advice(3, "seeds", 2.0, True, 0.8, 6, 0.0, "core"),
            "; the published +2.0 would have been found with n = 3 seeds",
        ),
        (Advice(2027, "seeds", -0.04, False, 0.8, 3, 770.0, "core"), ""),  # measured as 0: there is nothing to find
        (Advice(1591, "seeds", -0.1, False, 0.8, 3, 770.4, "core"), "n = 1,591 seeds would find the measured −0.1"),
        (Advice(None, "seeds", 0.1, True, 0.8, 3, None, "core"), "; no number of seeds up to 10,000 would find"),
    ],
    ids=["enough", "nothing", "more", "never"],
)
def test_advice_says_what_is_missing_and_no_more(advice: Advice, expected: str) -> None:
    undecided = table(ROWS).comparisons[1]
    line, bare = (forms.compared(replace(undecided, advice=one), 1) for one in (advice, None))
    told = line.removeprefix(bare)
    assert expected in told
    assert bool(told) == bool(expected)
    assert "770 core-hours" in told or "1,591" not in told


def test_where_cells_have_not_equally_many_each_says_how_many() -> None:
    of = table(ROWS)
    assert "n = 4 where a cell does not say otherwise." in forms.markdown(of)
    first, *others = of.cells
    fewer = replace(first[0], trials=first[0].trials[:3], values=dict([*first[0].values.items()][:3]))
    text = forms.markdown(replace(of, cells=((fewer,), *others)))
    assert re.search(r"\| Plain \| .* \(3\) ", text)
    assert re.search(r"\| CutMix \| .* \(4\) ", text)
    assert "n in parentheses" in text


def test_without_a_split_on_which_it_hangs_a_claim_is_another() -> None:
    cutmix, mixup = table(ROWS, sensitivity=True).comparisons
    assert [one.split(" ")[-1] for one in cutmix.without] == ["holds"] * 4
    assert mixup.without[3].startswith("without split 3 +0.4 [")
    assert len(mixup.without) == 4
    assert table(ROWS).comparisons[0].without == ()


@pytest.mark.parametrize("form", [forms.markdown, forms.latex, forms.comma_separated])
def test_every_form_has_holms_value_and_the_population(form: Callable[[ReportTable], str]) -> None:
    text = form(table(ROWS))
    assert "fixed, over splits" in text
    assert "olm" in text


def test_a_csv_has_the_interval_and_p_of_a_difference() -> None:
    of = table(ROWS)
    lines = [
        line for line in csv.DictReader(io.StringIO(forms.comma_separated(of))) if line["state"].startswith("paired")
    ]
    mixup = of.comparisons[1]
    assert mixup.found is not None
    assert [float(lines[1][name]) for name in ("low", "high", "p", "holm")] == [
        mixup.found.low, mixup.found.high, mixup.p, mixup.holm,
    ]  # fmt: skip
    assert (lines[1]["verdict"], lines[1]["interval"]) == ("undecided", "fixed, over splits")


SEEDS = "splits: [0, 1, 2]\nseeds: [0, 1, 2, 3, 4]\nuntil: {max_seeds: 5, alpha: 0.01}"
UNTIL = ROWS.replace("splits: [0, 1, 2, 3]", SEEDS)


def test_until_decided_a_row_is_shown_with_the_seeds_that_its_claims_needed() -> None:
    of = table(UNTIL.replace("seeds: [0, 1, 2, 3, 4]", "seeds: [0]"), plan(UNTIL))
    cells = {cell.row: cell for cell in of.all_cells}
    assert {row: cell.n for row, cell in cells.items()} == {"Plain": 15, "CutMix": 9, "MixUp": 15}
    cutmix, mixup = said(of)
    assert "decided after 3 seeds, sequential, over seeds" in cutmix
    assert "open after 5 seeds, sequential, over seeds" in mixup
    assert "fixed" not in cutmix + mixup
    assert all(one.found is None for one in of.comparisons)
    assert "sequential" in forms.of_differences(of)


def test_power_curves_are_of_the_measured_spread() -> None:
    of = table(ROWS)
    reader = Reader("", {}, sweeps=[])
    (drawing,) = power_curves(Runs(of, reader, Recorded(reader), Path()))
    curve = drawing.data[drawing.data["claim"].str.startswith("MixUp")]
    n = next(int(one.advice.n) for one in of.comparisons if one.advice and one.advice.n)
    if n in set(curve["n"]):
        assert curve[curve["n"] == n]["power"].item() >= 0.8
    assert curve["power"].is_monotonic_increasing
    assert of.figures == ["power"]
    assert "fixed n, over splits" in drawing.caption


def test_a_sequential_curve_has_the_power_of_each_look() -> None:
    """A look after three seeds asks for far more than the last one."""
    of = table(UNTIL)
    reader = Reader("", {}, sweeps=[])
    (drawing,) = power_curves(Runs(of, reader, Recorded(reader), Path()))
    curve = drawing.data[drawing.data["claim"].str.startswith("MixUp")]
    (one,) = (one for one in of.comparisons if one.claim.row == "MixUp")
    assert one.interval is not None
    spread, strata = one.interval.spread, one.interval.strata
    assert spread is not None
    for look in looks(5, strata, 0.01):
        expected = power(one.published or 0.0, look.n, spread, strata, limit=look.critical)
        assert curve[curve["n"] == look.n]["power"].item() == pytest.approx(expected)
    assert min(curve["n"]) == 3
    assert "sequential, at the look after n seeds" in drawing.caption


def shares_of(components: str) -> tuple[dict[str, float], str]:
    """The shares of components in AUROC, in points, and what the figure says."""
    base = BASE.replace("}", ", label_smoothing: 0.1, warmup_epochs: 1}")
    of = table(f"name: rows\n{base}columns: {{AUROC: test/auroc}}\nleave_one_out: {components}\nadd_one_in: true\n")
    assert of.figures == ["shares"]
    reader = Reader("", {}, sweeps=[])
    (drawing,) = component_shares(Runs(of, reader, Recorded(reader), Path()))
    return dict(zip(drawing.data["component"], drawing.data["share"], strict=True)), drawing.caption


def test_of_two_components_the_report_draws_what_each_has_of_the_whole() -> None:
    """By hand: none 80, nesterov alone 82, weight_decay alone 83, both 87."""
    found, caption = shares_of("[nesterov, weight_decay]")
    assert found == pytest.approx({"nesterov": 3.0, "weight_decay": 4.0, "all together": 7.0})
    assert "Exact: all 4 rows are there." in caption


def test_of_four_components_it_is_an_estimate_that_says_which_rows_are_missing() -> None:
    found, caption = shares_of(f"[{', '.join(PARTS)}]")
    assert found["all together"] == pytest.approx(7.0)
    assert "6 of 16 rows are missing" in caption
    rows = yaml.safe_load(f"[{caption.partition('make it exact: ')[2].replace('; ', ', ')}]")
    assert len(rows) == 6
    assert {"name": "only nesterov, weight_decay", "set": {"label_smoothing": 0.0, "warmup_epochs": 0}} in rows
