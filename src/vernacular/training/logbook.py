"""What a run says as it goes: a bar, lines of metrics, a trace. On the first rank; on the others it says nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from vernacular.foundation.progress import progress
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.metrics import Metrics
from vernacular.training.watch import Profiler


class Logbook:
    """The bar, the metrics and the trace of a run.

    Args:
        folder: the stage's folder.
        configuration: where metrics go, which steps are traced.
        name: the stage's name.
        first_step: steps done before.
        steps: steps in all.
        device: whose operations a trace holds.
        writes: whether this is the rank that says anything.
    """

    def __init__(
        self,
        folder: Path,
        configuration: TrainingConfiguration,
        *,
        name: str,
        first_step: int,
        steps: int,
        device: torch.device,
        writes: bool,
    ) -> None:
        self._metrics = Metrics(folder, first_step=first_step, wandb=configuration.wandb, name=name) if writes else None
        self._profiler = Profiler(configuration.profile if writes else None, folder, device)
        self._bar = progress(doing=f"training {name}", total=steps, unit="steps", initial=first_step, hidden=not writes)
        self._writes = writes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._profiler.close()
        if self._metrics is not None:
            self._metrics.close()

    def profiled(self, step: int) -> AbstractContextManager[None]:
        """Around a step, counted from 1: traced if it is among the named ones."""
        return self._profiler.around(step)

    def count_step(self) -> None:
        """A step is done."""
        self._bar.update(1)

    def write(self, step: int, line: Mapping[str, float | None]) -> None:
        """Write a line of metrics; `step` counts finished steps."""
        if self._metrics is not None:
            self._metrics.write(step, line)
        if (loss := line.get("loss")) is not None:  # before the first step held-out text alone is scored
            self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)

    def say(self, sentence: str) -> None:
        """Say something above the bar."""
        if self._writes:
            self._bar.write(sentence, file=sys.stderr)

    def go_back(self, step: int) -> None:
        """Forget what came after a step."""
        if self._metrics is not None:
            self._metrics.cut_back(step)
        self._bar.update(step - self._bar.n)
