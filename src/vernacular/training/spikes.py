"""Steps that leap out of the run: found by a running median, left out, and written down."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from vernacular.foundation.artifact import LOGS
from vernacular.foundation.errors import UserError, machine_errors
from vernacular.training.configuration import SpikeConfiguration
from vernacular.training.position import Position, StepResult

SPIKES = "spikes.jsonl"
_WATCHED = ("loss", "gradient_norm")


class SpikeRule:
    """Judges each step by those before it; with no configuration, no step is a spike.

    What it remembers stands in the position, so that a resumed run judges alike.

    Args:
        configuration: the rule.
        folder: the stage's folder, for logs/spikes.jsonl.
        writes: whether this process, among those that judge alike, writes it down.
    """

    def __init__(self, configuration: SpikeConfiguration | None, folder: Path, *, writes: bool = True) -> None:
        self.configuration = configuration
        self.path = folder / LOGS / SPIKES
        self._writes = writes

    @property
    def return_every(self) -> int | None:
        """Steps between the points that a spike returns to; None where it returns to none."""
        rule = self.configuration
        return rule.return_every if rule is not None and rule.rule == "rollback" else None

    def is_spike(self, position: Position, result: StepResult) -> bool:
        """Whether loss or gradient norm exceeds `factor` times its running median, or is no number at all."""
        rule = self.configuration
        if rule is None:
            return False
        for name in _WATCHED:
            value, recent = getattr(result, name), position.recent.get(name, [])
            if not math.isfinite(value):
                return True
            if len(recent) >= rule.after and value > rule.factor * median(recent):
                return True
        return False

    def remember(self, position: Position, result: StepResult) -> None:
        """Count a step in that was no spike."""
        if self.configuration is not None:
            for name in _WATCHED:
                recent = [*position.recent.get(name, []), getattr(result, name)]
                position.recent[name] = recent[-self.configuration.window :]

    def note(self, position: Position, result: StepResult) -> str:
        """Write a spike down; returns it in words. One too many stops the run."""
        assert self.configuration is not None
        position.spikes += 1
        entry: dict[str, Any] = {"step": position.step + 1, "batch": position.batch, "rule": self.configuration.rule}
        words = []
        for name in _WATCHED:
            value, recent = getattr(result, name), position.recent.get(name, [])
            usual = median(recent) if recent else None
            entry |= {name: value if math.isfinite(value) else str(value), f"median_{name}": usual}
            words.append(f"{name.replace('_', ' ')} {value:.4g}" + ("" if usual is None else f", median {usual:.4g}"))
        if self._writes:
            self._write(entry)
        if position.spikes > self.configuration.most:
            raise UserError(
                f"step {position.step + 1} is the spike number {position.spikes} of this run,"
                f" and {self.configuration.most} are allowed",
                where="spikes.most",
                fix=f"see {self.path}; lower optimiser.learning_rate, raise warmup_steps, or look at the data",
            )
        return f"spike at step {position.step + 1} ({'; '.join(words)}): {self.configuration.rule}"

    def _write(self, entry: dict[str, Any]) -> None:
        with machine_errors("writing the spikes", self.path):
            # A run that was killed and resumed meets the same spike again, on other ranks with other last digits.
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
            if entry["batch"] not in [json.loads(line)["batch"] for line in lines]:
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
