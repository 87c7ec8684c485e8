"""The driver killed at random moments of a small ablation, again and again: what is lost, beside a run left alone.

python -m benchmarks.faults --kills 20

The ablation (8 trials on the embedded digits, two of them teachers, one thread each) runs once undisturbed. Then, in
another folder, it is started again and again, and its whole process group gets SIGKILL at a moment drawn from the
length of the undisturbed run, the planning and the end included. Each time that it comes to its end all the same, its
results are compared, and it begins anew in a new folder, until it was killed as often as was asked; then it runs to its
end once more. Every identity must have one run, FINISHED, with the same metrics, scores and weights to the last
digit and every epoch once; nothing that had finished may be trained again; no record, checkpoint or process may be
left. Exits 1 on any difference.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
EPOCHS, TEACHER_EPOCHS = 4, 3
ABLATION = f"""\
name: faults
base: {{protocol: digits, backbone: wrn10-1, epochs: {EPOCHS}, batch_size: 16, images_per_class: 60}}
splits: SPLITS
resources: {{cpus_per_worker: 1}}
rows:
  - {{name: Plain, set: {{method: plain}}}}
  - {{name: BackMix, set: {{method: backmix}}}}
  - {{name: Distilled, set: {{method: distill, teacher: {{backbone: wrn10-1, epochs: {TEACHER_EPOCHS}}}}}}}
"""
TRIALS = 4  # of each split, with the teacher
LONGEST = 600.0  # seconds that a run may take
GONE = 90.0  # seconds within which the processes of a killed driver must be gone: one that only starts finds out late


@dataclass
class Attempt:
    """One start of the command in a folder, and what it has said so far."""

    folder: Path
    process: subprocess.Popen[bytes]
    output: Path
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(cls, folder: Path) -> Attempt:
        output = folder / "said.txt"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "platform.sweep", "faults.yaml"],
                cwd=folder,
                env={**environment, "OSR_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(folder, process, output)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def trials(self, verb: str) -> list[str]:
        """Names of the trials that it said have `started` or `finished`."""
        return re.findall(rf"^(.+, split \d+, seed \d+) {verb}\b", self.said, re.MULTILINE)

    @property
    def doing(self) -> str:
        """What it does now, for people to read."""
        running = Counter(self.trials("started")) - Counter(self.trials("finished"))
        if running:
            return "training " + ", ".join(name.replace(", seed 0", "") for name in running)
        if "trials in" in self.said:
            return "ending"
        if self.trials("finished"):
            return "between trials, or recording"
        stages = {"trials, ": "starting workers", "to train": "starting Ray", "found": "planning"}
        return next((doing for words, doing in stages.items() if words in self.said), "importing")

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        try:
            self.process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> list[str]:
        """SIGKILL to the whole process group; what of the processes under it has not gone by itself in `GONE` seconds.

        Those are ended here, so that they do not slow down what follows.
        """
        under = psutil.Process(self.process.pid).children(recursive=True)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _, left = psutil.wait_procs(under, timeout=GONE)
        names = []
        for process in left:
            with suppress(psutil.NoSuchProcess):
                names.append(" ".join(process.cmdline())[:200])
                process.kill()
        return names


@dataclass(frozen=True)
class Trained:
    """What lasts of one identity. `metrics` are those of its last epoch, without the speed."""

    metrics: dict[str, float]
    history: dict[str, list[tuple[int, float]]]
    scores: bytes
    weights: bytes


def read(folder: Path, trials: int) -> tuple[dict[str, Trained], list[str]]:
    """The result of each identity, and what is wrong with the store or was left in the folder."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(every, run_view_type=ViewType.ACTIVE_ONLY)
    problems = [f"{_name(run)} is {run.info.status}" for run in runs if run.info.status != "FINISHED"]
    counts = Counter(run.data.tags["identity"] for run in runs if run.data.tags["kind"] == "trial")
    problems += [f"identity {identity} has {count} runs" for identity, count in counts.items() if count > 1]
    if len(counts) != trials:
        problems.append(f"{len(counts)} identities, not {trials}")
    if (sweeps := len(runs) - counts.total()) != 1:
        problems.append(f"{sweeps} runs of the sweep")
    found = {}
    for run in runs:
        if run.data.tags["kind"] == "trial":
            try:
                found[run.data.tags["identity"]] = trained = _trained(client, run)
            except FileNotFoundError as error:
                problems.append(f"{_name(run)} lacks {error.filename}")
                continue
            epochs = TEACHER_EPOCHS if run.data.tags["phase"] == "teacher" else EPOCHS
            told = [step for step, _ in trained.history["train/loss"]]
            if told != list(range(1, epochs + 1)):
                problems.append(f"{_name(run)} has the epochs {told}")
    for kept in ("trials", "outbox"):
        left = [str(f.relative_to(folder)) for f in (folder / "results" / kept).rglob("*") if f.is_file()]
        problems += [f"left behind: {file}" for file in sorted(left)]
    return found, problems


def _name(run: Run) -> str:
    return f"run {run.info.run_id} ({run.info.run_name})"


def _trained(client: MlflowClient, run: Run) -> Trained:
    steady = [name for name in run.data.metrics if "second" not in name]
    points = {name: client.get_metric_history(run.info.run_id, name) for name in steady}
    files = Path(run.info.artifact_uri.removeprefix("file://"))
    return Trained(
        {name: run.data.metrics[name] for name in steady},
        {name: sorted((m.step, m.value) for m in found) for name, found in points.items()},
        (files / "scores.parquet").read_bytes(),
        (files / "weights.pt").read_bytes(),
    )


def differences(expected: dict[str, Trained], found: dict[str, Trained]) -> list[str]:
    """What is not the same to the last digit, one line for each identity."""
    lines = []
    for identity in sorted({*expected, *found}):
        if identity not in found or identity not in expected:
            lines.append(f"{identity} is only in {'the first' if identity in expected else 'the killed'} sweep")
            continue
        one, other = expected[identity], found[identity]
        parts = [part for part in Trained.__annotations__ if getattr(one, part) != getattr(other, part)]
        if parts:
            lines.append(f"{identity} has other {' and '.join(parts)}")
    return lines


def new(folder: Path, splits: int) -> Path:
    """A folder that looks like the repository's root, with the ablation."""
    folder.mkdir()
    for name in ("platform", "trainables"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "faults.yaml").write_text(ABLATION.replace("SPLITS", str(list(range(splits)))))
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--splits", type=int, default=2, help="of the ablation: four trials each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    console = Console(width=160, highlight=False)
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    table, problems = kill_often(scratch, args.kills, args.splits, random.Random(args.seed), console)
    console.print(table)
    if problems:
        console.print(f"see {scratch}")
    else:
        shutil.rmtree(scratch)
    for problem in problems:
        console.print(f"[red]{escape(problem)}[/red]", soft_wrap=True)
    console.print(f"{args.kills} kills: {f'{len(problems)} differences' if problems else 'nothing was lost'}")
    return 1 if problems else 0


def kill_often(
    scratch: Path, kills: int, splits: int, moments: random.Random, console: Console
) -> tuple[Table, list[str]]:
    """A line for each kill and each comparison, and all that went wrong."""
    trials = splits * TRIALS
    table = Table("start", "ended", "after", "what it did then", "finished so far", "lost", title="Kills of the driver")
    undisturbed = Attempt.begin(new(scratch / "undisturbed", splits))
    undisturbed.wait(LONGEST)
    length = undisturbed.seconds
    if undisturbed.process.returncode != 0:
        return table, [f"the undisturbed sweep ended with {undisturbed.process.returncode}:\n{undisturbed.said}"]
    expected, problems = read(undisturbed.folder, trials)
    table.add_row("alone", "by itself", f"{length:.1f} s", "", f"{trials} of {trials}", "")
    console.print(f"undisturbed: {length:.1f} s")
    folder, done, starts, killed = new(scratch / "first", splits), set[str](), 0, 0
    while True:
        attempt, starts = Attempt.begin(folder), starts + 1
        moment = moments.uniform(0, length) if killed < kills else LONGEST
        ended = attempt.wait(moment)
        doing, seconds = attempt.doing, attempt.seconds
        if not ended:
            problems += [f"start {starts}: {name} outlived its driver" for name in attempt.kill()]
            killed += 1
        again = sorted(done & set(attempt.trials("started")))  # it was said that they had finished
        problems += [f"start {starts}: {name} was trained again" for name in again]
        done |= set(attempt.trials("finished"))
        lost = ", ".join(again) or "nothing"
        how = f"kill {killed}" if not ended else "by itself"
        if ended:
            found, wrong = read(folder, trials)
            wrong += differences(expected, found)
            if attempt.process.returncode != 0:
                wrong.append(f"it ended with {attempt.process.returncode}:\n{attempt.said}")
            problems += [f"start {starts}: {line}" for line in wrong]
            lost, doing = f"{len(wrong)} differences" if wrong else "nothing: all numbers equal", ""
        table.add_row(str(starts), how, f"{seconds:.1f} s", doing, f"{len(done)} of {trials}", lost)
        console.print(f"start {starts}: {how} after {seconds:.1f} s, {doing or lost}", soft_wrap=True)
        if killed > kills:
            return table, [*problems, f"start {starts} had not ended after {LONGEST:g} s"]
        if ended and (killed == kills or problems):
            return table, problems
        if ended:
            folder, done = new(scratch / f"after-{starts}", splits), set()  # MLflow keeps a database of this path open


if __name__ == "__main__":
    sys.exit(main())
