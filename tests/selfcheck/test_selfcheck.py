"""The command for a machine that nobody has tried, as far as a machine without a GPU shows it."""

from __future__ import annotations

import pytest
import torch

from trainables.selfcheck.__main__ import main
from trainables.selfcheck.agreement import Draws, differences, steps_of
from trainables.selfcheck.sections import SECTIONS, apart
from trainables.selfcheck.subjects import cases, drawn, small
from trainables.selfcheck.told import Scope, row
from trainables.settings.methods import METHODS
from trainables.settings.mixes import MIXES
from trainables.settings.objectives import OBJECTIVES

CPU = torch.device("cpu")


def test_without_a_gpu_it_shows_what_a_cpu_can(capsys: pytest.CaptureFixture[str]) -> None:
    most = [name for name in SECTIONS if name not in ("agreement", "speed")]  # these take longer
    assert main(["--quick", "--device", "cpu", "--sections", *most]) == 0
    said = capsys.readouterr().out
    assert "| backmix | deterministic | 0 | 0 |" in said
    assert "FAILED" not in said
    assert said.count("### ") == len(most)


def test_on_a_gpu_a_section_runs_in_a_process_of_its_own() -> None:
    lines = [line.text for line in apart("machine", Scope(CPU, quick=True), seconds=60)]
    assert any(line.startswith("| torch |") for line in lines)
    assert not any("FAILED" in line for line in lines)


def test_every_method_objective_and_mix_is_tried() -> None:
    tried = cases(quick=False).values()
    assert {config.method for config in tried} >= METHODS.keys() - {"clip"}  # which trains nothing
    assert {config.objective for config in tried} == OBJECTIVES.keys() - {"clip"}
    assert {config.mix for config in tried} == MIXES.keys()


def test_two_ways_to_compute_the_same_step_agree_and_other_draws_do_not() -> None:
    config, data = small(method="cutmix", mix_probability=1.0, batch_size=8), drawn(24, 16)
    loss, gradient, exact = differences(config, data, CPU)
    assert loss < 1e-5
    assert gradient < 0.05
    assert exact < 1e-6
    with Draws() as draws:
        one = steps_of(config, data, CPU, torch.float64)
    with Draws([torch.zeros_like(kept) for kept in draws.kept]):
        other = steps_of(config, data, CPU, torch.float64)
    assert abs(one.losses[0] - other.losses[0]) > 1e-3


def test_draws_are_handed_out_in_their_order_and_not_to_who_draws_otherwise() -> None:
    with Draws() as draws:
        first, second = torch.rand(3), torch.zeros(2).bernoulli_(0.5)
    with Draws(draws.kept):
        torch.testing.assert_close(torch.rand(3), first, rtol=0, atol=0)
        torch.testing.assert_close(torch.ones(2).bernoulli_(0.5), second, rtol=0, atol=0)
    with Draws(draws.kept), pytest.raises(RuntimeError, match="the CPU drew other numbers"):
        torch.rand(4)


def test_a_section_that_fails_is_one_line_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(scope: object) -> object:
        yield row("a", "b")
        raise ValueError("no such kernel")

    monkeypatch.setitem(SECTIONS, "precision", (broken, "Precision", 1.0))
    assert main(["--device", "cpu", "--sections", "precision", "machine"]) == 1
    said = capsys.readouterr().out
    assert "**FAILED** ValueError: no such kernel" in said
    assert "| torch |" in said
    assert "**1 check FAILED**" in said
