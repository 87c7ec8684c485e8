"""The curves of running trials as TensorBoard's event files, for those who look there first; MLflow has all of it."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter

from platform.files.names import plain
from platform.tracking.trials import Listener, TrialState


class Curves(Listener):
    """A `Listener` that writes every metric of every epoch below `folder`, a run for each trial."""

    def __init__(self, folder: Path) -> None:
        """Raises `OSError` where nothing can be written there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._writers: dict[str, SummaryWriter] = {}  # by identity

    def reported(self, trial: TrialState) -> None:
        if trial.epoch != int(trial.epoch):
            return  # between two epochs: nothing is new
        if trial.identity not in self._writers:
            name = f"{plain(trial.name.replace(',', ''))}-{trial.identity[:6]}"
            self._writers[trial.identity] = SummaryWriter(str(self.folder / trial.place.sweep / name), flush_secs=10)
        for metric, value in trial.metrics.items():
            self._writers[trial.identity].add_scalar(metric, value, int(trial.epoch))

    def ended(self, trial: TrialState) -> None:
        if writer := self._writers.pop(trial.identity, None):
            writer.close()
