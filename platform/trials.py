"""What the driver knows of a trial while it runs, and who is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from trainables.config import TrialConfig

Phase = Literal["teacher", "search", "confirm"]
Status = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Planned:
    """A trial before it runs: what it stands for, and its settings, but for those that a search proposes."""

    phase: Phase
    row: str
    settings: Mapping[str, Any]

    def start(self, number: int, searched: dict[str, Any], fingerprints: Mapping[str, str]) -> TrialState:
        config = TrialConfig.from_settings({**self.settings, **searched})
        return TrialState(number, self.phase, self.row, config, config.identity(fingerprints), searched)


@dataclass
class TrialState:
    """One trial as the driver sees it. `metrics` are those of the latest epoch."""

    number: int  # within its phase, from 1
    phase: Phase
    row: str  # what the trial stands for: the name of the sweep or of a confirmed row
    config: TrialConfig
    identity: str
    searched: dict[str, Any]  # the settings that Optuna proposed
    status: Status = "running"
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    device: str = ""
    files: Path | None = None  # config.yaml, scores.parquet, weights.pt of a finished trial
    error: str = ""  # the traceback of a failed one

    @property
    def name(self) -> str:
        if self.phase == "search":
            return f"search {self.number}"
        if self.config.pseudo_unknown:
            return f"{self.row} of the search"
        return f"{self.row}, split {self.config.split}, seed {self.config.seed}"

    @property
    def reason(self) -> str:
        """The last line of the traceback: what went wrong, in one line."""
        lines = [line.strip() for line in self.error.splitlines() if line.strip()]
        return lines[-1] if lines else "unknown error"


class Listener(Protocol):
    """Told of each trial's start, of each of its epochs, and of its end."""

    def started(self, trial: TrialState) -> None: ...

    def reported(self, trial: TrialState) -> None: ...

    def ended(self, trial: TrialState) -> None: ...
