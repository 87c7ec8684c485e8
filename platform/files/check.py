"""What a file may not mean, though its shape is right: its kind, its base, and then what is a search's or a table's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from platform.files.check_rows import row_problems, row_trial_problems
from platform.files.check_search import search_problems, search_trial_problems
from platform.files.spec import ABLATION_KEYS, ROW_KEYS, SEARCH_KEYS, Spec
from trainables.reading.yaml_file import Problem, under
from trainables.settings.methods import METHODS
from trainables.settings.resolving import check_settings

# What a file says elsewhere, once for all its trials.
NOT_IN_BASE_OF_SEARCH = {
    "test": "has no place in a search file's base: `confirm` tests, the search never",
    "pseudo_unknown": "has no place in a search file's base: write it under `validation`",
}
NOT_IN_BASE_OF_ABLATION = {
    "test": "has no place in an ablation's base: its trials are tested",
    "pseudo_unknown": "has no place in an ablation's base: its trials know every known class",
    "split": "has no place in an ablation's base: write `splits: [0, 1, …]` beside it",
    "seed": "has no place in an ablation's base: write `seeds: [0, 1, …]` beside it",
}


def problems_of_kind(raw: Mapping[str, Any]) -> list[Problem]:
    """Whether a file is a search or an ablation, and not some of both."""
    search = [key for key in SEARCH_KEYS if key in raw]
    ablation = [key for key in ABLATION_KEYS if key in raw]
    if "search" in raw and ablation:
        has = " and ".join(f"`{key}`" for key in ablation)
        return [
            Problem((ablation[0],), f"a file is a search or an ablation, and this one has `search`: take {has} out")
        ]
    if any(key in raw for key in ROW_KEYS) and search:
        has = " and ".join(f"`{key}`" for key in search)
        of = next(f"`{key}`" for key in ROW_KEYS if key in raw)
        return [Problem((search[0],), f"a file is a search or an ablation, and this one has {of}: take {has} out")]
    if "search" not in raw and not any(key in raw for key in ROW_KEYS):
        return [
            Problem((), "has neither `search` (settings that Optuna chooses) nor `rows`, `grid` or `leave_one_out`")
        ]
    if "search" in raw and "trials" not in raw:
        return [Problem(("trials",), "is missing: how many settings the search tries")]
    return []


def problems_of_spec(spec: Spec) -> list[Problem]:
    """Every mistake; contradictions between settings are looked for once each of them is right by itself."""
    alone, together = (
        (row_problems, row_trial_problems) if spec.is_ablation else (search_problems, search_trial_problems)
    )
    base = list(base_problems(spec))
    if {problem.path for problem in base} & {("base", name) for name in ("method", "objective", "mix")}:
        return base  # which settings there are depends on them
    return [*base, *alone(spec)] or list(together(spec))


def base_problems(spec: Spec) -> Iterator[Problem]:
    """What is wrong with single settings of the base."""
    yield from under(("base",), check_settings(spec.base, spec.parts)[1])
    if not spec.is_ablation and not spec.base.keys() & {"method", "objective"}:
        yield Problem(("base",), f"method is missing; one of {', '.join(METHODS)}, or else an objective and a mix")
    for name, said in (NOT_IN_BASE_OF_ABLATION if spec.is_ablation else NOT_IN_BASE_OF_SEARCH).items():
        if name in spec.base:
            yield Problem(("base", name), said)
