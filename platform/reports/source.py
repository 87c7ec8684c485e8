"""From a file and a store to its table: which trials every cell stands for, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, cast

from platform.deciding.paired import Verdict, holm, size, verdict
from platform.deciding.stopping import Decision, decisions, seeds_of, wanted_seeds
from platform.files.rows import claimed_sign, columns, published_difference, row_list, trials
from platform.files.search_file import changing_trials
from platform.files.spec import Claim, Row, Spec
from platform.files.trial_settings import of_score, proposed
from platform.planning.best import best_settings
from platform.planning.captions import say_settings, tested_on, tested_on_all, trained_on, trained_on_all
from platform.reports.advice import advised
from platform.reports.table import Comparison, ReportCell, ReportTable, ReportTrial, State
from platform.tracking.evaluations import own_metrics
from platform.tracking.index import SweepRun
from platform.tracking.reader import Reader
from platform.tracking.trials import described
from trainables.protocols.protocols import partition
from trainables.reading.values import listed
from trainables.reading.yaml_file import ConfigError
from trainables.scoring.metric_names import MetricName, mean_of
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of

BestOf = Callable[[Path, str], Mapping[str, Any]]
RowTrials = tuple[Row, dict[str, list[ReportTrial]]]  # a row, with its trials by the column group that they serve
Metrics = Callable[[ReportTrial, str], float | None]  # a metric of a finished trial, None where there is none


@dataclass(frozen=True)
class TableSource:
    """What a table is made from. `score` and `metric` replace those of the file."""

    spec: Spec
    paper: Spec  # the file as it stands
    file: Path
    profile: str
    changed: tuple[str, ...]
    reduced: bool  # whether the profile trains other trials than the file as it stands
    reader: Reader | None
    best_of: BestOf
    score: str | None = None
    metric: str | None = None
    sensitivity: bool = False  # whether claims are made again without one split each

    def table(self, metrics: Metrics) -> ReportTable:
        """Read every cell; `metrics` gives those that the run of a trial has not recorded."""
        spec = self.spec
        rows = list(self._rows())
        decided = self._decisions(rows, metrics) if spec.until else []
        if spec.until:
            rows = list(_as_decided(spec, rows, decided))
        behind = [trial for _, groups in rows for trials_ in groups.values() for trial in trials_]
        configs = [trial.config for trial in behind]
        comparable = not self.reduced and not changing_trials(self.changed)
        counts = {key: count for key, (_, count) in self._images.items()}
        comparable = comparable and all(trained_on_all(c, counts) for c in configs)
        cells = tuple(tuple(self._cells(row, groups, comparable, metrics)) for row, groups in rows)
        by_name = {row.name: {cell.column: cell for cell in line} for (row, _), line in zip(rows, cells, strict=True)}
        own = self._own
        outcomes = {(id(one.claim), one.column): one for one in decided}
        compared = [
            self._compare(c, name, by_name, comparable, outcomes.get((id(c), name)))
            for c in spec.claims
            for name in c.columns
        ]
        if spec.search:
            compared = list(_from_the_first(spec, by_name))
        return ReportTable(
            spec,
            self.file,
            self.profile,
            self.changed,
            tuple(self._heading(name, metric) for name, (_, metric) in zip(spec.columns, columns(spec), strict=True)),
            cells,
            (*self._found(), *self._caption(behind, counts), *_given(rows)),
            tuple(self._advised(list(_with_holm(compared)), cells)),
            own.run_id if own else "",
            self.reader.link(own.run_id, own.experiment) if own and self.reader else "",
        )

    def _heading(self, name: str, metric: str) -> str:
        """A column's name, with what it does not say: on which data where they are not the paper's, and which metric or
        score is asked for instead of its own."""
        ours, theirs = (
            {**spec.base, **(spec.columns[name].set if name in spec.columns else {})}.get("protocol")
            for spec in (self.spec, self.paper)
        )
        if self.spec.columns[name].published_only:
            return name
        return (name if ours == theirs else f"{name}, on {ours}") + self._asked_instead(metric)

    def _asked_instead(self, metric: str) -> str:
        of = MetricName.parse(metric.replace("{score}", "msp"))
        if of.of_known or of.metric == "feature_cosine":
            return ""
        score = self.score if "{score}" in metric or not of.unknown_set else None  # else the column names its own
        said = f", as {self.metric}" if self.metric else ""
        return said + (f", by {score}" if score else "")

    @cached_property
    def _images(self) -> dict[str, tuple[str, int]]:
        """Of each image set, the fingerprint and the number of images that were trained on."""
        return self.reader.images(self.spec.name) if self.reader else {}

    @cached_property
    def _own(self) -> SweepRun | None:
        """The newest sweep of this file as it is chosen here."""
        wanted = (self.spec.name, self.profile, " ".join(self.changed))
        sweeps = self.reader.sweeps if self.reader else ()
        return next((s for s in sweeps if (s.experiment, s.profile, s.changed) == wanted), None)

    # Rows and their trials

    def _rows(self) -> Iterator[RowTrials]:
        """Each row, with its trials by the column group that they serve."""
        if self.spec.search:
            yield from self._confirmed()
            return
        spec = self.spec.model_copy(update={"seeds": seeds_of(self.spec)})  # until decided: all that there may be
        for row in row_list(spec):
            groups: dict[str, list[ReportTrial]] = {}
            if not row.published_only:
                try:
                    best = self.best_of(Path(row.best_of), self.profile) if row.best_of else None
                except ConfigError:  # that search has no result yet: nothing of the row is known
                    yield row, groups
                    continue
                for group, config in trials(spec, row, best):
                    groups.setdefault(group, []).append(self._trial(config))
            yield row, groups

    def _decisions(self, rows: Sequence[RowTrials], metrics: Metrics) -> list[Decision]:
        cells = {(row.name, cell.column): cell for row, of in rows for cell in self._cells(row, of, True, metrics)}
        return decisions(self.spec, lambda row, column: cells[row, column].percents)

    def _confirmed(self) -> Iterator[RowTrials]:
        """What a search retrained: its best settings, then its baselines."""
        best = (Row.model_construct(name=name, set=settings) for name, settings in self._best.items())
        for row in [*best, *self.spec.confirm.baselines] if self.spec.confirm else ():
            groups: dict[str, list[ReportTrial]] = {}
            for group, config in trials(self.spec, row):
                groups.setdefault(group, []).append(self._trial(config))
            yield row, groups

    @cached_property
    def _named(self) -> dict[str, Row]:
        return {row.name: row for row in row_list(self.spec)}

    @cached_property
    def _best(self) -> dict[str, dict[str, Any]]:
        """The best settings of a search by the row that confirms them, as the newest sweep of the profile has them."""
        own = self._own
        names = self.spec.confirm.names if self.spec.search and self.spec.confirm else ["best"]
        ranked = {name: best_settings(own, rank) if own else {} for rank, name in enumerate(names)}
        return {name: settings for name, settings in ranked.items() if settings} if self.spec.search else {}

    def _found(self) -> Iterator[str]:
        """A sentence for each of the best settings, with what the search judged them by."""
        for name, settings in self._best.items():
            found = [dict(self._judged_by_score(name))]
            if not of_score(self.spec):
                tried = [self._trial(config) for config in proposed(self.spec, settings)]
                found = [own_metrics(one.metrics, one.config) for one in tried]
            names = [o.metric for o in self.spec.objectives if all(o.metric in one for one in found)]
            values = ", ".join(f"{metric} {100 * fmean(one[metric] for one in found):.1f}" for metric in names)
            over = f", mean of {len(found)} trainings" if len(found) > 1 else ""
            rank = name.removeprefix("best")
            said = f" ({values} in the search{over})." if values else "."
            yield f"Best settings{rank}: {say_settings(settings)}{said}"
        own = self._own if self.spec.search else None
        if own and "optuna.version" in own.params:
            made = (own.params[f"optuna.{name}"] for name in ("version", "sampler", "pruner"))
            yield "Settings were proposed by Optuna {} with {} and {}.".format(*made)
        if own and (known := own.params.get("known_results", "0")) != "0":
            yield f"The search began with {known} results that were known, measured on such validation data."
        wanted = self.spec.confirm.names if self.spec.search and self.spec.confirm else []
        if self._best and (lacking := wanted[len(self._best) :]):
            said = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} left out"
            yield f"Only {len(self._best)} distinct settings finished in the search: {said}."
        if wanted and not self._best:
            yield "The search has found no best settings yet."

    def _judged_by_score(self, name: str) -> Iterator[tuple[str, float]]:
        """What a search over settings of the score judged its very best by: its sweep's run has it, no trial's."""
        own = self._own if of_score(self.spec) and name in ("best", "best 1") else None
        if own and self.reader:
            _, metrics, _ = self.reader.runs([own.run_id])[own.run_id]
            for objective in self.spec.objectives:
                if (value := metrics.get(f"search/best/{objective.metric}/mean")) is not None:
                    yield objective.metric, value

    def _trial(self, config: TrialConfig) -> ReportTrial:
        if self.score:
            config = replace(config, score=self.score)
        identity = self._identity(config)
        if self.reader is None or not identity:
            return ReportTrial(config, "", "missing")
        if finished := self.reader.finished.get(identity):
            where = (finished.run_id, finished.sweep, finished.git_sha, finished.git_dirty == "true")
            teacher = self.reader.finished.get(self._identity(config.teacher))
            return ReportTrial(
                config, identity, "finished", *where, finished.metrics, finished.tested, finished.device,
                finished.seconds, teacher.identity if teacher else "", teacher.seconds if teacher else 0.0,
                finished.scored_with,
            )  # fmt: skip
        begun = self.reader.running.get(identity) or self.reader.ended.get(identity)
        if begun is None or begun.ending == "superseded":
            return ReportTrial(config, identity, "missing")
        state: State = "interrupted" if self.reader.lost(begun) else cast(State, begun.ending)
        return ReportTrial(config, identity, state, begun.run_id, begun.sweep)

    def _identity(self, config: TrialConfig | None) -> str:
        """Empty where there is none, or nothing was ever trained on its images."""
        if config is None or any(name not in self._images for name in config.shaped_by):
            return ""
        return identity_of(config, {name: self._images[name][0] for name in config.shaped_by})

    def _cells(
        self, row: Row, groups: Mapping[str, list[ReportTrial]], comparable: bool, metrics: Metrics
    ) -> Iterator[ReportCell]:
        for name, (group, metric) in zip(self.spec.columns, columns(self.spec), strict=True):
            behind = groups.get(group, [])
            values = {}
            for trial in behind:
                value = self._value(trial, metric, metrics) if trial.state == "finished" else None
                if value is not None:
                    values[trial.key] = value
            lacks = f"the result of {row.best_of}" if row.best_of and not groups else ""
            published = row.published.get(name) if isinstance(row.published, Mapping) else None
            same = comparable and self.score is None and (self.metric is None or MetricName.parse(metric).of_known)
            same = same and all(tested_on_all(trial.tested, _tested_sets(trial, metric)) for trial in behind)
            yield ReportCell(row.name, name, published, tuple(behind), values, lacks, same)

    def _value(self, trial: ReportTrial, metric: str, metrics: Metrics) -> float | None:
        """A metric as the trial's settings mean it: those of all unknown sets by the mean over the trial's own, of
        their score where it names none; None where it is of a score with other settings."""
        name = MetricName.parse(metric.replace("{score}", trial.config.score))
        if self.metric and not (name.of_known or name.metric == "feature_cosine"):
            name = replace(name, metric=self.metric)
        names = name.meant(trial.config.evaluation_sets, trial.config.score)
        scored_with = {s: with_ for s, with_ in trial.scored_with.items() if any(one.score == s for one in names)}
        if any(with_ != trial.config.score_settings(score) for score, with_ in scored_with.items()):
            return None
        return mean_of(names, partial(metrics, trial))

    # What is said of it

    def _compare(
        self,
        claim: Claim,
        column: str,
        cells: Mapping[str, Mapping[str, ReportCell]],
        comparable: bool,
        decision: Decision | None,
    ) -> Comparison:
        one, other = cells[claim.row][column], cells[claim.over][column]
        published = published_difference(self._named, claim, column)
        found = None if self.spec.until else one.minus(other, self.spec.over)
        judged: Verdict | Literal["smaller", "not comparable"] = verdict(
            found, claimed_sign(self._named, claim, column)
        )
        if decision:
            judged = _judged(decision)
        theirs = comparable and one.comparable and other.comparable
        if judged in ("holds", "reversed", "undecided", "smaller") and not theirs:
            judged = "not comparable"
        made = Comparison(claim, column, published, found, judged, "", decision)
        return replace(made, size=size(made.interval, published)) if judged == "holds" else made

    def _advised(self, compared: Sequence[Comparison], cells: Sequence[Sequence[ReportCell]]) -> Iterator[Comparison]:
        by_place = {(cell.row, cell.column): cell for line in cells for cell in line}
        signs = [claimed_sign(self._named, c.claim, c.column) for c in compared if c.claim in self.spec.claims]
        return advised(self.spec, compared, by_place, signs if self.sensitivity else None)

    def _caption(self, behind: Sequence[ReportTrial], counts: Mapping[str, int]) -> Iterator[str]:
        configs = [trial.config for trial in behind]
        if configs:
            yield described(configs)
        yield "Measured mean ± standard deviation over splits × seeds, in percent."
        if self.spec.until:
            yield "Seeds were added until the claims were decided: a row has as many as its claims needed."
        yield from _on_partitions(configs)
        if self.score or self.metric:
            chosen = [f"score {self.score}"] if self.score else []
            chosen += [f"metric {self.metric}"] if self.metric else []
            yield f"Recomputed with {' and '.join(chosen)}: not what the paper shows, so not compared with it."
        if self.reduced:
            yield f"Profile {self.profile}: a reduced run, not the paper's protocol, not comparable with its table."
        if changed := changing_trials(self.changed):
            yield f"Changed by hand: {', '.join(changed)}: not the protocol of the file."
        yield from trained_on(configs, counts)
        finished = {trial.identity: trial for trial in behind if trial.state == "finished"}.values()
        yield from tested_on((trial.config, trial.tested) for trial in finished)
        yield from _made_by(finished)


def _made_by(finished: Iterable[ReportTrial]) -> Iterator[str]:
    """A sentence where code of several versions, or several kinds of device, are behind one table."""
    codes = {(trial.git_sha[:8], trial.git_dirty) for trial in finished if trial.git_sha}
    if len(codes) > 1:
        named = listed(sha + (" with changes" if dirty else "") for sha, dirty in sorted(codes))
        yield f"Its trials were trained by code of several versions: {named}."
    devices = sorted({trial.device for trial in finished if trial.device})
    if len(devices) > 1:
        yield f"Its trials were trained on {listed(devices)}."


def _given(rows: Sequence[tuple[Row, Mapping[str, Sequence[ReportTrial]]]]) -> Iterator[str]:
    """Which rows are of networks that others trained, beside those that are not."""
    for train, said in (("none", "Given, not trained here"), ("head", "Given, only the head trained here")):
        names = [row.name for row, groups in rows if any(t.config.train == train for of in groups.values() for t in of)]
        if names:
            yield f"{said}: {', '.join(names)}."


def _from_the_first(spec: Spec, cells: Mapping[str, Mapping[str, ReportCell]]) -> Iterator[Comparison]:
    """The first row of a search minus each of the others, which nobody has published."""
    first, *others = cells or [""]
    for row in others:
        claim = Claim.model_construct(row=first, over=row, columns=list(spec.columns))
        for column in spec.columns:
            found = cells[first][column].minus(cells[row][column], None)
            yield Comparison(claim, column, None, found, "not claimed", "")


def _as_decided(spec: Spec, rows: Iterable[RowTrials], decided: Sequence[Decision]) -> Iterator[RowTrials]:
    """The rows with as many seeds as their claims needed so far."""
    wanted, seeds = wanted_seeds(spec, decided), seeds_of(spec)
    for row, groups in rows:
        own = seeds[: wanted.get(row.name, len(spec.seeds))]
        yield row, {group: [t for t in of if t.config.seed in own] for group, of in groups.items()}


def _judged(decision: Decision) -> Verdict | Literal["smaller"]:
    if decision.outcome != "open":
        return decision.outcome
    return "undecided" if decision.interval else "no interval" if decision.n else "missing"


def _with_holm(compared: Sequence[Comparison]) -> Iterator[Comparison]:
    """What was looked at and may go on is among them, with nothing found so far."""
    family = [one for one in compared if one.tested]
    adjusted = dict(zip(map(id, family), holm([1.0 if one.p is None else one.p for one in family]), strict=True))
    return (replace(one, holm=adjusted.get(id(one))) for one in compared)


def _tested_sets(trial: ReportTrial, metric: str) -> tuple[str, ...]:
    """The evaluation sets that a metric is of."""
    name = MetricName.parse(metric)
    if name.unknown_set:
        return "known", name.unknown_set
    return ("known", *(() if name.of_known else trial.config.evaluation_sets))


def _on_partitions(configs: Sequence[TrialConfig]) -> Iterator[str]:
    for protocol, family in dict.fromkeys((c.protocol, c.split_family) for c in configs):
        splits = {c.split: c for c in configs if (c.protocol, c.split_family) == (protocol, family)}
        distinct = len({partition(protocol, family, split) for split in splits})
        if distinct < len(splits):
            yield (
                f"The {len(splits)} splits of {protocol} ({family}) are {distinct} distinct partitions of the classes: "
                "means keep all of them, paired differences average equal ones first."
            )
