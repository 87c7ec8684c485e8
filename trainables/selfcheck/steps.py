"""What a training step must not do, and what it may not change: no read-backs, precision, and going on."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from trainables.data.trial_data import TrialData
from trainables.scoring.evaluation import score_samples
from trainables.selfcheck.subjects import batches_of, cases, drawn, small, trainer_of
from trainables.selfcheck.told import Line, Scope, heading, reason, row
from trainables.settings.config import TrialConfig
from trainables.training.loop import Trainer

CPU = torch.device("cpu")
WARM = 6  # steps: both sides of a coin, mostly
PRECISIONS = {"fp32": ("fp32", False), "fp32, TF32 convolutions": ("fp32", True), "bf16": ("bf16", True)}


def read_backs(scope: Scope) -> Iterator[Line]:
    """No step waits for the device: torch raises where one would."""
    if not scope.on_gpu:
        yield Line("Whether a step waits for the device shows on a device alone.")
        return
    yield Line(f"{WARM} steps of each method, after as many to warm up, in which nothing may wait for the GPU.")
    yield from heading("method", "")
    data = drawn(16 * 2 * WARM, 32)
    for name, config in cases(scope.quick).items():
        trainer = None
        try:
            trainer = trainer_of(config, data, scope.device)
            torch.backends.cudnn.benchmark = False  # to try algorithms for each small shape takes the longest
            batches = batches_of(trainer)
            for ids in batches[:WARM]:
                trainer.step(ids)
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            for ids in batches[WARM:]:
                trainer.step(ids)
        except Exception as error:
            yield row(name, reason(error), failed=True)
        else:
            yield row(name, "none")
        finally:
            torch.cuda.set_sync_debug_mode("default")


def precision(scope: Scope) -> Iterator[Line]:
    """Training and scores in each precision, from the same weights and with the same draws."""
    steps, images = (10, 100) if scope.quick else (100, 2000)
    batch = 64 if scope.on_gpu else 16
    data, tested = drawn(15 * batch, 32), drawn(images, 32).outliers
    assert tested is not None
    tested = replace(tested, labels=tested.labels * 0 - 1)
    backbone = "wrn16-2" if scope.on_gpu else "wrn10-1"
    yield Line(f"BackMix, {backbone}, {steps} steps of {batch} images: the mean loss of a tenth of them, at both ends.")
    yield from heading("precision", "first loss", "last loss", "distinct MLS scores", "of images", "")
    distinct: dict[str, int] = {}
    for name, (kind, tf32) in PRECISIONS.items():
        if tf32 and kind == "fp32" and not scope.on_gpu:
            continue
        torch.backends.cudnn.allow_tf32 = tf32
        try:
            config = small(method="backmix", backbone=backbone, batch_size=batch, precision=kind, lr=0.05)
            trainer = trainer_of(config, data, scope.device)
            batches = [ids for _ in range(1 + steps // trainer.steps_per_epoch) for ids in batches_of(trainer)][:steps]
            losses = torch.stack([trainer.step(ids) for ids in batches]).cpu()
            table = score_samples(trainer.model, "test", {"drawn": tested}, scope.device, kind)
        except Exception as error:
            yield row(name, "", "", "", "", reason(error), failed=True)
            continue
        distinct[name] = table["mls"].nunique()
        tenth = steps // 10
        ends = [f"{losses[part].mean():.4f}" for part in (slice(None, tenth), slice(-tenth, None))]
        whole = distinct[name] >= 0.95 * distinct.get("fp32", 0) and bool(losses.isfinite().all())
        told = "" if whole else "scores that tie move every metric, as does a loss that is not finite"
        yield row(name, *ends, distinct[name], len(table), told, failed=not whole)


def going_on(scope: Scope) -> Iterator[Line]:
    """A checkpoint in the middle of an epoch goes on as if nothing had happened."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which no product of matrices is deterministic
    yield Line(
        "A checkpoint after 3 of 6 steps, loaded by a new trainer: the weights after the other 3 beside those of one "
        "that was not interrupted, and beside those of a second such run (what a device does not repeat itself)."
    )
    yield from heading("method", "algorithms", "largest difference", "of a second run", "")
    data = drawn(6 * 16, 32)
    chosen = ("plain", "backmix", "asymmetric")
    for deterministic in (True, False) if scope.on_gpu else (True,):
        named = "deterministic" if deterministic else "as a trial trains"
        for method in chosen if not scope.quick else chosen[:2]:
            try:
                with _deterministic(deterministic), warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    found = _interrupted(small(method=method), data, scope.device, benchmark=not deterministic)
            except Exception as error:
                yield row(method, named, "", "", reason(error), failed=True)
                continue
            without = sorted({str(w.message).split(" does not")[0] for w in said if "deterministic" in str(w.message)})
            note = f"no deterministic {', '.join(without)[:200]}" if without else ""
            # As a trial trains, what a device does not repeat cannot be asked of a checkpoint.
            good = found[0] == 0 or (not deterministic and found[0] <= 10 * max(found[1], 1e-7))
            yield row(method, named, *(f"{f:.1e}" if f else "0" for f in found), note, failed=not good)
    if scope.on_gpu:
        for one, other in ((scope.device, CPU), (CPU, scope.device)):
            try:
                _moved(small(method="backmix"), data, one, other)
            except Exception as error:
                yield row("backmix", f"from {one.type} to {other.type}", "", "", reason(error), failed=True)
            else:
                yield row("backmix", f"from {one.type} to {other.type}", "–", "–", "goes on")


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _interrupted(config: TrialConfig, data: TrialData, device: torch.device, benchmark: bool) -> tuple[float, float]:
    """The largest differences of weights: of a run that was interrupted, and of one more that was not."""
    whole, again = (_trained(_new(config, data, device, benchmark)) for _ in range(2))
    first = _new(config, data, device, benchmark)
    for _ in zip(range(3), first.steps(), strict=False):
        pass
    kept = io.BytesIO()
    torch.save(first.state(), kept)
    kept.seek(0)
    torch.manual_seed(99)  # what another trial does in between
    second = _new(config, data, device, benchmark)
    second.load_state(torch.load(kept, map_location="cpu", weights_only=True))
    return _apart(whole, _trained(second)), _apart(whole, again)


def _new(config: TrialConfig, data: TrialData, device: torch.device, benchmark: bool) -> Trainer:
    trainer = trainer_of(config, data, device)
    torch.backends.cudnn.benchmark = benchmark  # which may choose another algorithm each time
    return trainer


def _trained(trainer: Trainer) -> Trainer:
    trainer.epoch()
    return trainer


def _apart(one: Trainer, other: Trainer) -> float:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def _moved(config: TrialConfig, data: TrialData, one: torch.device, other: torch.device) -> None:
    """A trial goes on where another kind of device has left it. Raises what it raises."""
    first = trainer_of(config, data, one)
    for _ in zip(range(3), first.steps(), strict=False):
        pass
    kept = io.BytesIO()
    torch.save(first.state(), kept)
    kept.seek(0)
    second = trainer_of(config, data, other)
    second.load_state(torch.load(kept, map_location="cpu", weights_only=True))
    if second.under_way is None or second.under_way.steps != 3:
        raise RuntimeError("it does not go on within the epoch")
    second.epoch()
