"""What is said of a difference of two rows: its interval, of how many, over what, and whether n was fixed before."""

from __future__ import annotations

from platform.deciding.looks import FIRST
from platform.deciding.paired import Bounded, Paired
from platform.deciding.stopping import Decision


def signed(value: float, digits: int = 1) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # 0 has a plus


def say_hours(hours: float) -> str:
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"


def say_interval(found: Bounded, digits: int) -> str:
    if found.low is None or found.high is None:
        return signed(found.mean, digits)
    return f"{signed(found.mean, digits)} [{signed(found.low, digits)}, {signed(found.high, digits)}]"


def say_paired(found: Paired | None, digits: int) -> str:
    if found is None:
        return "not measured"
    ours = f"measured {say_interval(found, digits)}, n = {found.n} {found.unit}"
    return ours if found.low is None else f"{ours}, fixed, over {found.over}"


def say_decision(decision: Decision, digits: int) -> str:
    ending = f"decided after {decision.n} seeds" if decision.closed else f"open after {decision.n} seeds"
    if decision.interval is None:
        return f"{ending}, sequential, looked at from {FIRST} on" if decision.n else "not measured"
    return f"measured {say_interval(decision.interval, digits)}, {ending}, sequential, over seeds"


def say_closed(decision: Decision) -> str:
    return f"smaller than {decision.until.smallest:g}" if decision.outcome == "smaller" else decision.outcome
