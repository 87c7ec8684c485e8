"""`python -m trainables.trial`, as on a bare GPU machine: no Ray, MLflow, Optuna, pydantic or rich."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from tests.helpers.paths import ROOT
from trainables.scoring.measured import metrics_of
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve
from trainables.trial import main

BARE = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "mlflow", "optuna", "pydantic", "rich"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.argv = ["trial", *sys.argv[1:]]
runpy.run_module("trainables.trial", run_name="__main__")
"""
SETTINGS = {
    "method": "backmix",
    "protocol": "digits",
    "backbone": "wrn10-1",
    "cut_size": 0.1,
    "epochs": 4,
    "batch_size": 16,
    "holdout": 0.1,
}


def command(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "config.yaml").write_text(text)
    return [sys.executable, "-c", BARE, str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out")]


def run(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(tmp_path, text), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("trial")
    done = run(folder, yaml.safe_dump(SETTINGS))
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def test_it_prints_the_metrics(finished: tuple[Path, str]) -> None:
    printed = finished[1]
    metrics = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    assert 0.3 < metrics["test/accuracy"] <= 1
    assert "test/digits/msp/f1.val95" in metrics


def test_every_metric_can_be_computed_again_from_the_scores(finished: tuple[Path, str]) -> None:
    out, printed = finished
    metrics = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    table = pd.read_parquet(out / "scores.parquet")
    again = metrics_of(table, "test", 6, "msp") | metrics_of(table, "val", 6, "msp")
    assert again == {k: v for k, v in metrics.items() if not k.startswith("train/")}


def test_scores_have_one_line_per_sample(finished: tuple[Path, str]) -> None:
    table = pd.read_parquet(finished[0] / "scores.parquet")
    columns = ["part", "set", "index", "class", "label", "prediction"]
    columns += ["msp", "mls", "energy", "feature_norm", "known_cosine", "logits"]
    assert list(table.columns) == columns
    test = table[table["part"] == "test"]
    assert len(test) == 797
    assert sorted(test["index"]) == list(range(1000, 1797))
    assert set(test.loc[test["label"] == -1, "class"]) == {0, 1, 6, 7}


def test_the_written_config_is_the_whole_trial(finished: tuple[Path, str]) -> None:
    written = yaml.safe_load((finished[0] / "config.yaml").read_text())
    assert resolve(written) == resolve({**written, **SETTINGS})
    assert written["mask_ratio"] == 0.25


def test_weights_load_without_unpickling_objects(finished: tuple[Path, str]) -> None:
    from trainables.models import build_model

    state = torch.load(finished[0] / "weights.pt", weights_only=True)
    build_model("wrn10-1", 6, 32).load_state_dict(state)


def test_an_unusable_out_or_device_is_told_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trainables.trial import main

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "config.yaml"), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "--out" in capsys.readouterr().err
    assert main([str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out"), "--device", "banana"]) == 2
    assert "--device banana" in capsys.readouterr().err


def test_a_mistake_in_the_file_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("method: backmix\nepoch: 3")
    script = (
        "import sys; from trainables.trial import main; code = main(['config.yaml']); "
        "print([m for m in ('torch', 'pandas') if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == "config.yaml:2: epoch: unknown setting (did you mean 'epochs'?)\n"
    assert (done.returncode, done.stdout) == (2, "[]\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method: backmix\nepoch: 3", "config.yaml:2: epoch: unknown setting (did you mean 'epochs'?)"),
        ("method: backmix\nprotocol: cifar10\nsplit_family: osrci", "cifar10 (train) is not under"),
        ("- a\n- b", "expected settings"),
    ],
)
def test_a_mistake_exits_2_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    from trainables.trial import main

    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(text)
    assert main(["config.yaml"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 9))])
def test_an_interrupted_trial_goes_on_when_the_same_command_runs_again(
    number: signal.Signals, tmp_path: Path, finished: tuple[Path, str]
) -> None:
    text = yaml.safe_dump(SETTINGS)
    with subprocess.Popen(
        command(tmp_path, text), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as interrupted:
        assert interrupted.stdout
        assert any(line.startswith("epoch 1/4") for line in interrupted.stdout)  # reads no further
        interrupted.send_signal(number)
        _, said = interrupted.communicate(timeout=300)
    if number == signal.SIGKILL:
        assert interrupted.returncode == -number
    else:
        assert interrupted.returncode == 130
        assert "of 4 epochs: run the same command again to continue" in said
        assert "Traceback" not in said
    again = run(tmp_path, text)
    assert again.returncode == 0, again.stderr
    assert "goes on after" in again.stdout
    assert "epoch 1/4" not in again.stdout
    for name in ("weights.pt", "scores.parquet", "config.yaml"):
        assert (tmp_path / "out" / name).read_bytes() == (finished[0] / name).read_bytes()
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_teacher_is_trained_first_and_found_the_next_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trainables.trial import main

    student = {**SETTINGS, "method": "distill", "epochs": 1, "holdout": 0.0, "images_per_class": 20}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**student, "teacher": {"backbone": "wrn16-1"}}))
    arguments = [str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out")]
    arguments += ["--teachers", str(tmp_path / "teachers")]
    assert main(arguments) == 0
    assert "its teacher first: plain, wrn16-1, 1 epochs" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "its teacher is there" in capsys.readouterr().out
    (kept,) = (tmp_path / "teachers").glob("*.pt")
    weights, scores = kept.read_bytes(), (tmp_path / "out" / "scores.parquet").read_bytes()
    other = torch.load(kept, weights_only=True)
    other["head.bias"] += 1
    torch.save(other, kept)  # whole, and not the teacher's
    assert main(arguments) == 0
    assert f"{kept} is damaged: the teacher is trained again" in capsys.readouterr().err
    assert kept.read_bytes() == weights
    assert (tmp_path / "out" / "scores.parquet").read_bytes() == scores


def test_the_command_in_a_runs_config_gives_the_runs_numbers_to_the_last_digit(tmp_path: Path) -> None:
    """A sweep's worker leaves the file; it says with how many threads, since digits depend on them."""
    from trainables.data.trial_data import build
    from trainables.storage.folder import Folder
    from trainables.trial import main
    from trainables.worker import Order, _results

    config = resolve({**SETTINGS, "epochs": 1, "images_per_class": 20})
    fingerprints = build(config, tmp_path).fingerprints
    identity = identity_of(config, fingerprints)
    place = {
        "data_root": str(tmp_path),
        "storage": str(tmp_path),
        "store": "one",
        "fingerprints": fingerprints,
        "tested": {},
    }
    order = Order(config.settings(), identity, "", False, 1, cpus=2, gpus=0, mark=0, **place)
    list(_results(order, tmp_path))
    files = Path(Folder.at(tmp_path).path) / "trials" / "one" / identity / "files"
    first = (files / "config.yaml").read_text().splitlines()[0]
    command = shlex.split(first.removeprefix("# "))
    assert command[:4] == ["python", "-m", "trainables.trial", "config.yaml"]
    assert main([str(files / "config.yaml"), *command[4:], "--out", str(tmp_path / "again")]) == 0
    for name in ("weights.pt", "scores.parquet", "config.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (files / name).read_bytes()


def test_a_trial_has_one_thread_on_a_cpu_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trainables.trial import main

    torch.set_num_threads(2)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, "epochs": 1, "images_per_class": 10}))
    assert main([str(tmp_path / "config.yaml"), "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert "device cpu, 1 threads" in capsys.readouterr().out
    assert torch.get_num_threads() == 1


def test_a_search_file_is_no_trial(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "search_spaces" / "backmix.yaml"
    assert main([str(path)]) == 2
    said = "is a search or an ablation, which has many trials: python -m platform.sweep"
    assert capsys.readouterr().err == f"{path}:1: {said} {path}\n"
