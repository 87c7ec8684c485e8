"""Malformed files, each one mistake of a good one, and what is said of each."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from platform.files import search_file
from trainables.reading.yaml_file import ConfigError

SEARCH = """\
name: toy
base: {method: backmix, protocol: digits, backbone: wrn10-1, epochs: 4}
search:
  mask_ratio: {float: [0, 1]}
  cut_size: {float: [0.1, 0.4]}
objective: {metric: val/auroc, mode: max}
optuna: {sampler: tpe, seed: 0}
trials: 3
scheduler: {asha: {grace_epochs: 2}}
confirm: {splits: [0, 1]}
resources: {workers: 1}
profiles:
  quick: {trials: 2}
"""
ABLATION = """\
name: table
paper: {file: backmix, table: 6}
base: {method: cutmix, protocol: digits, backbone: wrn10-1, epochs: 4}
splits: [0, 1]
seeds: [0]
columns:
  Acc.: test/accuracy
  AUROC: {metric: test/auroc}
rows:
  - {name: CutMix, set: {}, published: {Acc.: 84.3}}
  - {name: Plain, set: {method: plain}}
  - {name: Theirs, published: {Acc.: 90}}
grid: {mix_alpha: [0.5, 1], lr: [0.1, 0.2]}
published: [{mix_alpha: 1, lr: 0.1, Acc.: 84}]
leave_one_out: [mix_probability]
profiles:
  quick: {splits: [0]}
"""


@dataclass(frozen=True)
class Mistake:
    """A file, or what is changed of a good one, and what is said of it."""

    said: str  # begins with the line, `:0` for the file as a whole
    old: str = ""
    new: str = ""
    of: str = ABLATION

    def content(self) -> bytes:
        if not self.old:
            return self.new.encode("utf-8", errors="surrogateescape")
        assert self.old in self.of
        return self.of.replace(self.old, self.new, 1).encode("utf-8")


def in_search(said: str, old: str, new: str) -> Mistake:
    return Mistake(said, old, new, SEARCH)


MISTAKES = [
    # What is no YAML, or should not be.
    Mistake("1: expected a mapping with name, base", new=""),
    Mistake("1: expected a mapping with name, base", new="- name: toy\n"),
    Mistake("1: expected a mapping with name, base", new="just words\n"),
    Mistake("found character '\\t' that cannot start any token (indent with spaces", "base:", "\tbase:"),
    Mistake("4: while parsing a flow mapping, expected ',' or '}'", "base: {", "base: {{"),
    Mistake("5: key 'seeds' occurs twice", "splits: [0, 1]", "seeds: [0]"),
    Mistake("1: could not determine a constructor for the tag", "name: table", "name: !!python/object:os.x {}"),
    Mistake("1: could not determine a constructor for the tag", "name: table", "name: !mine table"),
    Mistake("2: byte 0xff is not UTF-8", new="name: a\nbase: \udcff\n"),
    Mistake("2: the character '\\x07' has no place in YAML", new="name: a\nbase: \x07\n"),
    Mistake("1: is nested too deeply", new="name: " + "[" * 5_000),
    Mistake("is too large: with its aliases written out", new="a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))),
    Mistake("1: is too large: with its aliases written out", new="name: &a [*a]\n"),
    Mistake("3: found undefined alias 'there'", "base: {", "base: {augment: *there, "),
    Mistake("3: merge keys (<<) are not read", "base: {", "base: {<<: {lr: 1}, "),
    Mistake("1: a key must be a word, and YAML reads '1' as something else: quote it", "name: table", "1: table"),
    Mistake("1: a key must be a word, and YAML reads 'null' as", "name: table", "null: table"),
    Mistake("5: a key must be a word, and YAML reads 'on' as", "seeds: [0]", "on: [0]"),
    Mistake("1: a key must be a word, and YAML reads '2024-01-01' as", "name: table", "2024-01-01: x"),
    Mistake("found another document", "splits:", "---\nsplits:"),
    Mistake("1: a value cannot be read: month must be in 1..12", "name: table", "name: 2024-13-01"),
    Mistake("5: a value cannot be read: Exceeds the limit", "seeds: [0]", "seeds: [1" + "0" * 5_000 + "]"),
    Mistake("could not find expected ':'", "paper: {file: backmix, table: 6}", "paper"),
    Mistake("is too large: ", new="seeds: [" + ", ".join(map(str, range(100_000))) + "]\n"),
    Mistake("1: is too large: with its aliases written out it has more than 50,000", new="a: [" + "1," * 60_000 + "1]"),
    Mistake("3: 010 would be read as 8: write the number without", "epochs: 4", "epochs: 010"),
    Mistake("3: 1:30 would be read as 90: write the number without", "epochs: 4", "epochs: 1:30"),
    Mistake("3: -1:30.5 would be read as -90.5: write", "epochs: 4", "lr: -1:30.5"),
    Mistake("1: 007 would be read as 7: write", "name: table", "007: table"),
    # Names.
    Mistake("1: name: '../up' would be no folder of its own", "name: table", "name: ../up"),
    Mistake("1: name: '/tmp/x' would be no folder of its own", "name: table", "name: /tmp/x"),
    Mistake("1: name: 'a//b' would be no folder of its own", "name: table", "name: a//b"),
    Mistake("1: name: 'a/.' would be no folder of its own", "name: table", "name: a/."),
    Mistake("1: name: 'a/' would be no folder of its own", "name: table", "name: a/"),
    Mistake("1: name: 'C:\\\\x' would be no folder of its own", "name: table", "name: 'C:\\x'"),
    Mistake("is too long for a file's name: take at most 120 bytes", "name: table", "name: " + "é" * 100),
    Mistake("1: name: 'a\\x00b' has a character that cannot be shown", "name: table", 'name: "a\\0b"'),
    Mistake("11: rows.1.name: 'a\\nb' has a character that cannot be shown", "name: Plain", 'name: "a\\nb"'),
    Mistake("11: rows.1.name: 'a\\x1b[31m' has a character", "name: Plain", 'name: "a\\e[31m"'),
    Mistake("' has 9,000 characters: take at most 200", "name: Plain", "name: " + "x" * 9_000),
    Mistake("11: rows.1.name: ' x' begins or ends with a space", "name: Plain", "name: ' x'"),
    Mistake("7: columns.A\\x1b: 'A\\x1b' has a character", "Acc.: test/accuracy", '"A\\e": test/accuracy'),
    Mistake("17: profiles.q\\x1b: 'q\\x1b' has a character that cannot be shown", "quick:", '"q\\e":'),
    Mistake("17: profiles: a profile has none of its own", "{splits: [0]}", "{profiles: {x: {}}}"),
    # Keys and kinds.
    Mistake("1: name: is missing", "name: table\n", ""),
    Mistake("1: base: is missing", "base: {method: cutmix, protocol: digits, backbone: wrn10-1, epochs: 4}\n", ""),
    Mistake("1: name: is empty", "name: table", "name: ' '"),
    Mistake("1: name: 2024-01-01 is not a text (YAML reads it as a date", "name: table", "name: 2024-01-01"),
    Mistake("1: name: True is not a text (YAML reads yes, on and true as a truth value", "name: table", "name: yes"),
    Mistake("5: seed: unknown key (did you mean 'seeds'?)", "seeds:", "seed:"),
    Mistake("4: trials: a file is a search or an ablation, and this one has `rows`", "splits: [0, 1]", "trials: 3"),
    in_search("8: rows: a file is a search or an ablation, and this one has `search`: take `rows`", "trials: 3",
              "rows: []\ntrials: 3"),
    in_search("1: has neither `search` (settings that Optuna chooses) nor", SEARCH[SEARCH.index("search:"):], ""),
    in_search("3: serach: unknown key (did you mean 'search'?)", "search:", "serach:"),
    in_search("8: trails: unknown key (did you mean 'trials'?)", "trials:", "trails:"),
    in_search("1: trials: is missing: how many", "trials: 3\n", ""),
    Mistake("3: base: 'plain' is not a mapping", ABLATION.splitlines()[2], "base: plain"),
    # Settings of the base.
    Mistake("3: base.epoch: unknown setting (did you mean 'epochs'?)", "epochs: 4", "epoch: 4"),
    Mistake("3: base.epochs: True is not a whole number", "epochs: 4", "epochs: true"),
    Mistake("3: base.lr: nan is out of range", "epochs: 4", "lr: .nan"),
    Mistake("3: base.lr: inf is out of range", "epochs: 4", "lr: .inf"),
    Mistake("larger than any number of this kind", "epochs: 4", "lr: 1" + "0" * 400),
    Mistake("3: base.augment: False is not one of none, randaugment", "epochs: 4", "augment: off"),
    Mistake("3: base.split: has no place in an ablation's base: write `splits", "epochs: 4", "split: 1"),
    Mistake("3: base.momentum: Nesterov needs", "epochs: 4", "momentum: 0"),
    Mistake("3: base.method: 'no.module:Class': what is one's own is a mix or an", "cutmix", "no.module:Class"),
    Mistake("3: base.objective: 'nosuch:A': there is no module 'nosuch'", "method: cutmix", "objective: 'nosuch:A'"),
    # Rows.
    Mistake("9: rows: is empty", ABLATION[ABLATION.index("rows:"):ABLATION.index("grid:")], "rows: []\n"),
    Mistake("9: rows: {'name': 'x'} is not a list", ABLATION[ABLATION.index("rows:"):ABLATION.index("grid:")],
            "rows: {name: x}\n"),
    Mistake("11: rows.1: 'Plain' is not a mapping with name, set", "{name: Plain, set: {method: plain}}", "Plain"),
    Mistake("11: rows.1.name: is missing", "{name: Plain, set", "{set"),
    Mistake("11: rows.1.name: is empty", "name: Plain", "name: ''"),
    Mistake("11: rows.1.sett: unknown key (did you mean 'set'?)", "Plain, set:", "Plain, published: {Acc.: 1}, sett:"),
    Mistake("11: rows.1: 'Plain' has nothing: write `set`", ", set: {method: plain}", ""),
    Mistake("11: rows.1: 'CutMix' is the name of two rows", "name: Plain", "name: CutMix"),
    Mistake("11: rows.1.set.method: 'plane' is not one of", "method: plain", "method: plane"),
    Mistake("11: rows.1.set.seed: has no place here: write `seeds: [0, 1, …]`", "method: plain", "seed: 1"),
    Mistake("11: rows.1.set.protocol: has no place here: write it as `set` of a column", "method: plain",
            "protocol: cifar10"),
    Mistake("11: rows.1.set.momentum: 'Plain': Nesterov needs a momentum", "method: plain", "momentum: 0.0"),
    Mistake("11: rows.1.best_of: ", "set: {method: plain}", "best_of: nowhere.yaml"),
    Mistake("10: rows.0.published.Ac.: is no column (did you mean 'Acc.'?)", "{Acc.: 84.3", "{Ac.: 84.3"),
    Mistake("10: rows.0.published.Acc.: '84.3 %' is not a number", "84.3", "84.3 %"),
    Mistake("10: rows.0.published.Acc.: True is not a number", "84.3", "true"),
    Mistake(f"10: rows.0.published.Acc.: {'9' * 50}… is not a number", "84.3", "9" * 400),
    Mistake("10: rows.0.published.Acc.: nan is not a number", "84.3", ".nan"),
    Mistake("10: rows.0.published: write {column: number}", "{Acc.: 84.3}", "84.3"),
    Mistake("10: rows.0.published: is a list, which is for the rows of a grid", "{Acc.: 84.3}", "[{Acc.: 84.3}]"),
    # Grids and what is left out.
    Mistake("13: grid: is empty", "grid: {mix_alpha: [0.5, 1], lr: [0.1, 0.2]}", "grid: {}"),
    Mistake("13: grid.lr: is empty", "lr: [0.1, 0.2]", "lr: []"),
    Mistake("13: grid.lr: 0.1 is not a list", "lr: [0.1, 0.2]", "lr: 0.1"),
    Mistake("13: grid.lr: has 0.1 twice", "lr: [0.1, 0.2]", "lr: [0.1, 0.1]"),
    Mistake("13: grid.lr: -1 is out of range", "lr: [0.1, 0.2]", "lr: [0.1, -1]"),
    Mistake("13: grid.mix_alpa: unknown setting (did you mean 'mix_alpha'?)", "grid: {mix_alpha", "grid: {mix_alpa"),
    Mistake("13: grid: makes 10,404 rows; a table has at most 10,000", "[0.5, 1], lr: [0.1, 0.2]",
            f"{list(range(1, 103))}, lr: {list(range(1, 103))}"),
    Mistake("13: grid: makes 30,000 rows", "[0.5, 1], lr: [0.1, 0.2]", f"{list(range(1, 30_001))}"),
    Mistake("13: grid.teacher: has {'epochs': 3.0} twice", "[0.5, 1], lr: [0.1, 0.2]",
            "[1], teacher: [{epochs: 3}, {epochs: 3.0}]"),
    Mistake("5: seeds: 9,000 of them, on every row, are more than the 20,000", "seeds: [0]",
            f"seeds: {list(range(9_000))}"),
    Mistake("14: published.0: is of no row: the grid has no lr=0.3", "lr: 0.1, Acc.", "lr: 0.3, Acc."),
    Mistake("14: published.0: does not say which row it is of: lr is missing", "lr: 0.1, Acc.", "Acc."),
    Mistake("14: published: is for one row, and a grid makes several", "[{mix_alpha: 1, lr: 0.1, Acc.: 84}]",
            "{Acc.: 84}"),
    Mistake("11: rows.1.grid.lr: varies here and is fixed in the row's set", "{method: plain}",
            "{method: plain, lr: 0.1}, grid: {lr: [0.1, 0.2]}"),
    Mistake("15: leave_one_out.0: 'mix_probabilty' is not a setting (did you mean 'mix_probability'?)",
            "[mix_probability]", "[mix_probabilty]"),
    Mistake("15: leave_one_out.0: backbone has no value that switches it off", "[mix_probability]", "[backbone]"),
    Mistake("15: leave_one_out.0: epochs has no value that switches it off", "[mix_probability]", "[epochs]"),
    Mistake("15: leave_one_out.0: cutmix has no mask_ratio; backmix has", "[mix_probability]", "[mask_ratio]"),
    Mistake("15: leave_one_out.0: 3 is not a mapping with name, set", "[mix_probability]", "[3]"),
    Mistake("15: leave_one_out.0: 'without warmup_epochs' is the full row again", "[mix_probability]",
            "[warmup_epochs]"),
    Mistake("16: add_one_in: adds the components of `leave_one_out` one by one: name two or more there",
            "[mix_probability]", "[mix_probability]\nadd_one_in: true"),
    Mistake("15: leave_one_out.1: mix_probability changes mix_probability, as less does", "[mix_probability]",
            "[{name: less, set: {mix_probability: 0.1}}, mix_probability]\nadd_one_in: true"),
    # Splits, seeds, columns, paper, profiles, resources.
    Mistake("4: splits: 3 is not a list", "splits: [0, 1]", "splits: 3"),
    Mistake("4: splits.1: split 9 is not in 0..4", "splits: [0, 1]", "splits: [0, 9]"),
    Mistake("4: splits: has 0 twice", "splits: [0, 1]", "splits: [0, 0]"),
    Mistake("5: seeds.0: -1 is not greater than or equal to 0", "seeds: [0]", "seeds: [-1]"),
    Mistake("5: seeds.0: 10000000000000", "seeds: [0]", "seeds: [1" + "0" * 40 + "]"),
    Mistake("5: seeds: is empty", "seeds: [0]", "seeds: []"),
    Mistake("7: columns.Acc..metric: unknown metric 'test/acuracy' (did you mean 'test/accuracy'?)", "test/accuracy",
            "test/acuracy"),
    Mistake("7: columns.Acc..metric: 'val/accuracy' is no test metric (did you mean 'test/accuracy'?)", "test/accuracy",
            "val/accuracy"),
    Mistake("odin is computed where base has `extra_scores: [odin]`", "test/accuracy", "test/digits/odin/auroc"),
    Mistake("7: columns.Acc.: write a metric, as test/auroc, or {metric", "Acc.: test/accuracy", "Acc.: 3"),
    Mistake("8: columns.AUROC.set.seed: has no place here", "{metric: test/auroc}",
            "{metric: test/auroc, set: {seed: 1}}"),
    Mistake("8: columns.AUROC.st: unknown key (did you mean 'set'?)", "{metric: test/auroc}",
            "{metric: test/auroc, st: {}}"),
    Mistake("2: paper.file: 'backmx' is not 'asymmetric_distillation' or 'backmix'", "file: backmix", "file: backmx"),
    Mistake("2: paper.table: True is not the number or the name of a table", "table: 6", "table: yes"),
    Mistake("17: profiles.quick: [1] is not a mapping", "quick: {splits: [0]}", "quick: [1]"),
    Mistake("16: profiles: 3 is not a mapping", "profiles:\n  quick: {splits: [0]}", "profiles: 3"),
    Mistake("17: rows: {'name': 'x'} is not a list", "{splits: [0]}", "{rows: {name: x}}"),
    Mistake("17: splits.0: True is not a valid integer", "{splits: [0]}", "{splits: [yes]}"),
    Mistake("has `search`", "{splits: [0]}",
            "{search: {lr: {float: [0.1, 1]}}, trials: 2}"),
    in_search("11: resources.workers: 0 is not greater than or equal to 1", "workers: 1", "workers: 0"),
    in_search("11: resources: gpus_per_worker: 0.5 with 2 workers", "workers: 1", "workers: 2, gpus_per_worker: 0.5"),
    in_search("11: resources.gpus_per_worker: 'lots' is not a number of GPUs, nor auto", "workers: 1",
              "gpus_per_worker: lots"),
    in_search("11: resources: gpus_per_worker: auto puts several", "workers: 1", "workers: 2, gpus_per_worker: auto"),
    in_search("11: resources.gpus_per_worker: -1 is not a number of GPUs", "workers: 1", "gpus_per_worker: -1"),
    in_search(f"11: resources.gpus_per_worker: {'9' * 50}… is not a number of GPUs", "workers: 1",
              f"gpus_per_worker: {'9' * 400}"),
    in_search("11: resources: gpus_per_worker: 1.5 is neither", "workers: 1", "gpus_per_worker: 1.5"),
    # Searches.
    in_search("4: search.mask_ratio: write {float: [low, high]}", "{float: [0, 1]}", "[0, 1]"),
    in_search("4: search.mask_ratio.float: [0] is not [low, high]", "{float: [0, 1]}", "{float: [0]}"),
    in_search("4: search.mask_ratio.float.1: nan is not a finite number", "[0, 1]", "[0, .nan]"),
    in_search("4: search.mask_ratio.stp: unknown key (did you mean 'step'?)", "[0, 1]", "[0, 1], stp: 0.1"),
    in_search("4: search.mask_ratio: step 0.3 does not lead from 0 to 1", "[0, 1]", "[0, 1], step: 0.3"),
    in_search("4: search.mask_ratio: has log and step", "[0, 1]", "[0.1, 1], log: true, step: 0.1"),
    in_search("4: search.mask_ratio.log: 1 is not a valid boolean", "[0, 1]", "[0.1, 1], log: 1"),
    in_search("4: search.mask_ratio.choice: has 0.1 twice", "{float: [0, 1]}", "{choice: [0.1, 0.1]}"),
    in_search("4: search.mask_ratio.choice: has one value", "{float: [0, 1]}", "{choice: [0.1]}"),
    in_search("4: search.mask_ratio.choice.1: None is not a text, a number or a boolean", "{float: [0, 1]}",
              "{choice: [0.1, null]}"),
    in_search("4: search.mask_ratio.when.cut_sze: is neither searched nor in base (did you mean 'cut_size'?)",
              "[0, 1]", "[0, 1], when: {cut_sze: 0.2}"),
    in_search("4: search.mask_ratio.when.cut_size: is never true: the search of cut_size has no 3", "[0, 1]",
              "[0, 1], when: {cut_size: 3}"),
    in_search("4: search.mask_ratio.when.epochs: is never true: base has epochs: 4", "[0, 1]",
              "[0, 1], when: {epochs: [5, 6]}"),
    in_search("4: search.mask_ratio.when: mask_ratio needs cut_size needs mask_ratio: a circle",
              "[0, 1]}\n  cut_size: {float: [0.1, 0.4]}",
              "[0, 1], when: {cut_size: 0.2}}\n  cut_size: {float: [0.1, 0.4], when: {mask_ratio: 0.5}}"),
    in_search("4: search.mask_ratio.when: write {other_setting", "[0, 1]", "[0, 1], when: cut_size"),
    in_search("6: objective.0: 'val/auroc' is not a mapping with metric, mode", "{metric: val/auroc, mode: max}",
              "[val/auroc]"),
    in_search("6: objective: is empty", "{metric: val/auroc, mode: max}", "[]"),
    in_search("6: objective.1.metric: val/auroc is an objective twice", "{metric: val/auroc, mode: max}",
              "[{metric: val/auroc}, {metric: val/auroc}]"),
    in_search("9: scheduler: stops trials by one objective", "{metric: val/auroc, mode: max}",
              "[{metric: val/auroc}, {metric: val/accuracy}]"),
    in_search("9: scheduler: write one of asha", "{asha: {grace_epochs: 2}}", "{}"),
    in_search("9: scheduler: write one of asha", "{asha: {grace_epochs: 2}}",
              "{asha: {grace_epochs: 2}, median: {grace_epochs: 2}}"),
    in_search("9: scheduler.median.startup_trials: 0 is not", "{asha: {grace_epochs: 2}}",
              "{median: {grace_epochs: 2, startup_trials: 0}}"),
    in_search("9: scheduler.asha.grace_epochs: 2.5 is not a valid integer", "grace_epochs: 2", "grace_epochs: 2.5"),
    in_search("7: optuna.sampler: 'tpee' is not 'tpe', 'random'", "sampler: tpe", "sampler: tpee"),
    in_search("7: optuna.seed: -1 is not", "seed: 0", "seed: -1"),
    in_search("7: optuna.sampler: cmaes searches numbers, and mask_ratio is a choice",
              "{float: [0, 1]}\n  cut_size: {float: [0.1, 0.4]}\nobjective: {metric: val/auroc, mode: max}\n"
              "optuna: {sampler: tpe",
              "{choice: [0.1, 0.5]}\n  cut_size: {float: [0.1, 0.4]}\nobjective: {metric: val/auroc, mode: max}\n"
              "optuna: {sampler: cmaes"),
    in_search("6: optuna.sampler: cmaes needs two settings", "  cut_size: {float: [0.1, 0.4]}\nobjective: "
              "{metric: val/auroc, mode: max}\noptuna: {sampler: tpe",
              "objective: {metric: val/auroc, mode: max}\noptuna: {sampler: cmaes"),
    in_search("7: optuna.storage: 'sqlit:///x.db': Optuna has no storage sqlit:// (did you mean 'sqlite'?)", "seed: 0",
              "storage: 'sqlit:///x.db'"),
    in_search("7: optuna.storage: there is no folder 'nowhere'", "seed: 0", "storage: nowhere/optuna.log"),
    in_search(f"7: optuna.storage: '{'a' * 49}… can be no file here (File name too long): name a journal file",
              "seed: 0", f"storage: {'a' * 5000}"),
    in_search("10: confirm: 'yes please' is not a mapping with top, splits", "{splits: [0, 1]}", "yes please"),
    in_search("10: confirm.baselines.0.set: is missing", "{splits: [0, 1]}", "{baselines: [{name: Plain}]}"),
    in_search("10: confirm.baselines.0.grid: is for the rows of an ablation", "{splits: [0, 1]}",
              "{baselines: [{name: Plain, set: {}, grid: {lr: [1]}}]}"),
    # What a report needs.
    Mistake("6: claims.0.row: 'CutMx' is no row (did you mean 'CutMix'?)", "seeds: [0]",
            "seeds: [0]\nclaims: [{row: CutMx, over: Plain, columns: [Acc.]}]"),
    Mistake("6: claims.0.columns: 'Acc' is no column (did you mean 'Acc.'?)", "seeds: [0]",
            "seeds: [0]\nclaims: [{row: CutMix, over: Plain, columns: [Acc]}]"),
    Mistake("6: claims.0.over: 'Plain' is the row itself: a claim is about two rows", "seeds: [0]",
            "seeds: [0]\nclaims: [{row: Plain, over: Plain, columns: [Acc.], sign: +}]"),
    Mistake("6: claims.0.columns: has 'Acc.' twice", "seeds: [0]",
            "seeds: [0]\nclaims: [{row: CutMix, over: Plain, columns: [Acc., Acc.], sign: +}]"),
    Mistake("6: claims.0: AUROC is not published for both rows", "seeds: [0]",
            "seeds: [0]\nclaims: [{row: CutMix, over: Plain, columns: [AUROC]}]"),
    Mistake("6: claims.0.sign: '>' is not '+' or '-'", "seeds: [0]",
            "seeds: [0]\nclaims: [{row: CutMix, over: Plain, columns: [AUROC], sign: '>'}]"),
    Mistake("6: figures.0: 'nroms' is not", "seeds: [0]", "seeds: [0]\nfigures: [nroms]"),
    Mistake("6: figures: search shows what a search tried", "seeds: [0]", "seeds: [0]\nfigures: [search]"),
    in_search("12: figures: grid shows two settings of a grid", "resources: {workers: 1}",
              "resources: {workers: 1}\nfigures: [grid]"),
]  # fmt: skip


def said_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        search_file.load(path)
    return str(caught.value)
