"""What one sees while sweeps run: a bar for all trials and a line per one that has a worker, or lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from platform.files.spec import Goal
from platform.planning.captions import say_settings
from platform.planning.results import Results
from platform.terminal.text import in_terminal
from platform.tracking.trials import Listener, TrialState

LINES_PER_TRIAL = 5  # of a trial's epochs, where the output is no terminal
EVERY = 60.0  # seconds between two lines about all trials, where the output is no terminal
ASK = 5.0  # seconds until it is asked anew how long all of them take
SHOWN = 20  # running trials with a line of their own


class LiveView(Listener):
    """A `Listener` with a bar for all trials, and a line for each that has a worker, with the time that it has left."""

    def __init__(
        self,
        console: Console,
        results: Results,
        objectives: Mapping[str, Goal],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console
        self.results = results
        self.objectives = objectives  # of each sweep that searches
        self.failed = 0
        self.clock = clock
        self._told = clock()  # when a log had its last line about all trials
        self._left: Callable[[], float | None] = lambda: None
        self._asked = clock()
        self._all: TaskID | None = None
        self._total = 0
        self._lines: dict[int, TaskID] = {}  # of trials that are next or running
        self._heard: dict[int, bool] = {}  # of those that have a worker: whether it has told anything yet
        self._said: dict[int, int] = {}  # epochs of a running trial that were said in a log
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console,
            expand=True,
            disable=not console.is_terminal,
            get_time=clock,
        )

    def __enter__(self) -> LiveView:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The bars' last state stays."""
        for task in self._lines.values():
            self._bars.remove_task(task)
        self._lines.clear()
        self._heard.clear()
        self._note()  # the last trial's outcome came after it had ended
        self._bars.stop()

    def begin(self, expected: int, left: Callable[[], float | None]) -> None:
        """`expected` trials are to come, in the seconds that `left` gives; what has a result now is cached."""
        done = len(self.results.ended)
        self._total, self._left = done + expected, left
        self._all = self._bars.add_task("[bold]trials", total=self._total, completed=done, ends=None, note="")
        self._ask()
        if not self.console.is_terminal:
            self.console.print(f"{expected} trials, {done} cached")

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(in_terminal(text), style="yellow", soft_wrap=True)

    def started(self, trial: TrialState) -> None:
        self._lines[id(trial)] = self._bars.add_task(
            f"  {in_terminal(trial.name)}", start=False, total=trial.config.epochs, note="", visible=False
        )

    def placed(self, trial: TrialState) -> None:
        self._heard[id(trial)] = False
        note, line = in_terminal(say_settings(trial.place.searched)), self._lines[id(trial)]
        self._bars.reset(line, note=f"starting  {note}", visible=len(self._heard) <= SHOWN)  # its clock, too
        self._note()
        if not self.console.is_terminal and trial.attempt == 1:
            verb = "evaluated again" if trial.evaluates_only else "started"
            self.console.print(f"{in_terminal(trial.name)} {verb}  {note}".rstrip(), soft_wrap=True)

    def reported(self, trial: TrialState) -> None:
        if not self._heard[id(trial)]:
            self._heard[id(trial)] = True
            self._note()
            if trial.resumed and not self.console.is_terminal:
                self.console.print(f"{in_terminal(trial.name)} goes on after epoch {trial.resumed}", soft_wrap=True)
        note = f"{self._measured(trial)}  {in_terminal(say_settings(trial.place.searched))}"
        line = self._lines[id(trial)]
        self._bars.update(line, completed=round(trial.epoch, 1), began=trial.resumed, note=note)
        every = max(1, trial.config.epochs // LINES_PER_TRIAL)
        step = int(trial.epoch) // every
        if not self.console.is_terminal and step > self._said.get(id(trial), 0) and trial.status == "running":
            self._said[id(trial)] = step
            if trial.epoch > trial.resumed:
                done = f"{int(trial.epoch)}/{trial.config.epochs}"
                self.console.print(f"{in_terminal(trial.name)} epoch {done}  {self._measured(trial)}", soft_wrap=True)
        self._note_all()

    def ended(self, trial: TrialState) -> None:
        self._bars.remove_task(self._lines.pop(id(trial)))
        self._said.pop(id(trial), None)
        self._heard.pop(id(trial), None)
        self.failed += trial.status == "failed"
        self._note()
        for warning in trial.warnings:
            self.say(f"{trial.name}: {warning}")
        if trial.status == "failed":
            self.console.print(
                f"[red]{in_terminal(trial.name)} failed[/red]: {in_terminal(trial.reason)}", soft_wrap=True
            )
        elif not self.console.is_terminal:
            given = trial.config.train == "none"
            said = "evaluated" if given and trial.status == "finished" else trial.status
            where = "" if given else f" at epoch {round(trial.epoch, 1):g}"
            line = f"{in_terminal(trial.name)} {said}{where}  {self._measured(trial)}"
            self.console.print(line, soft_wrap=True)

    def _note(self) -> None:
        running = sum(self._heard.values())
        starting = len(self._heard) - running
        parts = [f"{running} running"] if running or not starting else []
        parts += [f"[red]{self.failed} failed[/red]"] if self.failed else []
        parts += [f"{starting} starting"] if starting else []
        for sweep, proposals in self.results.judged.items():
            goal = self.objectives[sweep]
            value = (max if goal.mode == "max" else min)(of[goal.metric] for of in proposals.values())
            parts.append(f"best {in_terminal(goal.metric)} {value:.3f}")
        if self._all is not None:
            done = len(self.results.ended)
            self._total = max(self._total, done + len(self._lines))  # seeds are added until a table is decided
            total = self._total - self.results.spared
            self._bars.update(self._all, completed=done, total=total, note="  ".join(parts))

    def _note_all(self) -> None:
        """How far all trials are, which a log gets a line about from time to time."""
        assert self._all is not None
        if self.clock() - self._asked >= ASK:
            self._ask()
        if self.console.is_terminal or self.clock() - self._told < EVERY:
            return
        self._told = self.clock()
        task = self._bars.tasks[0]
        left = f"{(task.total or 0) - task.completed:g} left, about {left_of(task)}"
        self.console.print(
            f"{task.completed:g} of {task.total:g} trials done, {left}  {task.fields['note']}", soft_wrap=True
        )

    def _ask(self) -> None:
        """How long all trials take; until it is asked again, the time runs."""
        assert self._all is not None
        self._asked, left = self.clock(), self._left()
        self._bars.update(self._all, ends=None if left is None else self._asked + left)

    def _measured(self, trial: TrialState) -> str:
        objective = self.objectives.get(trial.place.sweep)
        searched = [objective.metric] if objective and trial.place.phase == "search" else None
        names = searched or ["test/auroc", "test/accuracy", "test/auc"]
        shown = [n for n in [*names, "train/loss"] if n in trial.metrics][:2]
        return "  ".join(f"{n} {trial.metrics[n]:.3f}" for n in shown)


class _Left(TextColumn):
    """Time that is left: of all trials as it was told, of one at its mean speed so far."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(left_of(task), style="progress.remaining")


def left_of(task: Task) -> str:
    """Hours, minutes and seconds; what was cached, or done before, tells nothing of the speed."""
    left = None
    if "ends" in task.fields:
        ends = task.fields["ends"]
        left = None if ends is None else ends - task.get_time()
    elif (done := task.completed - task.fields.get("began", 0)) > 0 and task.elapsed and task.total:
        left = task.elapsed / done * (task.total - task.completed)
    if left is None:
        return "-:--:--"
    seconds = max(0, int(left))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
