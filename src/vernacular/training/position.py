"""Where a run stands: what must survive a kill beside the weights and the optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepResult:
    """One optimiser step over its global batch: means over its loss-bearing weight."""

    loss: float
    accuracy: float
    weight: float
    gradient_norm: float


@dataclass
class Window:
    """Sums over the steps since the last line of metrics."""

    loss: float = 0.0
    correct: float = 0.0
    weight: float = 0.0
    gradient_norm: float = 0.0
    steps: int = 0
    seconds: float = 0.0


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        threads: CPU threads; another number would add up in another order, so a resumed run keeps it.
        data: hash of the token shards the order is a function of.
        step: optimiser steps done.
        seconds: time in steps, over all the processes that took part.
        window: sums since the last line of metrics.
    """

    threads: int
    data: str
    step: int = 0
    seconds: float = 0.0
    window: Window = field(default_factory=Window)

    def add(self, result: StepResult, seconds: float) -> None:
        """Count a finished step in."""
        self.step += 1
        self.seconds += seconds
        self.window.loss += result.loss * result.weight
        self.window.correct += result.accuracy * result.weight
        self.window.weight += result.weight
        self.window.gradient_norm = result.gradient_norm
        self.window.steps += 1
        self.window.seconds += seconds
