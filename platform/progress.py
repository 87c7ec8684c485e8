"""What one sees while a sweep runs: a bar for the sweep and a line per running trial, or plain lines in a log."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from platform.trials import TrialState

LINES_PER_TRIAL = 5  # of a trial's epochs, where the output is no terminal


def say_settings(settings: dict[str, object]) -> str:
    return "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in settings.items())


class LiveView:
    """A `Listener` with a bar for the current phase and a line for each running trial."""

    def __init__(self, console: Console, objective: str) -> None:
        self.console = console
        self.objective = objective
        self._phase: TaskID | None = None
        self._lines: dict[int, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> LiveView:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in list(self._bars.task_ids):
            if task in self._lines.values():
                self._bars.remove_task(task)
        self._bars.stop()

    def phase(self, name: str, trials: int) -> None:
        """A new bar: `trials` trials of `name` follow."""
        self._phase = self._bars.add_task(f"[bold]{name}", total=trials, note="starting workers …")
        if not self.console.is_terminal:
            self.console.print(f"{name}: {trials} trials")

    def started(self, trial: TrialState) -> None:
        note = say_settings(trial.searched)
        self._lines[id(trial)] = self._bars.add_task(f"  {escape(trial.name)}", total=trial.config.epochs, note=note)
        if self._phase is not None:
            self._bars.update(self._phase, note="")
        if not self.console.is_terminal:
            self.console.print(f"{escape(trial.name)} started  {note}".rstrip(), soft_wrap=True)

    def reported(self, trial: TrialState) -> None:
        note = f"{self._measured(trial)}  {say_settings(trial.searched)}"
        self._bars.update(self._lines[id(trial)], completed=trial.epoch, note=note)
        every = max(1, trial.config.epochs // LINES_PER_TRIAL)
        if not self.console.is_terminal and trial.epoch % every == 0 and trial.status == "running":
            line = f"{escape(trial.name)} epoch {trial.epoch}/{trial.config.epochs}  {self._measured(trial)}"
            self.console.print(line, soft_wrap=True)

    def ended(self, trial: TrialState) -> None:
        self._bars.remove_task(self._lines.pop(id(trial)))
        if self._phase is not None:
            self._bars.advance(self._phase)
        if trial.status == "failed":
            self.console.print(f"[red]{escape(trial.name)} failed[/red]: {escape(trial.reason)}", soft_wrap=True)
        elif not self.console.is_terminal:
            line = f"{escape(trial.name)} {trial.status} at epoch {trial.epoch}  {self._measured(trial)}"
            self.console.print(line, soft_wrap=True)

    def _measured(self, trial: TrialState) -> str:
        names = [self.objective] if trial.phase == "search" else ["test/auroc", "test/accuracy"]
        shown = [n for n in [*names, "train/loss"] if n in trial.metrics][:2]
        return "  ".join(f"{n} {trial.metrics[n]:.3f}" for n in shown)
