"""What the driver knows of a trial while it runs, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainables.images.listing import Content
from trainables.reading.values import listed
from trainables.settings.config import TrialConfig

Phase = Literal["teacher", "search", "confirm", "row"]
Status = Literal["running", "finished", "stopped", "failed", "interrupted"]


@dataclass(frozen=True)
class Place:
    """Says what a trial is for: its sweep, row, column, split and seed. One trial may have several places."""

    sweep: str
    phase: Phase
    row: str  # what the trial stands for: the name of the sweep or of a row
    number: int  # within its phase, from 1
    split: int = 0
    seed: int = 0
    column: str = ""  # of a table whose columns are trials of their own, the first that this one serves
    proposal: int | None = None  # its number in the study
    searched: Mapping[str, Any] = field(default_factory=dict)  # the settings that Optuna proposed
    trainings: int = 1  # that they are judged by


@dataclass
class TrialState:
    """Holds what the driver knows of one trial, over all of its attempts. `metrics` are of the latest epoch."""

    place: Place  # the first that it is for
    config: TrialConfig
    identity: str
    evaluates_only: bool = False  # an evaluation added to the finished trial of `run_id`
    run_id: str = ""
    status: Status = "running"
    attempt: int = 1
    epoch: float = 0  # done so far; whole where `metrics` are of an epoch's end
    resumed: int = 0  # the last epoch that an attempt before this one has done
    metrics: dict[str, float] = field(default_factory=dict)
    device: str = ""
    tested: Mapping[str, Content] = field(default_factory=dict)  # the test images that a finished one saw
    files: Path | None = None  # config.yaml, scores.parquet, weights.pt of a finished trial
    error: str = ""  # the traceback of a failed one
    recorded: bool = True  # its end is safe with the tracker; else only its folder knows what it did
    warnings: list[str] = field(default_factory=list)  # what went wrong without ending it

    @property
    def name(self) -> str:
        place, which = self.place, f"split {self.config.split}, seed {self.config.seed}"
        if place.phase == "search":
            return f"search {place.number}" + (f", {which}" if place.trainings > 1 else "")
        if self.config.pseudo_unknown:
            return f"{place.row} of the search" + (f", {which}" if place.trainings > 1 else "")
        return f"{place.row}, {which}"

    @property
    def reason(self) -> str:
        """Say in one line what went wrong: the last line of the traceback."""
        lines = [line.strip() for line in self.error.splitlines() if line.strip()]
        return lines[-1] if lines else "unknown error"


class Listener:
    """Is told when a trial is next, when it gets a worker, when an epoch is done, and when it ends."""

    def started(self, trial: TrialState) -> None:
        """It is next, and may wait for a worker."""

    def placed(self, trial: TrialState) -> None:
        """A worker has room for the trial and starts an attempt."""

    def reported(self, trial: TrialState) -> None:
        """It has done a part of an epoch, or the whole."""

    def ended(self, trial: TrialState) -> None:
        """Its `status` says how."""


def flat(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A mapping among the settings as one parameter for each of its own: `teacher.backbone`."""
    for name, value in params.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", v) for inner, v in value.items())
        else:
            yield name, value


def described(configs: Sequence[TrialConfig]) -> str:
    """Data, unknowns, score, networks and length of training, each as all of the trials have it."""

    def all_of(value: Callable[[TrialConfig], Sequence[str]]) -> str:
        return " and ".join(dict.fromkeys(text for config in configs for text in value(config)))

    teachers = all_of(lambda c: [_teacher(c, c.teacher)] if c.teacher else [])
    epochs = all_of(lambda c: [str(c.epochs)] if c.train != "none" else [])
    trained = ", ".join(filter(None, [f"{epochs} epochs" if epochs else "", all_of(_from_weights)]))
    last = ", last epoch" if epochs else ""
    return (
        f"{all_of(lambda c: [c.protocol])}, split family {all_of(lambda c: [c.split_family])}, "
        f"unknown: {all_of(lambda c: c.evaluation_sets or ('none',))}, score {all_of(lambda c: [c.score])}; "
        f"{all_of(lambda c: [c.backbone])}{f', teacher {teachers}' if teachers else ''}, "
        f"{trained}{''.join(f', {said}' for said in _smaller(configs))}{last}."
    )


def _from_weights(config: TrialConfig) -> Sequence[str]:
    """What became of weights that others trained."""
    done = {"all": "all of it trained on", "head": "the head alone trained", "none": "evaluated as they are"}
    return [f"given weights, {done[config.train]}"] if config.weights else []


def _teacher(student: TrialConfig, teacher: TrialConfig) -> str:
    return teacher.backbone + (f" ({teacher.epochs} epochs)" if teacher.epochs != student.epochs else "")


def _smaller(configs: Sequence[TrialConfig]) -> Iterator[str]:
    """Settings by which trials see less than all that there is to train on, where any of them has one."""
    for name, number, say, whole in (
        ("images_per_class", "{:,}", "{} images a class", "all images"),
        ("image_size", "{}", "at {} px", "at the protocol's size"),
        ("holdout", "{:.0%}", "{} of them held out", "none held out"),
        ("pseudo_unknown", "{}", "{} known classes kept out", "none kept out"),
    ):
        values = dict.fromkeys(getattr(config, name) for config in configs)
        if any(values):
            fewer = say.format(listed(number.format(value) for value in values if value))
            yield fewer if all(values) else f"{fewer} and {whole}"
