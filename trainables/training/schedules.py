"""What changes while a trial trains, by its recipe: learning rate and temperature, as functions of where it is."""

from __future__ import annotations

import math

from trainables.settings.config import TrialConfig


def rate_factor(config: TrialConfig, step: int, steps_per_epoch: int) -> float:
    """What the initial learning rate is multiplied by at `step`, counted from 0. In 0..1.

    Warm-up is linear and batch by batch, as in the asymmetric code's first epoch; it ends at the rate that the schedule
    has there. Everything else changes between epochs:
    cosine: f + (1 - f) (1 + cos(pi t / T)) / 2, with f = `lr_floor`, `restarts` times anew (Loshchilov and Hutter,
    2017), in equal parts of T epochs;
    multistep: `lr_factor` once for each of `milestones` that has passed.

    AGC's code (CosineAnnealingWarmupRestarts_New) warms up epoch by epoch, from the floor, and one epoch late: an epoch
    has the rate that is due to the one before it, in its warm-up of ten epochs and in the cosine that follows.
    """
    epoch = step // steps_per_epoch
    warmup_steps = config.warmup_epochs * steps_per_epoch
    warmup = min((step + 1) / warmup_steps, 1.0) if warmup_steps else 1.0
    if config.schedule == "cosine":
        period = config.epochs // (config.restarts + 1)
        wave = (1 + math.cos(math.pi * (epoch % period) / period)) / 2
        return warmup * (config.lr_floor + (1 - config.lr_floor) * wave)
    if config.schedule == "multistep":
        return warmup * config.lr_factor ** sum(epoch >= m for m in config.milestones)
    return warmup


def temperature(config: TrialConfig, epoch: int) -> float:
    """What cross-entropy divides logits by in `epoch`, counted from 0; 1 where there is no schedule.

    NegCos (ICLR 2026; amit31416/NegCosSch, temp_schedulers.py, shift 1), with T = `temperature_period`:
    tau- + (tau+ - tau-) (1 + cos(2 pi (t - T/2) / T)) / 2, from tau- up to tau+ and down again; the last T/2 epochs
    have tau+.
    """
    period = config.temperature_period
    if period is None:
        return 1.0
    low, high = config.temperature_low, config.temperature_high
    if epoch >= config.epochs - period / 2:
        return high
    return low + (high - low) * (1 + math.cos(2 * math.pi * (epoch - period / 2) / period)) / 2
