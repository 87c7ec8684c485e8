"""Proposals of a search, and the trainings that each of them is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import pandas as pd

from platform.files.spec import Spec
from platform.files.trial_settings import of_score, proposed
from platform.planning.plan import Plan, Request
from platform.planning.results import Outcome
from platform.planning.search import Proposal, Ran, Study
from platform.tracking.runs import PROVISIONAL
from platform.tracking.trials import Place, TrialState
from trainables.scoring.rejudged import Validated


def trainings(plan: Plan, search: str, proposal: Proposal) -> list[Request]:
    """What a proposal is judged by, in order."""
    configs = proposed(plan.sweep(search).spec, proposal.settings)
    number, count = proposal.number, len(configs)

    def place(split: int, seed: int) -> Place:
        return Place(search, "search", search, number + 1, split, seed, "", number, proposal.settings, count)

    return [Request(place(config.split, config.seed), config, plan.identity(config)) for config in configs]


@dataclass
class Rejudged:
    """Trainings judged by other scores than their runs have, from what these recorded of each validation sample."""

    fetch: Callable[[str], pd.DataFrame]  # the file of a run
    _read: dict[str, Validated] = field(default_factory=dict)  # by run

    def __call__(self, outcome: Outcome, spec: Spec) -> Outcome:
        """What came of a request of a search over nothing but settings of the score, by those that are proposed; of any
        other request the same."""
        if not (of_score(spec) and outcome.done and outcome.place.phase == "search"):
            return outcome
        if outcome.run_id not in self._read:
            self._read[outcome.run_id] = Validated.of(self.fetch(outcome.run_id))
        settings = dict(outcome.place.searched)
        return replace(outcome, metrics=self._read[outcome.run_id].metrics(replace(outcome.config, **settings)))


@dataclass
class OpenProposal:
    """A proposal whose trainings have not all ended.

    They begin all together; where early stopping may end them, one after another: what a proposal that is behind has
    cost is then what showed that it is.
    """

    study: Study
    number: int
    requests: Sequence[Request]
    begun: int = 0
    outcomes: list[Outcome] = field(default_factory=list)  # of the trainings that have ended

    def begin(self) -> Request | None:
        """The next training that may begin; None where there is none now."""
        waits = self.study.spec.scheduler is not None and self.begun > len(self.outcomes)
        if waits or self.begun == len(self.requests):
            return None
        self.begun += 1
        return self.requests[self.begun - 1]

    @property
    def done(self) -> bool:
        return len(self.outcomes) == len(self.requests)

    def value(self, *more: Mapping[str, float]) -> dict[str, float]:
        """The mean of each objective over the trainings that have ended, and over one `more` as it is now."""
        of = [*(outcome.metrics for outcome in self.outcomes), *more]
        names = [o.metric for o in self.study.spec.objectives]
        return {name: fmean(one[name] for one in of) for name in names if all(name in one for one in of)}

    def stops(self, epoch: float, metrics: Mapping[str, float]) -> bool:
        """Whether early stopping ends it here, with a training at `epoch`: by the epochs of all of them so far."""
        epochs = sum(outcome.config.epochs for outcome in self.outcomes) + int(epoch)
        return self.study.stops(self.number, epochs, self.value(metrics))

    def stop(self, place: Place, trial: TrialState, metrics: Mapping[str, float]) -> None:
        """Its study is told before the run of the training ends: a process that waits for that asks the study first."""
        runs = [*self._runs, _ran(place, trial.run_id, trial.epoch)]
        self.study.tell(self.number, "stopped", self.value(metrics), runs)

    def tell(self, status: str) -> None:
        self.study.tell(self.number, status, self.value(), self._runs)

    @property
    def _runs(self) -> list[Ran]:
        return [_ran(outcome.place, outcome.run_id, outcome.epoch) for outcome in self.outcomes]


def _ran(place: Place, run_id: str, epoch: float) -> Ran:
    """What a study keeps of a training: no run where MLflow has not given its id yet."""
    return Ran(place.split, place.seed, "" if run_id.startswith(PROVISIONAL) else run_id, epoch)
