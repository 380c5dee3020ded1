"""Where a run stands: what must survive a kill beside the weights and the optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StepResult:
    """One optimiser step over its global batch.

    Attributes:
        loss: mean of `-log p(target)` over the batch's loss-bearing weight.
        accuracy: share of that weight whose target was the most probable token.
        weight: the loss-bearing weight.
        squares: mean of logsumexp² of the scores, over the weight.
        balance: load-balance loss of the routers; 0 without experts.
        router_squares: mean of logsumexp² of the routers' scores; 0 without experts.
        gradient_norm: before clipping.
        learning_rate: of this step.
        is_spike: whether the weights were left as they were, by a spike rule.
        watched: what was looked at in this step alone, because it is to be logged.
    """

    loss: float
    accuracy: float
    weight: float
    squares: float
    balance: float
    router_squares: float
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    is_spike: bool = False
    watched: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Window:
    """Sums over the steps since the last line of metrics; of what is a level and no sum, the last step's."""

    loss: float = 0.0
    correct: float = 0.0
    weight: float = 0.0
    squares: float = 0.0
    balance: float = 0.0
    router_squares: float = 0.0
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    watched: dict[str, float] = field(default_factory=dict)
    taken: int = 0
    steps: int = 0
    seconds: float = 0.0

    def add(self, result: StepResult) -> None:
        """Count a step in whose update was taken."""
        self.loss += result.loss * result.weight
        self.correct += result.accuracy * result.weight
        self.weight += result.weight
        self.squares += result.squares * result.weight
        self.balance += result.balance
        self.router_squares += result.router_squares
        self.gradient_norm = result.gradient_norm
        self.learning_rate = result.learning_rate
        self.watched = dict(result.watched)
        self.taken += 1


@dataclass
class Forgetting:
    """What a stop rule remembers, in bits per byte of the language it watches.

    Attributes:
        start: before the first step.
        last: at the last measurement.
        above: measurements in a row that exceeded the bound.
        good_step: the last step whose measurement did not.
        good: what was measured there.
    """

    start: float
    last: float | None = None
    above: int = 0
    good_step: int | None = None
    good: float | None = None


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        threads: CPU threads; another number would add up in another order, so a resumed run keeps it.
        data: hash of the token shards the order is a function of.
        layout: how the run is spread over ranks; empty: it was written before there were any.
        step: optimiser steps done.
        batch: number of the next global batch; ahead of `step` by the batches that rollbacks went past.
        spikes: spikes met so far.
        recent: loss and gradient norm of the last steps, where a spike rule wants them.
        forgetting: what a stop rule remembers, where there is one.
        seconds: time in steps, over all the processes that took part.
        window: sums since the last line of metrics.
        best: the best value so far of the metric that `keep_best` names.
        best_step: when it was reached.
    """

    threads: int
    data: str
    layout: str = ""
    step: int = 0
    batch: int = 0
    spikes: int = 0
    recent: dict[str, list[float]] = field(default_factory=dict)
    forgetting: Forgetting | None = None
    seconds: float = 0.0
    window: Window = field(default_factory=Window)
    best: float | None = None
    best_step: int | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Position:
        """The position that `dataclasses.asdict` made into JSON values."""
        remembered = values.get("forgetting")
        forgetting = None if remembered is None else Forgetting(**remembered)
        return cls(**{**values, "window": Window(**values["window"]), "forgetting": forgetting})

    def add(self, result: StepResult, seconds: float) -> None:
        """Count a finished step in; a spike's figures are in no mean."""
        self.step += 1
        self.batch += 1
        self.seconds += seconds
        self.window.steps += 1
        self.window.seconds += seconds
        if not result.is_spike:
            self.window.add(result)
