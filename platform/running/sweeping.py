"""The sweeps of one command: planned on the cluster that is there, shown, carried out, summed up."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from platform.command import DONE, INTERRUPTED, NOTHING_DONE, SOME_FAILED, store_of
from platform.files.search_file import SearchFile
from platform.planning.best import best_of
from platform.planning.blocks import add_all_seeds
from platform.planning.claims import Seconds, prospects
from platform.planning.plan import ImageSets, Plan, Sweep, make_plan
from platform.planning.results import Results
from platform.planning.search import Study
from platform.planning.starting import start
from platform.planning.work import Estimate, Work, work
from platform.running.budget import HoursLeft
from platform.running.cluster import Cluster, ClusterError, local_cluster
from platform.running.execute import Locations, execute
from platform.running.fitting import fit, refuse
from platform.running.interrupt import Interrupt
from platform.running.notice import notify
from platform.running.pace import Pace
from platform.terminal.prospects import plan_as_json, prospects_table
from platform.terminal.reading import ReadingBars
from platform.terminal.summary import summarise
from platform.terminal.tables import ending, sweep_table, work_table
from platform.tracking.address import check_writable, free_bytes
from platform.tracking.errors import TrackingError
from platform.tracking.index import FinishedTrial
from platform.tracking.reader import Reader
from platform.tracking.tracker import Tracker
from trainables.images.listing import DataError
from trainables.reading.addresses import showable
from trainables.reading.yaml_file import ConfigError, Problem
from trainables.storage.cache import cache_folder
from trainables.storage.folder import Folder

if TYPE_CHECKING:
    from platform.tracking.curves import Curves


@dataclass(frozen=True)
class Command:
    """What was typed, and where it is answered."""

    args: argparse.Namespace
    again: str  # the words to type for the same
    console: Console
    errors: Console

    @property
    def joined(self) -> bool:
        """Whether it runs on a cluster that is there, and not on this machine alone."""
        return bool(self.args.address or os.environ.get("RAY_ADDRESS"))

    def say(self, text: str) -> None:
        self.console.print(escape(text), style="yellow", soft_wrap=True)


def run(typed: Command, files: Sequence[SearchFile]) -> int:
    """Plan the `files` and carry them out as the options say; the exit code.

    Raises `ConfigError` for files and options that cannot be run together, or here.
    """
    args, console = typed.args, typed.console
    interrupt = Interrupt(typed.say)
    interrupt.listen()
    tracker: Tracker | None = None
    try:
        place = _locations(args)
        cluster = _join(args, files) if typed.joined else local_cluster()
        interrupt.listen()  # Ray has put its own handlers in place of ours
        sweeps = [fit(file, args.profile, args.set, cluster, console) for file in files]
        refuse(sweeps, cluster)
        hours = _hours(args.hours, sweeps)
        uri = store_of(args.tracking_uri)
        check_writable(uri)
        reader: Reader | None = None
        with console.status("opening MLflow …"):
            if args.dry_run:  # which writes nothing
                reader = Reader.open(uri)
            else:
                tracker = Tracker(uri, place.local / "outbox", typed.say)
        with ReadingBars(console) as reading:
            images = ImageSets(args.data_root, args.download, reading)
            past = tracker.sweeps if tracker else reader.finished_sweeps if reader else None
            best = partial(best_of, sweeps=past or (lambda name: []))
            plan = make_plan(sweeps, images, best)
        with console.status("looking for what is finished …"):
            there = tracker.finished() if tracker else reader.finished if reader else {}
            finished = {} if args.fresh else dict(there)
            add_all_seeds(plan, finished)
            for sweep in sweeps:
                sweep.start = start(plan, sweep, finished, _trials_of, best)
            todo = work(plan, finished, {} if args.fresh else _studies(plan, place.local / "studies"))
        guess = _show(typed, plan, todo, finished, cluster, hours)
        _warn_of_disk(guess, uri, typed.say)
        if tracker is None:
            return DONE
        pace = _pace(plan, guess, finished)
        budget = HoursLeft(hours, pace, of_devices=typed.joined) if hours else None
        return _carry_out(typed, plan, finished, tracker, place, interrupt, pace, budget)
    except (DataError, TrackingError, ClusterError) as error:
        typed.errors.print(escape(showable(error)), style="red")
        return NOTHING_DONE
    finally:
        if tracker:
            tracker.close()
        if typed.joined:
            from platform.running import connection

            connection.disconnect()


def _locations(args: argparse.Namespace) -> Locations:
    try:
        storage = Folder.at(args.storage or "results")
    except (ValueError, OSError) as error:
        raise ConfigError([Problem((), f"--storage: {error}")]) from error
    return Locations(args.data_root, storage, Path(storage.path) if storage.local else cache_folder() / "sweeps")


def _join(args: argparse.Namespace, files: Sequence[SearchFile]) -> Cluster:
    """The running cluster, which is sent what is of the user's own: parts of a trial, and protocols."""
    from platform.running import connection  # Ray's imports take seconds

    parts = {n for f in files for s in ("objective", "mix", "backbone") for n in f.named(s, args.set)}
    return connection.connect(args.address, parts, {n for f in files for n in f.named("protocol", args.set)})


def _trials_of(uri: str) -> Mapping[str, FinishedTrial]:
    """The finished trials of another store. Raises `TrackingError` where it is not there, or does not answer."""
    reader = Reader.open(uri)
    if reader is None:
        raise TrackingError(f"start_from: there is no store {showable(uri)}")
    return reader.finished


def _studies(plan: Plan, folder: Path) -> dict[str, Study]:
    """The searches that an earlier command began, by sweep."""
    found = {s.name: Study.there(s.spec, plan.identity(s.search), folder) for s in plan.sweeps if s.search}
    return {name: study for name, study in found.items() if study}


def _show(
    typed: Command,
    plan: Plan,
    todo: Work,
    finished: Mapping[str, FinishedTrial],
    cluster: Cluster,
    hours: float | None,
) -> Estimate | str:
    """Print the plan, and what it takes; where `auto` is asked for, as many trials share a GPU as fit by that."""
    console = typed.console
    needs: dict[str, str] = {}
    with console.status("estimating the memory …"):
        for sweep in plan.sweeps:
            gpus = sweep.spec.resources.gpus_per_worker
            if gpus == "auto" or (gpus and typed.args.dry_run and todo.train):
                from platform.planning.memory import pack  # which loads networks
                from platform.running import connection

                needs[sweep.name] = pack(sweep, plan.images, connection.gpu_memory())
    at_once = {sweep.name: cluster.at_once(sweep.spec.resources) for sweep in plan.sweeps}
    guess: Estimate | str = ""
    if todo.train:
        with console.status("estimating the time …"):
            from platform.planning.cost import estimate  # which trains

            here = not typed.joined  # another machine's speed is not this one's
            guess = estimate(plan, todo, finished.values(), min(at_once.values()), here=here)
    for sweep in plan.sweeps:
        console.print(sweep_table(sweep, plan.images, at_once[sweep.name], needs.get(sweep.name, "")))
    whose = "of all devices" if typed.joined else "of this machine"
    console.print(work_table(todo, guess, f"{hours:g} hours {whose}" if hours else ""))
    if typed.args.dry_run:
        _foresee(typed, plan, todo, guess, finished)
    return guess


def _foresee(
    typed: Command, plan: Plan, todo: Work, guess: Estimate | str, finished: Mapping[str, FinishedTrial]
) -> None:
    """What the plan can decide, before anything is trained."""
    from platform.planning.cost import seconds_of

    with typed.console.status("looking at earlier spreads …"):
        seconds = seconds_of(plan, guess, finished.values())
        found = {sweep.name: prospects(plan, sweep, finished, seconds) for sweep in plan.sweeps if sweep.spec.claims}
    if typed.args.format == "json":
        print(plan_as_json(plan, todo, guess, found))
    for sweep in plan.sweeps:
        if found.get(sweep.name):
            typed.console.print(prospects_table(sweep, found[sweep.name]))


def _warn_of_disk(guess: Estimate | str, uri: str, say: Callable[[str], None]) -> None:
    free = free_bytes(uri)
    if isinstance(guess, Estimate) and free is not None and free < guess.disk:
        needed = f"less than the {guess.disk / 1e6:,.1f} MB needed"
        say(f"The disk of {showable(uri)} has {free / 1e6:,.1f} MB left, {needed}")


def _hours(asked: float | None, sweeps: Sequence[Sweep]) -> float | None:
    """Those of the command, else the sum of the files'. Raises `ConfigError` where only some have any."""
    if asked is not None:
        if not asked > 0:  # nor is it above 0 where it is no number
            raise ConfigError([Problem((), f"--hours {asked:g}: write a number above 0, as --hours 8")])
        return asked
    own = [sweep.spec.budget.hours for sweep in sweeps if sweep.spec.budget]
    if 0 < len(own) < len(sweeps):
        raise ConfigError([Problem((), "only some of the files have a `budget`: write --hours for all together")])
    return sum(own) or None


def _pace(plan: Plan, guess: Estimate | str, finished: Mapping[str, FinishedTrial]) -> Pace:
    past = list(finished.values())

    @cache
    def known() -> Seconds:
        from platform.planning.cost import seconds_of  # which loads networks, where anything is to be trained

        return seconds_of(plan, guess, past)

    return Pace(lambda config: known()(config))


def _carry_out(
    typed: Command,
    plan: Plan,
    finished: Mapping[str, FinishedTrial],
    tracker: Tracker,
    place: Locations,
    interrupt: Interrupt,
    pace: Pace,
    budget: HoursLeft | None,
) -> int:
    """Train what is left to do, tell what came of it and what to type next; the exit code."""
    started = time.monotonic()
    listeners = [_curves(Path(typed.args.tensorboard))] if typed.args.tensorboard else []
    store = ["--tracking-uri", tracker.shown] if typed.args.tracking_uri else []

    def tell(results: Results) -> int:
        code = show(results)
        if typed.args.notify:
            notify(typed.args.notify, _told(plan, results, code, time.monotonic() - started, typed.again), typed.say)
        return code

    def show(results: Results) -> int:
        minutes = (time.monotonic() - started) / 60
        summarise(typed.console, plan, place.local / "studies", results, tracker, store, minutes)
        if reason := results.lost or results.problem:
            typed.errors.print(escape(showable(reason)), style="red", soft_wrap=True)
        failed = bool(results.count("failed", "left out"))
        if budget and (left := results.trials("not started")):
            console = typed.console
            console.print(f"{budget.hours:g} hours were too few for {left} trials. With more, the same goes on.")
        if not results.interrupted and (ended := results.trials("interrupted")):
            typed.console.print(f"{ended} trials were ended by `runs stop`: the same command goes on with them.")
        if results.interrupted or failed or results.undelivered:
            what = "This tries again what failed:" if failed else "This brings MLflow what it lacks:"
            what = "This goes on from here:" if results.interrupted else what
            typed.console.print(f"{what}\n  {escape(typed.again)}", soft_wrap=True)
        if results.interrupted and not reason:
            return INTERRUPTED
        return SOME_FAILED if reason or failed or results.undelivered else DONE

    def end(results: Results) -> None:
        """At once, without Ray's own end: it would wait for a cluster that is gone, and abort."""
        code = tell(results)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def worker() -> type[Any]:
        from trainables.worker import Worker

        return Worker

    results = execute(
        plan,
        finished,
        tracker,
        typed.console,
        interrupt,
        place,
        worker=worker,
        give_up=end,
        again=typed.again,
        pace=pace,
        budget=budget,
        listeners=listeners,
        fresh=typed.args.fresh,
        joined=typed.joined,
    )
    if results.lost:
        end(results)
    return tell(results)


def _curves(folder: Path) -> Curves:
    from platform.tracking.curves import Curves

    try:
        return Curves(folder)
    except OSError as error:
        raise ConfigError([Problem((), f"--tensorboard: {error}")]) from error


def _told(plan: Plan, results: Results, code: int, seconds: float, again: str) -> dict[str, Any]:
    """What `--notify` tells, for programs: how the sweeps of the command ended."""
    how = "failed in part" if results.count("failed", "left out") else "finished"
    how = "interrupted" if results.interrupted else how
    how = "lost its cluster" if results.lost else "ended by an error" if results.problem else how
    names = [sweep.name for sweep in plan.sweeps]
    return {
        "text": f"{', '.join(names)} {how}: {ending(results, seconds / 60)}",
        "status": how,
        "exit_code": code,
        "sweeps": names,
        "runs": results.runs,
        "trials": results.counts,
        "seconds": round(seconds, 1),
        "host": socket.gethostname(),
        "command": again,
    }
