"""A store as notebooks want it: frames, scores and networks, by what the commands use. `import osr` brings it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch

from platform.command import no_runs, store_of
from platform.files import search_file
from platform.records import files
from platform.records.listing import Records, as_mapping, flat_line
from platform.reports.forms import CSV_COLUMNS, csv_lines
from platform.reports.of_file import chosen, table_of
from platform.tracking.index import TrialRun
from platform.tracking.reader import Reader
from trainables.data.trial_data import build
from trainables.models.exported import how_to_load, library_state
from trainables.models.output import Network
from trainables.models.weight_files import read_state
from trainables.reading import yaml_file
from trainables.reading.yaml_file import ConfigError, Problem
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve
from trainables.training.teacher import read_weights


class Store:
    """What has run, as it is when it is first asked. A trial is named as `runs show` takes it.

    Raises `ConfigError` for a store, a trial or a file that is not there, and `TrackingError` where it does not answer.
    """

    def __init__(self, uri: str | None = None) -> None:
        """`uri`: MLFLOW_TRACKING_URI, else `sqlite:///mlflow.db` here, where none is given."""
        self.uri = store_of(uri)

    @cached_property
    def records(self) -> Records:
        reader = Reader.open(self.uri)
        if reader is None:
            raise ConfigError([Problem((), no_runs(self.uri))])
        return Records(reader)

    def trials(self, sweep: str | None = None) -> pd.DataFrame:
        """One line a run of a trial, the latest first, by its id: what became of it, and its metrics in 0..1."""
        found = self.records.trials(sweep=sweep)
        lines = [flat_line(as_mapping(self.records, run)) for run in found]
        return pd.DataFrame(lines, index=[run.run_id for run in found]).drop(columns="run_id", errors="ignore")

    def settings(self, sweep: str | None = None) -> pd.DataFrame:
        """One line a run of a trial as in `trials`, and a column for each setting, as texts."""
        found = self.records.trials(sweep=sweep)
        return pd.DataFrame([run.params for run in found], index=[run.run_id for run in found])

    def scores(self, trial: str) -> pd.DataFrame:
        """One line a test image: its set, label, prediction, logits and every score (higher: more known)."""
        with tempfile.TemporaryDirectory() as scratch:
            return pd.read_parquet(self._file(trial, "scores.parquet", Path(scratch)))

    def config(self, trial: str) -> TrialConfig:
        """The settings of a trial, as it was trained."""
        with tempfile.TemporaryDirectory() as scratch:
            return resolve(yaml_file.load(self._file(trial, "config.yaml", Path(scratch))).data)

    def network(self, trial: str, data_root: str | Path = "data", device: str = "cpu") -> Network:
        """The network of a trial with the weights that it ended with, in eval mode. The images at `data_root` tell how
        many classes it has. Raises `DataError`, `WeightsError`."""
        config = self.config(trial)
        with tempfile.TemporaryDirectory() as scratch:
            weights = self._file(trial, "weights.pt", Path(scratch))
            model = read_weights(config, build(config, Path(data_root)), weights, torch.device(device))
        return model.eval()

    def export(self, trial: str, file: str | Path) -> list[str]:
        """Write the weights of a trial in the layout of the library that has its network. Returns the Python that
        loads them. Raises `WeightsError` for a network of no library."""
        config = self.config(trial)
        with tempfile.TemporaryDirectory() as scratch:
            state = library_state(config, read_state(self._file(trial, "weights.pt", Path(scratch))))
        try:
            with open(file, "xb") as written:
                torch.save(state, written)
        except OSError as error:
            raise ConfigError([Problem((), f"{file} could not be written: {error.strerror}")]) from error
        return how_to_load(config, state, str(file))

    def table(self, file: str | Path, profile: str | None = None, changed: Sequence[str] = ()) -> pd.DataFrame:
        """The table of a search file, one line a cell, in percent: as `report --format csv`."""
        of, reader = search_file.load(Path(file)), self.records.reader
        table = table_of(of, *chosen(of, reader, profile, tuple(changed)), reader)
        return pd.DataFrame(csv_lines(table), columns=CSV_COLUMNS)

    def _file(self, trial: str, name: str, folder: Path) -> Path:
        run = self.records.find(trial)
        if not isinstance(run, TrialRun):
            raise ConfigError([Problem((), f"{trial} is a sweep: name one of its trials")])
        found = files.fetched(self.records.reader, run, name, folder)
        if found is None:
            raise ConfigError([Problem((), f"{trial} has no {name}: it is {self.records.status(run)}")])
        return found
