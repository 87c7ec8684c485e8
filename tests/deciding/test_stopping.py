"""`until: decided`: claims that close, rows that get no more seeds."""

import pytest
import yaml

from platform.deciding.stopping import decisions, seeds_of, wanted_seeds
from platform.files.spec import Spec
from tests.helpers.queues import BASE

TEXT = f"""name: rows
{BASE}
splits: [0, 1]
columns: {{AUROC: test/auroc}}
rows:
  - {{name: Plain, set: {{}}, published: {{AUROC: 80.0}}}}
  - {{name: CutMix, set: {{method: cutmix}}, published: {{AUROC: 78.0}}}}
  - {{name: MixUp, set: {{method: mixup}}, published: {{AUROC: 81.0}}}}
claims:
  - {{row: CutMix, over: Plain, columns: [AUROC]}}
  - {{row: MixUp, over: Plain, columns: [AUROC]}}
"""

NOISE = [0.3, -0.2, 0.1, -0.3, 0.2, -0.1, 0.0, 0.25]
Table = dict[str, dict[tuple[int, int], float]]


def spec(until: str) -> Spec:
    return Spec.model_validate(yaml.safe_load(f"{TEXT}until: {until}\n"))


def table(n: int, **means: float) -> Table:
    noise = {(split, seed): NOISE[(seed + 3 * split) % 8] for split in (0, 1) for seed in range(n)}
    rows = {"Plain": 0.0, "CutMix": 0.0, "MixUp": 0.0} | means
    return {row: {key: mean + (row != "Plain") * noise[key] for key in noise} for row, mean in rows.items()}


def outcomes(of: Spec, values: Table) -> dict[str, tuple[str, int]]:
    return {one.claim.row: (one.outcome, one.n) for one in decisions(of, lambda row, column: values[row])}


@pytest.mark.parametrize(("mean", "outcome"), [(-3.0, ("holds", 3)), (3.0, ("reversed", 3)), (0.0, ("smaller", 4))])
def test_a_claim_closes_at_the_first_look_that_shows_it(mean: float, outcome: tuple[str, int]) -> None:
    of = spec("{max_seeds: 12, smallest: 0.5}")
    assert outcomes(of, table(8, CutMix=mean))["CutMix"] == outcome


def test_without_a_smallest_difference_none_stays_open() -> None:
    assert outcomes(spec("{max_seeds: 12}"), table(8))["CutMix"] == ("open", 8)


def test_differences_that_are_all_the_same_close_nothing() -> None:
    of, values = spec("{max_seeds: 8, smallest: 0.5}"), table(5)
    values["CutMix"] = {key: value + 1.5 for key, value in values["Plain"].items()}
    assert outcomes(of, values)["CutMix"] == ("open", 5)
    values["CutMix"][0, 4] += 0.1  # and once they differ, they are looked at
    assert outcomes(of, values)["CutMix"] == ("reversed", 5)


def test_a_closed_claim_stays_as_it_was_whatever_comes_later() -> None:
    of = spec("{max_seeds: 8}")
    early = table(3, CutMix=-3.0)
    late = table(8, CutMix=-3.0)
    for seed in range(3, 8):
        late["CutMix"] |= {(split, seed): 50.0 for split in (0, 1)}
    assert outcomes(of, early)["CutMix"] == outcomes(of, late)["CutMix"] == ("holds", 3)


def test_rows_that_no_open_claim_needs_get_no_more_seeds() -> None:
    of = spec("{max_seeds: 8}")
    values = table(3, CutMix=-3.0)
    wanted = wanted_seeds(of, decisions(of, lambda row, column: values[row]))
    assert wanted == {"CutMix": 3, "Plain": 4, "MixUp": 4}


def test_at_the_last_seed_an_open_claim_asks_for_no_more() -> None:
    of = spec("{max_seeds: 8}")
    values = table(8)
    decided = decisions(of, lambda row, column: values[row])
    assert {one.outcome for one in decided} == {"open"}
    assert set(wanted_seeds(of, decided).values()) == {8}


def test_a_seed_that_failed_holds_up_those_after_it() -> None:
    of = spec("{max_seeds: 8}")
    values = table(6)
    del values["CutMix"][1, 2]
    assert outcomes(of, values) == {"CutMix": ("open", 2), "MixUp": ("open", 6)}
    wanted = wanted_seeds(of, decisions(of, lambda row, column: values[row]))
    assert wanted == {"CutMix": 3, "Plain": 7, "MixUp": 7}


def test_seeds_go_on_after_those_of_the_file() -> None:
    assert seeds_of(spec("{max_seeds: 5}")) == [0, 1, 2, 3, 4]
    own = spec("decided").model_copy(update={"seeds": [7, 1]})
    assert seeds_of(own)[:5] == [7, 1, 0, 2, 3]
    assert len(seeds_of(own)) == 20
