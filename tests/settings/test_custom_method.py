"""A mix or an objective of one's own: `mix: module:Class` works as a built-in one does, and says what is missing."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from platform.files import search_file
from platform.files.rows import row_list
from platform.files.trial_settings import with_teacher
from tests.helpers.paths import ROOT
from trainables.data.trial_data import build
from trainables.mixes import mix_class
from trainables.objectives import objective_class
from trainables.reading.yaml_file import ConfigError
from trainables.settings.config import TrialConfig
from trainables.settings.custom import custom_part
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer

IMAGES = {"digits": "fingerprint of its training images"}
NOISE = "examples.noise_mix:NoiseMix"
MODULE = """\
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from trainables.objectives.base import Objective
from trainables.objectives.distill import Distill
from trainables.reading.values import Range, Share
from trainables.settings.objectives import DistillSettings, ObjectiveSettings

@dataclass(frozen=True)
class MineSettings(ObjectiveSettings):
    strength: Share = 0.5

class Mine(Objective):
    settings: MineSettings

    def loss(self, model, ids_B):
        return 0
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Writes a module that this test alone has, and gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> str:
        name = f"own_{abs(hash(request.node.nodeid))}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def trial(name: str, **settings: Any) -> TrialConfig:
    """Of a method, of an objective of one's own, or of the example's mix."""
    kind = "mix" if name == NOISE else "objective" if ":" in name else "method"
    with_it = {"method": "plain"} if kind == "method" else {"objective": "ce"}
    return resolve({**with_it, kind: name, "backbone": "wrn10-1", **settings})


def refusal(name: str, **settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        trial(name, **settings)
    return str(caught.value)


def test_its_settings_are_checked_as_those_of_a_built_in_method() -> None:
    assert trial(NOISE, noise=0.25).mix_settings.noise == 0.25  # type: ignore[attr-defined]
    assert "noise: 1.5 is out of range: at least 0 and at most 1" in refusal(NOISE, noise=1.5)
    assert "nois: unknown setting (did you mean 'noise'?)" in refusal(NOISE, nois=0.5)


def test_its_settings_are_unknown_to_a_trial_of_another_method() -> None:
    assert "noise: unknown setting" in refusal("plain", noise=0.5)


def test_its_resolved_settings_resolve_to_the_same_trial() -> None:
    config = trial(NOISE, noise=0.25)
    assert identity_of(resolve(config.settings()), IMAGES) == identity_of(config, IMAGES)


def test_its_class_is_found_by_its_name(module: Any) -> None:
    assert mix_class(NOISE).__name__ == "NoiseMix"
    assert objective_class(f"{module(MODULE)}:Mine").__name__ == "Mine"


def test_a_mix_of_ones_own_goes_with_any_objective_and_an_objective_with_any_mix(module: Any) -> None:
    both = trial(f"{module(MODULE)}:Mine", mix=NOISE, noise=0.1, strength=0.2)
    assert (both.settings()["noise"], both.settings()["strength"]) == (0.1, 0.2)
    assert trial("distill", mix=NOISE).teacher is not None


def test_a_mix_is_no_objective_and_the_word_for_it_is_said(module: Any) -> None:
    with pytest.raises(ConfigError, match=r"is a mix: write it as `mix`"):
        resolve({"objective": NOISE})
    with pytest.raises(ConfigError, match=r"is an objective: write it as `objective`"):
        resolve({"objective": "ce", "mix": f"{module(MODULE)}:Mine"})
    with pytest.raises(ConfigError, match=r"is a mix or an objective: write `mix: examples.noise_mix:NoiseMix`"):
        resolve({"method": NOISE})


def test_a_file_may_search_its_settings_and_compare_it_with_a_built_in_method(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        f"name: own\nbase: {{objective: ce, mix: '{NOISE}', backbone: wrn10-1}}\n"
        "search: {noise: {float: [0, 1]}}\ntrials: 2\n"
        "confirm: {baselines: [{name: Plain, set: {method: plain}}]}\n"
    )
    assert search_file.load(file).profile("paper").search["noise"].bounds == [0, 1]  # type: ignore[union-attr]
    file.write_text(file.read_text().replace("[0, 1]", "[0, 2]"))
    with pytest.raises(ConfigError, match=r"own.yaml:3: search.noise: 2.0 is out of range"):
        search_file.load(file)


def test_what_the_base_sets_of_it_stays_out_of_the_rows_of_other_methods(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        f"name: own\nbase: {{objective: ce, mix: '{NOISE}', noise: 0.1, backbone: wrn10-1}}\nrows:\n"
        "  - {name: Own, set: {}}\n"
        "  - {name: Plain, set: {method: plain}}\n  - {name: Taught, set: {method: distill}}\n"
    )
    spec = search_file.load(file).profile("paper", ["noise=0.2"])
    own, plain, taught = (resolve(with_teacher(spec, row.set or {})) for row in row_list(spec))
    assert own.settings()["noise"] == 0.2
    assert "noise" not in plain.settings()
    assert taught.teacher is not None


def test_an_objective_that_distils_has_a_teacher(module: Any) -> None:
    name = module(
        MODULE + "@dataclass(frozen=True)\nclass SoftSettings(DistillSettings):\n    softness: Share = 0.1\n\n"
        "class Soft(Distill):\n    settings: SoftSettings\n"
    )
    teacher = trial(f"{name}:Soft", teacher={"backbone": "wrn16-1"}).teacher
    assert teacher is not None
    assert (teacher.method, teacher.backbone) == ("plain", "wrn16-1")
    assert trial("distill", teacher={"objective": f"{name}:Mine", "strength": 0.1}).teacher is not None


def test_a_setting_that_it_shares_with_the_mixes_counts_without_a_mix(module: Any) -> None:
    name = module(MODULE.replace("strength: Share = 0.5", "mix_draw: Literal['sample', 'batch'] = 'sample'"))
    one, other = (identity_of(trial(f"{name}:Mine", mix_draw=draw), IMAGES) for draw in ("sample", "batch"))
    assert one != other


def test_a_module_that_it_imports_goes_with_it(module: Any, tmp_path: Path) -> None:
    (tmp_path / "own_helper.py").write_text("from pathlib import Path\nVALUE = 3\n")
    name = module(MODULE + "import numpy\nfrom own_helper import VALUE\n")
    assert sorted(p.name for p in custom_part(f"{name}:Mine").modules) == sorted([f"{name}.py", "own_helper.py"])


NEITHER = "is no mix, objective or backbone: derive it from trainables.mixes.base.Mix"
IDENTITY = """\
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve
for settings in ({"method": "plain"}, {"objective": "own_edited:Mine"}):
    print(identity_of(resolve(settings), {"digits": "x"}))
"""


def test_an_edited_objective_is_another_training_and_others_stay_what_they_were(tmp_path: Path) -> None:
    def identities(text: str) -> list[str]:
        (tmp_path / "own_edited.py").write_text(text)
        env = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
        run = [sys.executable, "-c", IDENTITY]
        return subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout.split()

    before, after = identities(MODULE), identities(MODULE.replace("return 0", "return 1"))
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("examples.noise_mix", "method: 'examples.noise_mix' is not one of plain, cutout"),
        (":NoiseMix", "':NoiseMix': write a module and its class, as package.module:Class"),
        ("__import__('os'):x", "write a module and its class, as package.module:Class"),
        ("examples.noise_mx:NoiseMix", "there is no module 'examples.noise_mx' here (did you mean 'noise_mix'?)"),
        ("exampels.noise_mix:NoiseMix", "there is no module 'exampels' here (did you mean 'examples'?)"),
        ("examples.noise_mix:NoiseMx", "examples.noise_mix has no class 'NoiseMx' (did you mean 'NoiseMix'?)"),
        ("examples.noise_mix:NoiseMixSettings", NEITHER),
        ("json:loads", NEITHER),
    ],
)
def test_a_name_that_is_no_part_is_refused(method: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert said in refusal(method)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    settings: MineSettings\n", "", "annotate its settings: `settings: ItsSettings`"),
        ("settings: MineSettings", "settings: 'Nowhere'", "an annotation of Mine cannot be read"),
        ("settings: MineSettings", "settings: dict", "annotate its settings: `settings: ItsSettings`"),
        ("@dataclass(frozen=True)\nclass Mine", "class Mine", "MineSettings lacks @dataclass(frozen=True)"),
        ("def loss", "def los", "lacks loss: what is done with one batch"),
        ("strength: Share = 0.5", "strength: Share", "MineSettings.strength needs a default"),
        ("Share = 0.5", "Share = 1.5", "MineSettings.strength: its default 1.5 is out of range"),
        ("Share = 0.5", "list = None", "MineSettings.strength: <class 'list'> is not a type of a setting"),
        ("strength: Share = 0.5", "epochs: int = 3", "MineSettings.epochs has the name of a setting of every trial"),
        ("strength:", "relabel_mean:", "MineSettings.relabel_mean is a setting of asymmetric too, with other"),
        ("    strength", "    version: ClassVar[Any] = 'b'\n    strength", "version: 'b' is not a whole number"),
        ("    strength", "    recipes = {'mine': {}}\n    strength", "MineSettings.recipes: a mapping of names"),
        (
            "    strength",
            "    recipes: ClassVar[Any] = {'paper': {'strenth': 1}}\n    strength",
            "its recipe 'paper': strenth: unknown setting (did you mean 'strength'?)",
        ),
        ("        return 0", "        return 0\nbroken(", ".py:17: SyntaxError"),
        ("        return 0", "        return 0\n\nVALUE = 1 / 0", ".py:18: ZeroDivisionError: division by zero"),
        (
            "        return 0",
            "        return 0\n\nimport nothing_like_it",
            ".py:18: ModuleNotFoundError: No module named",
        ),
        ("        return 0", "        return 0\n\nraise SystemExit(3)", ".py:18: SystemExit: 3"),
    ],
)
def test_a_mistake_in_the_module_is_named(module: Any, old: str, new: str, said: str) -> None:
    assert old in MODULE
    assert said in refusal(f"{module(MODULE.replace(old, new, 1))}:Mine")


def test_what_a_settings_class_refuses_is_a_mistake_of_the_trial(module: Any) -> None:
    name = module(
        MODULE.replace(
            "Share = 0.5\n",
            "Share = 0.5\n\n    def __post_init__(self):\n        if self.strength == 1:\n"
            "            raise ValueError('strength 1 leaves nothing')\n",
        )
    )
    assert "strength 1 leaves nothing" in refusal(f"{name}:Mine", strength=1.0)


def test_the_same_source_is_read_once() -> None:
    assert custom_part(NOISE) is custom_part(NOISE)


def test_the_example_trains() -> None:
    config = trial(NOISE, images_per_class=20, batch_size=32)
    data = build(config, Path("data"))
    trainer = Trainer(config, data, torch.device("cpu"))
    first = trainer.epoch()
    for _ in range(2):
        last = trainer.epoch()
    assert last < first
