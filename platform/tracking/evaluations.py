"""What a finished trial was evaluated on: what it lacks for somebody, and its metrics as they mean them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args

from platform.tracking.index import FinishedTrial
from platform.tracking.trials import TrialState
from trainables.images.listing import Content
from trainables.scoring.metric_names import MEANT_BY_ASKER, PSEUDO_UNKNOWN, MetricName, mean_of
from trainables.settings.config import TrialConfig
from trainables.settings.score_names import SCORE_SETTINGS, RequestedScore

_ASKERS = {str(name): name for part in ("val", "test") for name in (MetricName(part, m) for m in MEANT_BY_ASKER)}


def just_finished(trial: TrialState) -> FinishedTrial:
    """A trial that finished just now, as it will be found."""
    details = json.dumps({"params": {}, "metrics": trial.metrics, **saw(trial)})
    where = (trial.identity, trial.run_id, trial.place.sweep, trial.place.row, trial.place.phase)
    return FinishedTrial(*where, "", "", time.time(), 0.0, trial.device, details)


def saw(trial: TrialState) -> dict[str, Any]:
    """What the evaluation of a finished trial saw, as its run keeps it: the images, and by its name each score that
    depends on settings, with these."""
    config = trial.config
    asked = SCORE_SETTINGS.keys() & {*config.scores_on_request(last=True)}
    return {"tested": trial.tested} | {score: config.score_settings(score) for score in asked}


def lacks(finished: FinishedTrial, config: TrialConfig, tested: Mapping[str, Content]) -> bool:
    """Whether a finished trial has to be evaluated for `config`: not yet on all of its sets, or by all of its scores,
    or on other images than those that are to be `tested`, or by a score with other settings.

    What a run does not say, since it is older than that record, is taken to be as it is here.
    """
    parts = [("test", config.evaluation_sets)] if config.test else []
    parts += [("val", (PSEUDO_UNKNOWN,))] if config.holdout and config.pseudo_unknown else []
    scores = {config.score, *config.scores_on_request(last=True)}
    names = (str(n) for part, sets in parts for s in scores for n in MetricName(part, "auroc").meant(sets, s))
    closed = ["test/auc"] if config.test and not config.evaluation_sets else []
    if any(name not in finished.metrics for name in (*names, *closed)):
        return True
    if scored_otherwise(finished, config, scores):
        return True
    return any(finished.tested.get(name, here).fingerprint != here.fingerprint for name, here in tested.items())


def scored_otherwise(finished: FinishedTrial, config: TrialConfig, scores: Iterable[str]) -> bool:
    """Whether one of these scores had other settings than `config` has."""
    return any(finished.scored_with.get(s, here) != here for s in scores for here in [config.score_settings(s)])


def own_metrics(metrics: Mapping[str, float], config: TrialConfig) -> dict[str, float]:
    """`metrics` with what `config` means by the short names (`val/auroc`, `test/oscr`, …): its score, the mean over its
    unknown sets. A short name that is there already is somebody else's: it stays only if `config` means the same."""
    own = shared_metrics(metrics)
    for short, name in _ASKERS.items():
        if (mean := mean_of(_meant(name, config), metrics.get)) is not None:
            own[short] = mean
    return own


def shared_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that mean the same whoever asks, which is what the run of a trial records. It may serve sweeps with other
    scores and sets, so `test/auroc` is nothing of its own: each sweep makes it of `test/<set>/<score>/auroc`."""
    return {name: value for name, value in metrics.items() if name not in _ASKERS}


def full_names(metric: str, config: TrialConfig) -> list[str]:
    """What the run of a trial calls a metric that `config` names shortly; of several unknown sets one each."""
    return [str(name) for name in _meant(_ASKERS[metric], config)] if metric in _ASKERS else [metric]


def _meant(name: MetricName, config: TrialConfig) -> list[MetricName]:
    tested = config.evaluation_sets if config.test else ()
    return name.meant(tested if name.part == "test" else (PSEUDO_UNKNOWN,), config.score)


def merged(config: TrialConfig, other: TrialConfig) -> TrialConfig:
    """The same training, evaluated on the sets and by the scores of both."""
    if config == other:
        return config
    sets = tuple(dict.fromkeys((*config.evaluation_sets, *other.evaluation_sets)))
    asked = (*config.scores_on_request(last=True), *other.scores_on_request(last=True))
    scores = tuple(s for s in get_args(RequestedScore) if s in asked and s != config.score)
    return replace(config, evaluate=sets, extra_scores=scores or None, test=config.test or other.test)


def evaluated_too(config: TrialConfig, metrics: Mapping[str, float]) -> TrialConfig:
    """`config` with every set and score that a finished trial was evaluated on: its scores are written anew."""
    found = [MetricName.parse(name) for name in metrics if name.endswith("/auroc")]
    sets = tuple(dict.fromkeys(name.unknown_set for name in found if name.part == "test" and name.score))
    scores = tuple(s for s in get_args(RequestedScore) if any(name.score == s for name in found))
    others = replace(config, evaluate=sets or config.evaluate, extra_scores=scores or None, test=bool(sets))
    return merged(config, others)
