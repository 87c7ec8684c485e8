"""Every mistake in a search file is found before anything starts, and named by file, line, key and nearest key."""

from pathlib import Path

import pytest

from platform.files import search_file
from platform.files.searched import applies, search_order
from platform.files.spec import Spec
from platform.files.trial_settings import judged_on, proposed, search_settings
from tests.helpers.paths import ROOT
from trainables.reading.yaml_file import ConfigError
from trainables.settings.resolving import resolve

GOOD = """\
name: toy
base: {method: backmix, protocol: digits, backbone: wrn10-1, epochs: 4}
search:
  mask_ratio: {float: [0, 1]}
objective: {metric: val/auroc, mode: max}
trials: 3
scheduler: {asha: {grace_epochs: 2}}
confirm:
  splits: [0, 1]
  baselines:
    - {name: Plain, set: {method: plain}}
profiles:
  quick:
    base: {epochs: 3}
    trials: 2
"""


def load(tmp_path: Path, text: str, overrides: list[str] | None = None) -> dict[str, Spec]:
    file = tmp_path / "toy.yaml"
    file.write_text(text)
    loaded = search_file.load(file)
    return {name: loaded.profile(name, overrides or []) for name in loaded.profiles}


def mistake(tmp_path: Path, text: str, overrides: list[str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, overrides)
    return str(caught.value).replace(str(tmp_path) + "/", "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("trials: 3", "trails: 3", "toy.yaml:6: trails: unknown key (did you mean 'trials'?)"),
        ("trials: 3", "trials: three", "toy.yaml:6: trials: 'three' is not a valid integer"),
        ("trials: 3", "trials: 0", "toy.yaml:6: trials: 0 is not greater than or equal to 1"),
        ("mask_ratio:", "mask_ration:", "toy.yaml:4: search.mask_ration: unknown setting (did you mean 'mask_ratio'?)"),
        ("[0, 1]}", "[0, 1.5]}", "toy.yaml:4: search.mask_ratio: 1.5 is out of range: at least 0 and at most 1"),
        ("[0, 1]}", "[1, 0]}", "toy.yaml:4: search.mask_ratio: 1.0 is not below 0.0: write [low, high]"),
        ("float:", "flaot:", "toy.yaml:4: search.mask_ratio: write {float: [low, high]}"),
        ("\n  mask_ratio: {float: [0, 1]}", " {}", "toy.yaml:3: search: is empty"),
        ("mask_ratio: {float", "seed: {int", "toy.yaml:4: search.seed: cannot be searched"),
        ("epochs: 4}", "epochs: 4, mask_ratio: 0.1}", "search.mask_ratio: is searched here and fixed in base"),
        ("method: backmix", "method: plain", "toy.yaml:4: search.mask_ratio: plain has no such setting; backmix has"),
        ("method: backmix, ", "", "toy.yaml:2: base: method is missing; one of plain, cutout, mixup"),
        ("epochs: 4}", "epochs: many}", "toy.yaml:2: base.epochs: 'many' is not a whole number"),
        (
            "protocol: digits",
            "protocol: digit",
            "toy.yaml:2: base.protocol: 'digit' is not a protocol (did",
        ),
        ("val/auroc", "test/auroc", "toy.yaml:5: objective.metric: test/auroc would choose settings on the test set"),
        ("val/auroc", "val/aurok", "unknown metric 'val/aurok' (did you mean 'val/auroc'?)"),
        ("val/auroc", "val/pseudo-unknown/odin/auroc", "odin is not computed in every validation unless base has"),
        ("mask_ratio: {float: [0, 1]}", "odin_epsilon: {float: [0, 1]}", "search.odin_epsilon: cannot be searched"),
        ("mode: max", "mode: maximal", "toy.yaml:5: objective.mode: 'maximal' is not 'max' or 'min'"),
        ("grace_epochs: 2", "grace_epochs: 9", "grace_epochs: 9 is not below the 4 epochs of a trial"),
        ("grace_epochs: 2", "grace: 2", "asha.grace: unknown key (did you mean 'grace_epochs'?)"),
        ("splits: [0, 1]", "splits: [0, 7]", "toy.yaml:9: confirm.splits.1: split 7 is not in 0..4"),
        ("splits: [0, 1]", "splits: [0, 0]", "toy.yaml:9: confirm.splits: has 0 twice"),
        ("{method: plain}", "{method: plane}", "toy.yaml:11: confirm.baselines.0.set.method: 'plane' is not one of"),
        ("base: {epochs: 3}", "base: {epochs: -3}", "toy.yaml:14: base.epochs: -3 is out of range: at least 1"),
        ("{method: plain}", "{protocol: cifar10}", "set.protocol: would make the row another experiment"),
        ("{method: plain}", "{momentum: 0.0}", "toy.yaml:11: confirm.baselines.0.set: Nesterov needs a momentum"),
        ("name: Plain", "name: best", "baselines need distinct names"),
        ("name: Plain", 'name: "Plain\\e"', "toy.yaml:11: confirm.baselines.0.name: 'Plain\\x1b' has a character"),
        ("epochs: 4}", "epochs: 4, test: false}", "toy.yaml:2: base.test: has no place in a search file's base"),
        ("mask_ratio: {float: [0, 1]}", "momentum: {choice: [0.0, 0.9]}", "search.momentum: Nesterov needs a momentum"),
        (
            "mask_ratio: {float: [0, 1]}",
            "lr: {float: [0.1, .inf]}",
            "toy.yaml:4: search.lr.float.1: inf is not a finite number",
        ),
        ("quick:", "paper:", "profiles.paper: is the file as it stands"),
        ("name: toy", "name: toy\nname: two", "toy.yaml:2: key 'name' occurs twice"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    assert said in mistake(tmp_path, GOOD.replace(old, new, 1))


def test_a_search_may_be_judged_by_a_score_on_request_that_is_its_score(tmp_path: Path) -> None:
    text = GOOD.replace("val/auroc", "val/pseudo-unknown/odin/auroc").replace("epochs: 4}", "epochs: 4, score: odin}")
    assert search_settings(load(tmp_path, text)["paper"])["score"] == "odin"


def test_a_mistake_of_the_base_is_told_once_not_once_a_profile(tmp_path: Path) -> None:
    assert mistake(tmp_path, GOOD.replace("trials: 3", "trials: 3\nextra: 1")).count("extra") == 1


def test_mistakes_of_shape_and_of_settings_are_told_together(tmp_path: Path) -> None:
    said = mistake(tmp_path, GOOD.replace("trials: 3", "trails: 3").replace("epochs: 4", "epoch: 4"))
    assert "trails" in said
    assert "epoch: unknown setting (did you mean 'epochs'?)" in said


def test_a_profile_is_merged_key_by_key_and_lists_are_replaced(tmp_path: Path) -> None:
    profiles = load(tmp_path, GOOD + "    confirm: {splits: [2]}\n")
    quick, paper = profiles["quick"], profiles["paper"]
    assert (paper.trials, quick.trials) == (3, 2)
    assert quick.base == {**paper.base, "epochs": 3}
    assert quick.confirm is not None
    assert quick.confirm.splits == [2]
    assert [row.name for row in quick.confirm.baselines] == ["Plain"]


def test_overrides_reach_settings_and_keys_of_every_profile(tmp_path: Path) -> None:
    profiles = load(tmp_path, GOOD, ["lr=5e-2", "trials=7", "search.mask_ratio.float=[0.1, 0.2]"])
    for spec in profiles.values():
        assert spec.base["lr"] == 0.05
        assert spec.trials == 7
        assert spec.search["mask_ratio"].bounds == [0.1, 0.2]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epoch=3", "--set epoch=3: unknown key 'epoch' (did you mean 'epochs'?)"),
        ("epochs", "--set epochs: write key=value"),
        ("epochs=none", "--set epochs=none: base.epochs: 'none' is not a whole number"),
        ("objective.metric=test/auroc", "test/auroc would choose settings on the test set"),
        ("search={}", "--set search={}: search: is empty"),
    ],
)
def test_a_mistake_in_an_override_is_named(tmp_path: Path, override: str, said: str) -> None:
    assert said in mistake(tmp_path, GOOD, [override])


def test_an_override_need_fit_the_profile_that_runs_only(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(
        GOOD.replace("base: {epochs: 3}", "base: {protocol: cifar10, split_family: osrci}")
    )
    file = search_file.load(tmp_path / "toy.yaml")
    assert file.profile("quick", ["split_family=cssr"]).base["split_family"] == "cssr"
    with pytest.raises(ConfigError, match="digits has no split family 'cssr'"):
        file.profile("paper", ["split_family=cssr"])


def test_the_official_recipe_is_shared_with_the_baseline(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD, ["recipe=official"])["paper"]
    assert resolve({**spec.base, "method": "plain"}).crop_fill == "black"


def test_a_search_trial_holds_out_a_tenth_and_a_third_of_the_classes_and_never_tests(tmp_path: Path) -> None:
    settings = search_settings(load(tmp_path, GOOD)["paper"])
    assert (settings["holdout"], settings["pseudo_unknown"], settings["test"]) == (0.1, 2, False)


def test_a_search_is_judged_on_its_splits_and_seeds_else_on_those_of_its_base(tmp_path: Path) -> None:
    of_base = GOOD.replace("epochs: 4}", "epochs: 4, split: 1, seed: 7}")
    many = load(tmp_path, GOOD.replace("trials: 3", "trials: 3\nsplits: [0, 1]\nseeds: [5, 6]"))["paper"]
    assert judged_on(load(tmp_path, GOOD)["paper"]) == ([0], [0])
    assert judged_on(load(tmp_path, of_base)["paper"]) == ([1], [7])
    assert [(c.split, c.seed, c.test) for c in proposed(many, {"mask_ratio": 0.5})] == [
        (0, 5, False),
        (1, 5, False),
        (0, 6, False),
        (1, 6, False),
    ]
    assert "base.split: stands beside `splits`" in mistake(
        tmp_path, of_base.replace("trials: 3", "trials: 3\nsplits: [0]")
    )
    assert "splits.1: split 99 is not in 0..4 (digits, family agc)" in mistake(
        tmp_path, GOOD.replace("trials: 3", "trials: 3\nsplits: [0, 99]")
    )


def test_one_objective_may_be_written_without_a_list(tmp_path: Path) -> None:
    several = GOOD.replace("{metric: val/auroc, mode: max}", "[{metric: val/auroc}, {metric: val/accuracy}]")
    several = several.replace("scheduler: {asha: {grace_epochs: 2}}\n", "")
    assert [o.metric for o in load(tmp_path, GOOD)["paper"].objectives] == ["val/auroc"]
    assert [o.metric for o in load(tmp_path, several)["paper"].objectives] == ["val/auroc", "val/accuracy"]


CONDITIONAL = GOOD.replace(
    "  mask_ratio: {float: [0, 1]}\n",
    "  bank_decay: {float: [0.1, 1], when: {mask_ratio: [0.25, 0.5], bank_init: random}}\n"
    "  mask_ratio: {float: [0, 1], step: 0.25, when: {background: batch}}\n"
    "  bank_init: {choice: [constant, random]}\n"
    "  background: {choice: [batch, dataset]}\n",
)


def test_a_setting_is_searched_after_those_that_its_condition_names(tmp_path: Path) -> None:
    assert search_order(load(tmp_path, CONDITIONAL)["paper"]) == [
        "background",
        "mask_ratio",
        "bank_init",
        "bank_decay",
    ]


def test_a_setting_is_searched_only_while_its_condition_holds(tmp_path: Path) -> None:
    spec = load(tmp_path, CONDITIONAL)["paper"]
    assert applies(spec, "bank_decay", {"mask_ratio": 0.25, "bank_init": "random"})
    assert not applies(spec, "bank_decay", {"mask_ratio": 0.75, "bank_init": "random"})
    assert not applies(spec, "bank_decay", {"bank_init": "random"})  # mask_ratio's own condition did not hold


def test_a_contradiction_under_a_condition_is_found_and_one_that_it_excludes_is_none(tmp_path: Path) -> None:
    searched = GOOD.replace("  mask_ratio: {float: [0, 1]}\n", "  optimizer: {choice: [sgd, adam]}\n  MOMENTUM\n")
    adams = searched.replace("MOMENTUM", "momentum: {choice: [0.0, 0.9], when: {optimizer: adam}}")
    assert search_order(load(tmp_path, adams)["paper"]) == ["optimizer", "momentum"]
    sgds = searched.replace("MOMENTUM", "momentum: {choice: [0.0, 0.9], when: {optimizer: sgd}}")
    assert "search.momentum: Nesterov needs a momentum above 0" in mistake(tmp_path, sgds)


@pytest.mark.parametrize("file", sorted((ROOT / "search_spaces").rglob("*.yaml")), ids=lambda p: p.name)
def test_every_file_of_search_spaces_is_valid_and_opens_with_its_command(file: Path) -> None:
    assert search_file.load(file).profiles
    first = file.read_text().splitlines()[0]
    assert f"python -m platform.sweep {file.relative_to(ROOT)}" in first


def test_a_profile_takes_a_column_out(tmp_path: Path) -> None:
    text = (
        "name: toy\nbase: {protocol: digits, backbone: wrn10-1, epochs: 1}\nsplits: [0]\nseeds: [0]\n"
        "columns: {Acc.: test/accuracy, AUROC: test/auroc}\nrows:\n"
        "  - {name: Plain, set: {method: plain}, published: {Acc.: 90, AUROC: 80}}\n"
        "profiles: {quick: {columns: {Acc.: null}}}\n"
    )
    specs = load(tmp_path, text)
    assert specs["quick"].rows[0].published == {"AUROC": 80}
    assert {name: list(spec.columns) for name, spec in specs.items()} == {
        "paper": ["Acc.", "AUROC"],
        "quick": ["AUROC"],
    }
