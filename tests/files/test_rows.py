"""From what an ablation file writes to the rows of its table."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.utils.validation import _validate_metric_name

from platform.files import search_file
from platform.files.rows import column_groups, columns, part_of, row_list, trials
from platform.files.search_file import changing_results
from platform.files.spec import Spec
from platform.files.trial_settings import with_teacher
from trainables.reading.yaml_file import ConfigError
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve

BASE = "name: toy\nbase: {method: asymmetric, backbone: wrn10-1, teacher: {backbone: wrn16-1}, epochs: 4}\n"
IMAGES = {"digits": "a", "cifar10": "b"}


def ablation(tmp_path: Path, text: str) -> Spec:
    file = tmp_path / "toy.yaml"
    file.write_text(BASE + text)
    return search_file.load(file).profile("paper")


def rows(tmp_path: Path, text: str) -> dict[str, Any]:
    return {row.name: row.set for row in row_list(ablation(tmp_path, text))}


def test_a_row_changes_the_base_and_may_have_published_numbers(tmp_path: Path) -> None:
    spec = ablation(tmp_path, "rows: [{name: (a) CutMix, set: {method: cutmix}, published: {Acc.: 84.3}}]")
    (row,) = row_list(spec)
    assert (row.name, row.set, row.published) == ("(a) CutMix", {"method": "cutmix"}, {"Acc.": 84.3})


def test_a_row_without_set_is_published_only_and_one_with_an_empty_set_is_the_base(tmp_path: Path) -> None:
    text = "rows: [{name: Ours, set: {}}, {name: Theirs, published: {Acc.: 90}}]"
    assert [row.published_only for row in row_list(ablation(tmp_path, text))] == [False, True]


def test_a_grid_is_the_cross_product_after_the_rows(tmp_path: Path) -> None:
    text = "rows: [{name: base, set: {}}]\ngrid: {cmi_weight: [0.5, 1], mix: [cutmix, mixup]}"
    assert rows(tmp_path, text) == {
        "base": {},
        "cmi_weight=0.5, mix=cutmix": {"cmi_weight": 0.5, "mix": "cutmix"},
        "cmi_weight=0.5, mix=mixup": {"cmi_weight": 0.5, "mix": "mixup"},
        "cmi_weight=1, mix=cutmix": {"cmi_weight": 1, "mix": "cutmix"},
        "cmi_weight=1, mix=mixup": {"cmi_weight": 1, "mix": "mixup"},
    }


def test_a_row_may_have_a_grid_of_its_own(tmp_path: Path) -> None:
    text = "rows: [{name: Mix, set: {method: mixup}, grid: {mix_alpha: [0.20, 1.0]}}]"
    assert rows(tmp_path, text) == {
        "Mix, mix_alpha=0.2": {"method": "mixup", "mix_alpha": 0.2},
        "Mix, mix_alpha=1": {"method": "mixup", "mix_alpha": 1.0},
    }


def test_published_numbers_of_a_grid_find_their_row_by_its_values(tmp_path: Path) -> None:
    spec = ablation(tmp_path, "grid: {cmi_weight: [0.5, 1]}\npublished: [{cmi_weight: 1, Acc.: 84, AUROC: 82.8}]")
    assert [row.published for row in row_list(spec)] == [{}, {"Acc.": 84, "AUROC": 82.8}]


def test_leave_one_out_has_the_full_row_and_each_without_one_thing(tmp_path: Path) -> None:
    text = "leave_one_out: [cmi_weight, nesterov, {name: mixing, set: {mix_probability: 0.0}}]"
    assert rows(tmp_path, text) == {
        "full": {},
        "without cmi_weight": {"cmi_weight": 0.0},
        "without nesterov": {"nesterov": False},
        "without mixing": {"mix_probability": 0.0},
    }


def test_add_one_in_has_each_component_alone_and_none(tmp_path: Path) -> None:
    text = "leave_one_out: [cmi_weight, nesterov, {name: mixing, set: {mix_probability: 0.0}}]\nadd_one_in: true"
    found = rows(tmp_path, text)
    assert list(found) == [
        "full", "without cmi_weight", "without nesterov", "without mixing",
        "none", "only cmi_weight", "only nesterov", "only mixing",
    ]  # fmt: skip
    assert found["none"] == {"cmi_weight": 0.0, "nesterov": False, "mix_probability": 0.0}
    assert found["only nesterov"] == {"cmi_weight": 0.0, "mix_probability": 0.0}


def test_of_two_components_each_alone_is_the_row_without_the_other(tmp_path: Path) -> None:
    text = "leave_one_out: [cmi_weight, nesterov]\nadd_one_in: true"
    assert list(rows(tmp_path, text)) == ["full", "without cmi_weight", "without nesterov", "none"]


def test_a_choice_that_has_none_is_switched_off_by_it(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(
        "name: toy\nbase: {method: plain, backbone: wrn10-1, augment: augmix}\nleave_one_out: [augment]"
    )
    spec = search_file.load(tmp_path / "toy.yaml").profile("paper")
    assert row_list(spec)[1].set == {"augment": "none"}


def test_columns_share_trials_unless_their_settings_differ(tmp_path: Path) -> None:
    text = (
        "rows: [{name: a, set: {}}]\ncolumns:\n  Acc.: test/accuracy\n  AUROC: test/auroc\n"
        "  C10: {metric: test/auroc, set: {protocol: cifar10}}\n"
        "  C10 Acc.: {metric: test/accuracy, set: {protocol: cifar10}}\n"
    )
    assert column_groups(ablation(tmp_path, text)) == [("Acc.", {}), ("C10", {"protocol": "cifar10"})]


def test_a_teacher_has_the_recipe_of_a_column_and_not_that_of_a_row(tmp_path: Path) -> None:
    spec = ablation(tmp_path, "rows: [{name: a, set: {}}]")
    teacher = resolve(with_teacher(spec, {"epochs": 7}, {"protocol": "cifar10", "lr": 0.2})).teacher
    assert teacher is not None
    assert (teacher.epochs, teacher.lr, teacher.protocol, teacher.backbone) == (4, 0.2, "cifar10", "wrn16-1")


@pytest.mark.parametrize("teacher", [{}, {"method": "cutmix", "backbone": "wrn16-2"}, {"method": "teacher-free"}])
@pytest.mark.parametrize("recipe", ["paper", "official"])
def test_a_trial_of_a_file_is_the_one_that_is_written_by_hand(
    tmp_path: Path, recipe: str, teacher: dict[str, Any]
) -> None:
    base = {"method": "asymmetric", "protocol": "cifar10", "backbone": "wrn10-1", "recipe": recipe, "teacher": teacher}
    base |= {"mix_alpha": 0.3, "label_smoothing": 0.1, "score": "mls"}
    (tmp_path / "toy.yaml").write_text(json.dumps({"name": "toy", "base": base, "rows": [{"name": "a", "set": {}}]}))
    spec = search_file.load(tmp_path / "toy.yaml").profile("paper")
    of_file, by_hand = (resolve(s) for s in (with_teacher(spec, {}), base))
    assert of_file == by_hand
    assert identity_of(of_file, IMAGES) == identity_of(by_hand, IMAGES)


def test_a_row_takes_its_settings_from_the_best_of_a_search(tmp_path: Path) -> None:
    search = tmp_path / "search.yaml"
    search.write_text(BASE + "search: {cmi_weight: {float: [0, 1]}}\ntrials: 3\n")
    (row,) = row_list(ablation(tmp_path, f"rows: [{{name: best, best_of: {search}, set: {{lr: 0.1}}}}]"))
    assert (row.best_of, row.set) == (str(search), {"lr": 0.1})


def test_every_row_needs_a_method_and_the_base_need_not_have_one(tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text("name: toy\nbase: {backbone: wrn10-1}\nrows: [{name: a, set: {method: plain}}]")
    assert row_list(search_file.load(file).profile("paper"))[0].set == {"method": "plain"}


@pytest.mark.parametrize("method", ["cutmix", "asymmetric"])
def test_two_thousand_rows_are_checked_and_ten_thousand_trials_resolved_in_time(tmp_path: Path, method: str) -> None:
    values = [round(0.001 * i, 3) for i in range(1, 51)]
    text = f"grid: {{lr: {values}, mix_alpha: {values[:40]}}}\nsplits: [0, 1, 2, 3, 4]"
    (tmp_path / "toy.yaml").write_text(BASE.replace("asymmetric", method) + text)
    started = time.process_time()
    spec = search_file.load(tmp_path / "toy.yaml").profile("paper")
    checked = time.process_time()
    changes = [{**(row.set or {}), "split": s, "seed": 0} for row in row_list(spec) for s in spec.splits]
    identities = {identity_of(resolve(with_teacher(spec, c)), IMAGES) for c in changes}
    resolved = time.process_time()
    assert len(identities) == 10_000
    assert checked - started < 5  # CPU seconds; read twice: once for all profiles, once for this one, 1 s in all
    assert resolved - checked < 10  # 2 s of a CPU: this is to notice a tenfold, not to measure
    print(f"{method}: check {checked - started:.2f} s, resolve {resolved - checked:.2f} s")


def test_a_column_of_published_numbers_alone_has_no_trials(tmp_path: Path) -> None:
    text = "columns: {Chest: published, Acc.: test/accuracy, C10: {metric: test/auroc, set: {protocol: cifar10}}}\n"
    spec = ablation(tmp_path, f"{text}rows: [{{name: Plain, set: {{method: plain}}, published: {{Chest: 76.8}}}}]")
    assert columns(spec) == [("Chest", "published"), ("", "test/accuracy"), ("C10", "test/auroc")]
    trained = [(column, config.protocol) for column, config in trials(spec, row_list(spec)[0])]
    assert trained == [("", "digits"), ("C10", "cifar10")]


def test_a_table_of_published_columns_alone_has_nothing_to_train(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"columns: have published numbers only: give one a metric"):
        ablation(tmp_path, "columns: {Chest: published}\nrows: [{name: Plain, set: {method: plain}}]")


def test_the_score_of_each_row_is_part_of_its_metric(tmp_path: Path) -> None:
    rows = "rows: [{name: a, set: {score: msp}}, {name: b, set: {score: mls}}]"
    text = f"columns: {{AUROC: 'test/digits/{{score}}/auroc'}}\n{rows}"
    assert [row.name for row in row_list(ablation(tmp_path, text))] == ["a", "b"]
    with pytest.raises(ConfigError, match="unknown metric"):
        ablation(tmp_path, text.replace("{score}", "{scores}"))


def test_no_two_names_are_one_in_a_metric_or_a_path() -> None:
    from platform.files.names import LONGEST_PART, plain

    names = ["a<b", "a>b", "a_b", "a/b", "a-b", "a//b", "../up", "..", ".", " ", "a", "a ", "ä", "a\u0308", "x" * 200]
    names += ["x" * 199 + "y", *(plain(name) for name in ("a<b", "a/b", "x" * 200))]
    found = {plain(name) for name in names}
    assert len(found) == len(names)
    for name in found:
        assert len(name) <= LONGEST_PART
        _validate_metric_name(f"row/{name}/mean")
        assert "/" not in name


def test_a_name_that_mlflow_takes_stays_as_it_is() -> None:
    from platform.files.names import plain

    for name in ("Plain", "III FG-Raw", "backmix", "full", "without cmi_weight", "0.5"):
        assert plain(name) == name
    assert plain("Ours+CutMix").startswith("Ours_CutMix ")


PART = """
name: part
base: {protocol: digits, epochs: 2}
splits: [0, 1]
seeds: [0]
rows: [{name: Plain, set: {method: plain}}, {name: BackMix, set: {method: backmix}}]
profiles:
  one: {splits: [1], rows: [{name: BackMix, set: {method: backmix}}], resources: {cpus_per_worker: 1}}
  shorter: {base: {epochs: 1}}
  another row: {rows: [{name: BackMix, set: {method: backmix, mask_ratio: 0.5}}]}
  another split: {splits: [2]}
"""


@pytest.mark.parametrize("profile", ["paper", "one", "shorter", "another row", "another split"])
def test_a_profile_that_only_leaves_out_is_no_other_protocol(profile: str, tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(PART)
    file = search_file.load(tmp_path / "part.yaml")
    assert part_of(file.profile(profile), file.profile("paper")) == (profile in ("paper", "one"))


def test_how_many_workers_train_is_no_change_of_a_protocol() -> None:
    assert changing_results(["lr=0.1", "resources.workers=2"]) == ("lr=0.1",)
