"""Which trial is next: a table block by block, teachers before students, nothing twice, and what searches propose.

A block is one split and one seed, on every row. So what is there of a table after a third of its time is all rows on
fewer blocks, paired throughout, never fewer rows.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from platform.files.spec import Resources
from platform.files.trial_settings import of_score
from platform.planning.blocks import add_seeds, block_of
from platform.planning.plan import Plan, Request
from platform.planning.results import Outcome, Results
from platform.planning.search import Study
from platform.running.budget import HoursLeft
from platform.running.job import Job, Registry
from platform.running.proposals import Rejudged
from platform.running.searches import Searches
from platform.tracking.claims import Elsewhere, Finished
from platform.tracking.evaluations import evaluated_too, just_finished, lacks, merged
from platform.tracking.index import FinishedTrial
from platform.tracking.trials import Place, TrialState
from trainables.settings.config import TrialConfig

ATTEMPTS = 3  # of a trial whose failure another attempt may cure
ASK_AGAIN = 5.0  # seconds until one asks what became of a trial that another process trains


@dataclass
class Queue:
    """All that is still to be done, handed out in an order in which it can be done."""

    plan: Plan
    store: Registry
    results: Results
    studies: Mapping[str, Study]  # of each sweep that searches
    at_once: Callable[[Resources], int]  # how many trials fit together
    say: Callable[[str], None]
    budget: HoursLeft | None = None
    interrupted: Callable[[], bool] = lambda: False  # whether nothing more is to be proposed
    finished: dict[str, FinishedTrial] = field(default_factory=dict)  # before or by now
    open: dict[str, Job] = field(default_factory=dict)  # not ended: each in one of the next four
    ready: list[Job] = field(default_factory=list)  # the next one first
    running: dict[str, Job] = field(default_factory=dict)
    elsewhere: dict[str, Job] = field(default_factory=dict)
    students: dict[str, list[Job]] = field(default_factory=dict)  # by the identity of the teacher they wait for
    failed: dict[str, TrialState] = field(default_factory=dict)
    taught: set[str] = field(default_factory=set)  # teachers whose weights are where students look
    news: set[str] = field(default_factory=set)  # sweeps that run until decided, with results not looked at
    shares: dict[str, Resources] = field(default_factory=dict)  # of sweeps with a trial that found no memory on its GPU

    def __post_init__(self) -> None:
        rejudged = Rejudged(self.store.fetch_scores)
        self.searches = Searches(self.plan, self.studies, self.results, self.finished, rejudged, self._add, self.say)

    def fill(self) -> None:
        """Take in every request of the plan, and what earlier processes proposed without seeing its end."""
        for request in sorted(self.plan.requests, key=self._block):
            self._add(request)
        self.searches.fill()
        self._go_on()

    def next(self) -> Job | None:
        """A trial to start now; None where none can be started yet, or ever: then the queue is `done`."""
        self._ask_again()
        self._go_on()
        while job := self._first_ready() or self._propose():
            fits = job.claimed or not self.budget or self.budget.fits(job, self)
            if fits is None:
                self._queue(job)
                return None
            if not fits:
                self._leave(job)
            elif job.claimed or self._claim(job):
                self.running[job.identity] = job
                return job
        return None

    def has_work(self) -> bool:
        """Whether a worker is needed. What needs none, a search that is known throughout, is settled now."""
        job = self.next()
        if job:
            del self.running[job.identity]
            job.claimed = True
            self.ready.insert(0, job)
        return not self.done

    @property
    def expected(self) -> int:
        """How many trials are to come, as far as one can tell: rows that wait for a search may find theirs cached."""
        return len(self.open) + sum(times for *_, times in self.to_come())

    def to_come(self) -> Iterator[tuple[Resources, TrialConfig, int]]:
        """Trials that are not in the queue yet, each with how often it comes."""
        for sweep in self.plan.sweeps:
            configs = [(config, 1) for w in sweep.waiting for config in self.plan.configs(sweep, w.row)]
            for config, times in [*configs, *self.searches.to_come(sweep)]:
                yield self.needs(sweep.name), config, times

    @property
    def done(self) -> bool:
        return not self.open and not self.searches.open and not self.news

    def stops(self, job: Job) -> bool:
        """After an epoch: whether early stopping ends the trial here."""
        if not job.stoppable or job.identity in self.students:
            return False
        return self.searches.stops(job.trial, job.requests)

    def tries_again(self, job: Job) -> bool:
        """Whether a running trial that has failed gets another attempt. If so it is ready for that now."""
        trial = job.trial
        crowded = 0 < job.resources.gpus < 1 and "out of memory" in trial.error
        job.crowded += crowded
        attempts = ATTEMPTS + job.crowded  # until it has a GPU of its own
        if trial.status != "failed" or not job.curable or trial.attempt >= attempts:
            return False
        del self.running[trial.identity]
        if crowded:
            self._have_fewer_beside(job)
        more = f", with {job.resources.gpus:g} of a GPU" if crowded else ""
        self.say(f"{trial.name}: {trial.reason}; attempt {trial.attempt + 1} of {attempts} follows{more}")
        trial.attempt, trial.status, job.claimed = trial.attempt + 1, "running", True
        self._queue(job)
        return True

    def _have_fewer_beside(self, job: Job) -> None:
        """Too many share its GPU: it gets twice its share, as do those of its sweep that do not run yet."""
        sweep, needs = job.trial.place.sweep, job.resources.sharing(min(1.0, 2 * job.resources.gpus))
        if needs.gpus > self.needs(sweep).gpus:
            self.shares[sweep] = needs
        for other in self.open.values():
            waits = other.trial.place.sweep == sweep and other.identity not in self.running
            if waits and other.resources.gpus < needs.gpus:
                other.resources = needs

    def needs(self, sweep: str) -> Resources:
        """What a trial of a sweep asks for."""
        return self.shares.get(sweep) or self.plan.sweep(sweep).spec.resources

    def ended(self, job: Job) -> None:
        """A running trial has ended, as its `status` says."""
        trial = job.trial
        del self.running[trial.identity]
        if trial.status == "finished":
            self.finished[trial.identity] = just_finished(trial)
        elif trial.status == "failed":
            self.failed[trial.identity] = trial
        self._close(job, lambda request: Outcome.of(trial, request))

    def interrupt(self) -> list[TrialState]:
        """Nothing more is started. What runs is `interrupted`: another process goes on with it."""
        begun = [*self.running.values(), *(job for job in self.ready if job.trial.attempt > 1)]
        self.ready = [job for job in self.ready if job.trial.attempt == 1]
        for job in begun:
            job.trial.status = "interrupted"
            for request in job.requests:
                self.results.add(Outcome.of(job.trial, request))
        self.running.clear()
        return [job.trial for job in begun]

    # What is wanted

    def lacks(self, finished: FinishedTrial, request: Request) -> bool:
        """Whether a finished trial has to be evaluated for a request."""
        return lacks(finished, request.config, self.plan.images.tested(request.config))

    def _wants(self, finished: FinishedTrial, request: Request) -> bool:
        """The same, or for what its search is judged by."""
        return self.lacks(finished, request) or self.searches.lacks(finished, request)

    def _add(self, request: Request) -> None:
        """Find a request's result, or the trial that will have it."""
        identity = request.identity
        if job := self.open.get(identity):
            job.requests.append(request)
            if identity not in self.running:
                job.trial.config = merged(job.trial.config, request.config)
        elif identity in self.failed:
            self._settle(Outcome.of(self.failed[identity], request))
        elif (finished := self.finished.get(identity)) and not self._wants(finished, request):
            self._settle(Outcome.cached(finished, request))
        else:
            self._open(request, finished)

    def _open(self, request: Request, finished: FinishedTrial | None) -> None:
        place, config = request.place, request.config
        trial = TrialState(place, config, request.identity)
        block = self._block(request)
        job = Job(trial, self.needs(place.sweep), [request], config.teacher, block)
        self.open[request.identity] = job
        if finished and self.store.fetch_weights(finished):
            trial.evaluates_only, trial.run_id, job.claimed = True, finished.run_id, True
            trial.config = evaluated_too(config, finished.metrics)
        elif finished:
            self.say(f"{trial.name} is trained again: the weights of its run {finished.run_id} are out of reach")
        teacher = self._untaught(job)
        if teacher is None:
            self._queue(job)
            return
        if teacher in self.failed:
            self._leave_out(job, teacher)
            return
        self.students.setdefault(teacher, []).append(job)
        assert job.teacher is not None
        if teacher not in self.open:
            called = f"teacher {job.teacher.backbone}"
            place = Place(place.sweep, "teacher", called, len(self.students), trainings=place.trainings)
            self._open(Request(place, job.teacher, teacher), None)

    def _untaught(self, job: Job) -> str | None:
        """The identity of a job's teacher where its weights are not there yet."""
        if job.teacher is None or job.trial.evaluates_only:
            return None
        identity = self.plan.identity(job.teacher)
        if (
            identity not in self.taught
            and identity in self.finished
            and self.store.fetch_weights(self.finished[identity])
        ):
            self.taught.add(identity)
        return None if identity in self.taught else identity

    def _queue(self, job: Job) -> None:
        insort(self.ready, job, key=lambda ready: (ready.block, ready.trial.place.phase != "teacher"))

    def _block(self, request: Request) -> int:
        return block_of(self.plan.sweep(request.place.sweep), request)

    def _go_on(self) -> None:
        """Until its claims are decided, a table gets one seed more with each that has ended."""
        while self.news:
            sweep = self.plan.sweep(self.news.pop())
            for request in add_seeds(self.plan, sweep, self.finished):
                self._add(request)

    def _first_ready(self) -> Job | None:
        """The first ready job that may start: one on several workers only when they all fit."""
        for position, job in enumerate(self.ready):
            several = job.resources.workers > 1
            if several and sum(j.resources.workers > 1 for j in self.running.values()) >= self.at_once(job.resources):
                continue
            del self.ready[position]
            return job
        return None

    # Searches

    def _propose(self) -> Job | None:
        while not self.ready:
            if self.interrupted() or not (self.searches.propose(self._may_ask) or self.ready):
                return None
        return self._first_ready()

    def _may_ask(self, name: str) -> bool:
        """Not while a proposal waits for the teacher: the next ones shall know what came of it, and a teacher that has
        failed fails them all; nor beyond the budget, of which its confirmation is a part."""
        if of_score(self.plan.sweep(name).spec):  # one after another, once its trainings are there
            return not self.searches.open[name]
        if self.budget and not self.budget.fits_proposal(name, self):
            return False
        teachers = self.searches.teachers[name]
        return not (teachers & self.failed.keys() or (teachers & self.students.keys() and self.searches.open[name]))

    # Other processes

    def _claim(self, job: Job) -> bool:
        """True: the trial is ours to train."""
        if self._ended_elsewhere(job):
            return False
        claim = self.store.claim(job.trial)
        if isinstance(claim, Finished) and self._out_of_reach(job, claim.trial):
            claim = self.store.claim(job.trial, fresh=True)
        if isinstance(claim, Finished):
            self.finished[job.identity] = claim.trial
            self._close(job, lambda request: Outcome.cached(claim.trial, request))
            return False
        if isinstance(claim, Elsewhere):
            if job.identity not in self.elsewhere:
                self.say(f"{job.trial.name} is being trained by {claim.who}: waiting for its result")
            job.asked = time.monotonic()
            self.elsewhere[job.identity] = job
            return False
        return True

    def _out_of_reach(self, job: Job, finished: FinishedTrial) -> bool:
        """Whether a finished trial has to be evaluated or to teach, and its weights are gone: it would be finished for
        ever."""
        wanted = job.identity in self.students or any(self._wants(finished, request) for request in job.requests)
        return wanted and not self.store.fetch_weights(finished)

    def _ended_elsewhere(self, job: Job) -> bool:
        """Whether processes that share the searches have told how all that a job is wanted for has ended."""
        for request in list(job.requests):
            if self.searches.ended_elsewhere(request):
                job.requests.remove(request)
        if job.requests or job.identity in self.students:
            return False
        del self.open[job.identity]
        self.elsewhere.pop(job.identity, None)
        return True

    def _ask_again(self) -> None:
        """Trials that another process had: by now they may be finished, or ours."""
        for job in list(self.elsewhere.values()):
            if time.monotonic() - job.asked > ASK_AGAIN and self._claim(job):
                del self.elsewhere[job.identity]
                job.claimed = True
                self._queue(job)

    # Results

    def _close(self, job: Job, outcome: Callable[[Request], Outcome]) -> None:
        """Give every request of a job its result, and its students their teacher."""
        identity = job.identity
        del self.open[identity]
        self.elsewhere.pop(identity, None)
        for request in job.requests:
            finished, came = self.finished.get(identity), outcome(request)
            wants = self.lacks if job.trial.evaluates_only else self._wants
            if finished and came.done and wants(finished, request):
                self._add(request)  # wanted while it was trained, or trained elsewhere: it is evaluated once more
            else:
                self._settle(came)
        for student in self.students.pop(identity, []):
            if self._untaught(student) is None:
                self._queue(student)
            elif identity in self.failed:
                self._leave_out(student, identity)
            else:
                self._leave(student)

    def _leave_out(self, student: Job, teacher: str) -> None:
        trial = student.trial
        trial.status, trial.error = "failed", f"its teacher ({teacher}) failed"
        self.failed[trial.identity] = trial
        self._close(student, lambda request: Outcome.of(trial, request, "left out"))

    def _leave(self, job: Job) -> None:
        """There is no time for it in this command's budget."""
        self._close(job, lambda request: Outcome.of(job.trial, request, "not started"))

    def _settle(self, outcome: Outcome) -> None:
        outcome = self.searches.judged(outcome)
        self.results.add(outcome)
        if self.plan.sweep(outcome.place.sweep).spec.until:
            self.news.add(outcome.place.sweep)
        self.searches.settle(outcome)
