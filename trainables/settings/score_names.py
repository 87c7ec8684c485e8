"""Names of the scores that any trial may have, and of the settings that they depend on. Those of an objective's own are
with its settings; the mathematics is in `trainables.scoring`."""

from __future__ import annotations

from typing import Literal, get_args

RecordedScore = Literal["msp", "mls", "energy", "feature_norm"]  # one forward pass gives them: every trial has them
RequestedScore = Literal["odin", "mahalanobis", "knn"]  # further passes
SCORE_NAMES: tuple[str, ...] = get_args(RecordedScore)
EXTRA_SCORES: tuple[str, ...] = get_args(RequestedScore)
SCORE_SETTINGS = {"odin": ("odin_temperature", "odin_epsilon"), "knn": ("knn_k",)}  # settings that a score depends on
SCORING = frozenset({"score", "extra_scores"}.union(*SCORE_SETTINGS.values()))  # all that tells how a trial is scored
NEIGHBOURS = 200  # of each sample: the most that `knn_k` counts
