"""What searches propose to a queue, as long as they want trials, and what came of it there and in other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from platform.files.trial_settings import of_score
from platform.planning.plan import Plan, Request, Sweep
from platform.planning.results import Outcome, Results
from platform.planning.search import Proposal, Study, Told
from platform.running.proposals import OpenProposal, Rejudged, trainings
from platform.tracking.evaluations import own_metrics
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import Place, TrialState
from trainables.settings.config import TrialConfig


@dataclass
class Searches:
    """The studies of a command's searches, and their proposals that have not ended."""

    plan: Plan
    studies: Mapping[str, Study]
    results: Results
    finished: Mapping[str, FinishedTrial]  # by identity, as the queue learns of them
    rejudged: Rejudged
    add: Callable[[Request], None]  # gives a request to the queue
    say: Callable[[str], None]
    open: dict[str, dict[int, OpenProposal]] = field(default_factory=dict)  # of searches that have not ended
    taken: set[tuple[str, int]] = field(default_factory=set)  # searches with the numbers of proposals that came here
    teachers: dict[str, set[str]] = field(default_factory=dict)  # of each search, those of its proposals

    def fill(self) -> None:
        """Take in what earlier processes proposed: what came of it, and what did not end."""
        self.open = {name: {} for name in self.studies}
        for name in self.studies:
            taught = [config.teacher for config in self.plan.sweep(name).searched]
            self.teachers[name] = {self.plan.identity(teacher) for teacher in taught if teacher}
            self._take_ended(name)
            self._take_unfinished(name)

    def to_come(self, sweep: Sweep) -> Iterator[tuple[TrialConfig, int]]:
        """Trainings that are not proposed yet, each with how often it comes, or not begun."""
        if sweep.name not in self.open:
            return
        if not of_score(sweep.spec):
            yield from ((config, self.studies[sweep.name].left) for config in sweep.searched)
        for one in self.open[sweep.name].values():
            yield from ((request.config, 1) for request in one.requests[one.begun :])

    def propose(self, may_ask: Callable[[str], bool]) -> bool:
        """Ask in turn the searches that may be asked; whether one proposed something. A search ends with the last
        proposal, whichever process had it."""
        asked = {name: self.studies[name].ask() for name in list(self.open) if may_ask(name)}
        proposals = {name: proposal for name, proposal in asked.items() if proposal}
        for name, proposal in proposals.items():
            self._add(name, proposal)
        for name in [n for n, waiting in self.open.items() if not waiting and n not in proposals]:
            self._take_unfinished(name)
            if not self.open[name]:
                self._confirm(name)
        return bool(proposals)

    def stops(self, trial: TrialState, requests: Sequence[Request]) -> bool:
        """After an epoch: whether early stopping ends a trial that proposals want, and all of them would."""
        asked = [
            (one, request.place, own_metrics(trial.metrics, request.config))
            for request in requests
            if (one := self._proposal_of(request.place))
        ]
        if not asked or not all([one.stops(trial.epoch, own) for one, _, own in asked]):
            return False
        for one, place, own in asked:
            one.stop(place, trial, own)
        return True

    def lacks(self, finished: FinishedTrial, request: Request) -> bool:
        """Whether the run of a finished trial, of an older version say, has not what a proposal is judged by."""
        spec = self.plan.sweep(request.place.sweep).spec
        if request.place.phase != "search" or of_score(spec):  # whose trainings recorded each sample
            return False
        metrics = own_metrics(finished.metrics, request.config)
        return any(objective.metric not in metrics for objective in spec.objectives)

    def judged(self, outcome: Outcome) -> Outcome:
        """What came of a request, of a search of scores by those that are proposed; failed where that cannot be."""
        spec = self.plan.sweep(outcome.place.sweep).spec
        outcome = self.rejudged(outcome, spec)
        if outcome.place.phase != "search" or not outcome.done:
            return outcome
        for objective in spec.objectives:
            if objective.metric not in outcome.metrics:
                said = f"run {outcome.run_id} has no {objective.metric}, evaluated anew: judge by another metric"
                return replace(outcome, status="failed", error=said)
        return outcome

    def settle(self, outcome: Outcome) -> None:
        """What came of a request. A proposal whose last this was is told to its study."""
        place = outcome.place
        if not (one := self._proposal_of(place)):
            return
        one.outcomes.append(outcome)
        if outcome.done and not one.done:
            self._begin(place)
            return
        del self.open[place.sweep][one.number]
        self.results.spared += len(one.requests) - one.begun
        if outcome.done:
            self.results.judged.setdefault(place.sweep, {})[one.number] = one.value()
        if outcome.status not in ("not started", "interrupted"):  # else another command goes on with it
            one.tell("finished" if outcome.done else outcome.status)

    def ended_elsewhere(self, request: Request) -> bool:
        """Whether another process has told what became of a request's proposal, and it is no result for anybody else:
        a trial that was stopped or failed there would be trained again."""
        name, number = request.place.sweep, request.place.proposal
        told = None if number is None else self.studies[name].told(number)
        if not told or told.status == "finished":
            return False
        if one := self._proposal_of(request.place):  # else this process has told it
            del self.open[name][one.number]
            self._take(name, one.requests, told)
        return True

    def _take_unfinished(self, name: str) -> None:
        """What other processes proposed: they died, or train it now and are waited for."""
        for proposal in self.studies[name].unfinished():
            if (name, proposal.number) not in self.taken:
                self._add(name, proposal)

    def _take_ended(self, name: str) -> None:
        """Results of proposals that other processes, before or beside this one, have told the study."""
        for told in self.studies[name].history():
            if told.status != "running" and (name, told.proposal.number) not in self.taken:
                self._take(name, trainings(self.plan, name, told.proposal), told)

    def _take(self, name: str, requests: Sequence[Request], told: Told) -> None:
        self.taken.add((name, told.proposal.number))
        for request in requests:
            found, run = self.finished.get(request.identity), told.ran(request.place.split, request.place.seed)
            if found or run or not told.runs:  # else it has not begun
                outcome = Outcome.told(told, request, found, run)
                spec = self.plan.sweep(name).spec
                self.results.earlier.append(self.rejudged(outcome, spec) if found else outcome)
        if told.status == "finished":
            self.results.judged.setdefault(name, {})[told.proposal.number] = told.metrics

    def _add(self, name: str, proposal: Proposal) -> None:
        number, requests = proposal.number, trainings(self.plan, name, proposal)
        self.open[name][number] = OpenProposal(self.studies[name], number, requests)
        self.taken.add((name, number))
        self._begin(requests[0].place)

    def _begin(self, place: Place) -> None:
        """Begin what may begin of a proposal, as long as it is open: some of it may be cached, or fail at once."""
        while (one := self._proposal_of(place)) and (request := one.begin()):
            self.add(request)

    def _proposal_of(self, place: Place) -> OpenProposal | None:
        """The open proposal that a request is for."""
        return None if place.proposal is None else self.open.get(place.sweep, {}).get(place.proposal)

    def _confirm(self, name: str) -> None:
        """A search has ended: the rows that waited for it get the best settings that it found."""
        del self.open[name]
        self._take_ended(name)
        waiting = [(sweep, w) for sweep in self.plan.sweeps for w in sweep.waiting if w.search == name]
        found = self.studies[name].best(1 + max((w.rank for _, w in waiting), default=0))
        self.results.best[name] = [proposal.settings for proposal in found]
        for sweep, row in waiting:
            sweep.waiting.remove(row)
            if row.rank < len(found):
                for request in self.plan.add_requests(sweep, row.row, found[row.rank].settings, row.first):
                    self.add(request)
                continue
            distinct = f"only {len(found)} distinct settings finished" if found else "no trial finished"
            self.say(f"{row.row.name} of {sweep.name} is left out: {distinct} in the search")
