"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from vernacular.training.configuration import OptimiserConfiguration


def learning_rate(configuration: OptimiserConfiguration, step: int, steps: int) -> float:
    """Rate of step `step` (0 is the first) of `steps`.

    Warm-up: `peak · (step + 1) / warmup`. After it, with progress p from 0 to 1 at the last step:
    cosine `final + (peak - final) · (1 + cos πp) / 2`, linear `peak + (final - peak) · p`, or constant.
    """
    peak, final, warmup = configuration.learning_rate, configuration.final_learning_rate, configuration.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if configuration.schedule == "constant":
        return peak
    progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    if configuration.schedule == "linear":
        return peak + (final - peak) * progress
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2
