"""A trial on its way through the queue, and what the queue asks of MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from platform.files.spec import Resources
from platform.planning.plan import Request
from platform.tracking.claims import ClaimOutcome
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import TrialState
from trainables.settings.config import TrialConfig


class Registry(Protocol):
    """What became of trials before and elsewhere."""

    def claim(self, trial: TrialState, *, fresh: bool = False) -> ClaimOutcome:
        """Whether this process may train a trial now. `fresh`: though a run of it has finished, which counts no more
        once this one has."""
        ...

    def fetch_scores(self, run_id: str) -> pd.DataFrame:
        """What a finished trial recorded of each sample. Raises `TrackingError` where it is out of reach."""
        ...

    def fetch_weights(self, finished: FinishedTrial) -> bool:
        """Put a finished trial's weights where students and evaluations look for them; False: out of reach."""
        ...


@dataclass
class Job:
    """A trial to be trained, or to be evaluated again, for all requests that want it."""

    trial: TrialState
    resources: Resources
    requests: list[Request]
    teacher: TrialConfig | None = None
    block: int = 0  # of the first request: the ready ones of an earlier block are first, and of a block its teachers
    claimed: bool = False  # by an attempt before this one
    curable: bool = False  # of a failed one: another attempt may succeed
    crowded: int = 0  # attempts that found no memory beside others on a GPU, which do not count as attempts
    asked: float = 0.0  # when another process was found to train it

    @property
    def identity(self) -> str:
        return self.trial.identity

    @property
    def stoppable(self) -> bool:
        """A search's early stopping ends what is for nothing but searches."""
        return all(request.place.phase == "search" for request in self.requests)
