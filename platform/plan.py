"""From a checked file to the trials that it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform.spec import Spec
from platform.trials import Planned
from trainables.config import TrialConfig
from trainables.data.sets import Progress
from trainables.data.trial_data import TrialData, build


@dataclass(frozen=True)
class Plan:
    """A profile of a search file, resolved against the images that are there."""

    spec: Spec
    profile: str
    changed: tuple[str, ...]  # what `--set` changed of it
    search: TrialConfig
    search_data: TrialData
    final: TrialConfig | None  # what `confirm` trains, before the best settings are known
    final_data: TrialData | None
    fingerprints: dict[str, str]  # of every set that some trial trains on
    teachers: tuple[Planned, ...]  # each once, whichever trials share it

    @property
    def confirmed_rows(self) -> int:
        confirm = self.spec.confirm
        return min(confirm.top, self.spec.trials) + len(confirm.baselines) if confirm else 0

    @property
    def confirm_trials(self) -> int:
        confirm = self.spec.confirm
        return self.confirmed_rows * len(confirm.splits) * len(confirm.seeds) if confirm else 0


def make_plan(
    spec: Spec,
    profile: str,
    data_root: Path,
    *,
    changed: Sequence[str] = (),
    download: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Resolve and open the images, test sets included, so that what is missing shows before Ray starts.

    Raises `DataError` where images are missing or broken.
    """

    def load(config: TrialConfig) -> TrialData:
        return build(config, data_root, download=download, progress=progress)

    search = TrialConfig.from_settings(spec.search_settings())
    search_data = load(search)
    final, final_data = None, None
    fingerprints = dict(search_data.fingerprints)
    trials = [search_trial(spec), *confirm_trials(spec, [{}] * spec.confirm.top if spec.confirm else [])]
    for planned in trials[1:]:
        config = TrialConfig.from_settings(planned.settings)
        if final is None or not set(config.training_sets) <= set(fingerprints):
            data = load(config)
            fingerprints |= data.fingerprints
            final, final_data = final or config, final_data or data
    teachers = tuple(_teachers(trials, fingerprints))
    return Plan(spec, profile, tuple(changed), search, search_data, final, final_data, fingerprints, teachers)


def _teachers(trials: Sequence[Planned], fingerprints: Mapping[str, str]) -> Iterator[Planned]:
    """Every teacher that some of `trials` needs, once."""
    seen = set()
    for planned in trials:
        teacher = TrialConfig.from_settings(planned.settings).teacher
        if teacher and (identity := teacher.identity(fingerprints)) not in seen:
            seen.add(identity)
            yield Planned("teacher", f"teacher {teacher.backbone}", teacher.settings())


def search_trial(spec: Spec) -> Planned:
    """The trial that Optuna's proposals are laid over."""
    return Planned("search", spec.name, spec.search_settings())


def confirm_trials(spec: Spec, best: Sequence[Mapping[str, Any]]) -> Iterator[Planned]:
    """Every confirmation: the best settings, then the baselines, × splits × seeds."""
    if spec.confirm is None:
        return
    names = ["best"] if len(best) == 1 else [f"best {i}" for i in range(1, len(best) + 1)]
    rows = [*zip(names, best, strict=True), *((row.name, row.set) for row in spec.confirm.baselines)]
    for name, changes in rows:
        for split in spec.confirm.splits:
            for seed in spec.confirm.seeds:
                yield Planned("confirm", name, {**spec.with_teacher(changes), "split": split, "seed": seed})
