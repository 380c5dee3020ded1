"""The learning rate as a pure function of the step: linear warm-up, then one of the curves below.

Every curve gives the rate of a step from its number alone, so a run that was killed needs no schedule of its own, and a
plan can draw it. Step 0 is the first; the warm-up ends, and the curve begins, at step `warmup - 1`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from vernacular.foundation.errors import UserError
from vernacular.training.optimisation import OptimiserConfiguration, PowerConfiguration


class Course(NamedTuple):
    """How long a run is, and how much it sees at each step."""

    steps: int
    batch_rows: int = 1
    batch_tokens: int = 1


def learning_rate(configuration: OptimiserConfiguration, step: int, course: Course) -> float:
    """Rate of step `step`, before Bielik's adaptation.

    Warm-up rises from `warmup_from` to where the curve begins; after it the curve, times its final decay if it has one.
    """
    curve, warmup = CURVES[configuration.schedule], configuration.warmup_steps
    if step < warmup:
        start, top = configuration.warmup_from, curve(configuration, warmup - 1, course)
        return start + (top - start) * (step + 1) / warmup
    rate = curve(configuration, step, course)
    if configuration.decay is None:
        return rate
    last = course.steps - 1
    lowest = configuration.final_learning_rate / curve(configuration, last, course)
    first = last - max(1, round(configuration.decay.fraction * course.steps))
    progress = _progress(step, max(first, warmup - 1), last)
    return rate * DECAYS[configuration.decay.form](lowest, progress)


def require_fall(configuration: OptimiserConfiguration, course: Course) -> None:
    """Refuse a final decay that would rise. Raises `UserError`: the power law ends below the rate to fall to."""
    last = CURVES[configuration.schedule](configuration, course.steps - 1, course)
    if configuration.decay is not None and last < configuration.final_learning_rate:
        raise UserError(
            f"the schedule {configuration.schedule} is at {last:.3g} at its last step, which is below"
            f" final_learning_rate {configuration.final_learning_rate:g}: its decay would rise",
            where="optimiser.final_learning_rate",
            fix=f"lower it below {last:.3g}, or leave decay out",
        )


def adapted(rate: float, loss_tokens: int, batch_tokens: int) -> float:
    """`rate · √(loss-bearing tokens / nominal tokens)` (Bielik): batches of much prompt and little answer go slower."""
    return rate * math.sqrt(loss_tokens / batch_tokens)


def _cosine(configuration: OptimiserConfiguration, step: int, course: Course) -> float:
    """`final + (peak - final) · (1 + cos πp) / 2`, p running from 0 after the warm-up to 1 at the last step."""
    peak, final = configuration.learning_rate, configuration.final_learning_rate
    progress = _progress(step, configuration.warmup_steps, course.steps - 1)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def _linear(configuration: OptimiserConfiguration, step: int, course: Course) -> float:
    """`peak + (final - peak) · p`."""
    peak, final = configuration.learning_rate, configuration.final_learning_rate
    return peak + (final - peak) * _progress(step, configuration.warmup_steps, course.steps - 1)


def _constant(configuration: OptimiserConfiguration, step: int, course: Course) -> float:
    """The peak. With `decay` at its end: warm-up–stable–decay (MiniCPM, arXiv 2404.06395)."""
    return configuration.learning_rate


def _inverse_sqrt(configuration: OptimiserConfiguration, step: int, course: Course) -> float:
    """`peak · √(warmup / steps taken)` (arXiv 1706.03762)."""
    return configuration.learning_rate * math.sqrt(max(1, configuration.warmup_steps) / (step + 1))


def _power(configuration: OptimiserConfiguration, step: int, course: Course) -> float:
    """The power law of the tokens seen, this step's included."""
    tokens = (step + 1) * course.batch_tokens
    return min(configuration.learning_rate, power_rate(configuration.power, tokens, course.batch_rows))


def power_rate(power: PowerConfiguration, tokens: float, batch_rows: int) -> float:
    """`β · a · n^b`: the rate after n tokens in batches of β rows, where no cap holds it down."""
    return batch_rows * power.amplitude * tokens**power.exponent


def _progress(step: int, first: int, last: int) -> float:
    """0 up to `first`, 1 from `last` on."""
    return min(1.0, max(0, step - first) / max(1, last - first))


CURVES: Mapping[str, Callable[[OptimiserConfiguration, int, Course], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "inverse-sqrt": _inverse_sqrt,
    "warmup-stable-decay": _constant,
    "power": _power,
}

# The factor at progress p of the final decay, which ends at `lowest`.
DECAYS: Mapping[str, Callable[[float, float], float]] = {
    "linear": lambda lowest, p: 1 + (lowest - 1) * p,
    "1-sqrt": lambda lowest, p: 1 + (lowest - 1) * math.sqrt(p),
    "exponential": lambda lowest, p: lowest**p,
}
