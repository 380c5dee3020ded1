"""Metrics of a run: `logs/metrics.jsonl` and TensorBoard always, Weights & Biases by a setting.

The JSONL file is the record. After a kill it is cut back to the step that training resumes from, so that it reads
as if nothing had happened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vernacular.foundation.artifact import LOGS
from vernacular.foundation.errors import machine_errors, missing_extra
from vernacular.foundation.files import write_text
from vernacular.training.configuration import WandbConfiguration

METRICS = "metrics.jsonl"


class Metrics:
    """Writes one line of numbers per logged step, to every place at once."""

    def __init__(self, folder: Path, *, first_step: int, wandb: WandbConfiguration | None, name: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / LOGS / METRICS
        with machine_errors("writing metrics", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._cut(first_step or -1)  # A new run has no line, not even that of step 0.
            self._tensorboard = SummaryWriter(str(folder / LOGS / "tensorboard"), purge_step=first_step)
        self._wandb = _start_wandb(wandb, folder, name) if wandb else None

    def write(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Log `values` as those of `step`, a count of finished steps."""
        with machine_errors("writing metrics", self.path):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            for name, value in values.items():
                if value is not None:
                    self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log({name: value for name, value in values.items() if value is not None}, step=step)

    def close(self) -> None:
        """Flush everything to disk."""
        os.fsync(self._file.fileno())
        self._file.close()
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def cut_back(self, step: int) -> None:
        """Forget what was written of later steps: the run has gone back. TensorBoard and W&B keep both courses."""
        self._file.close()
        with machine_errors("writing metrics", self.path):
            self._cut(step)

    def _cut(self, first_step: int) -> None:
        lines = [line for line in read_metrics(self.path.parent.parent) if line["step"] <= first_step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training artifact's metrics; a line cut off by a kill is left out."""
    path = folder / LOGS / METRICS
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                lines.append(json.loads(line))
    return lines


def _start_wandb(configuration: WandbConfiguration, folder: Path, name: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise missing_extra("wandb", "wandb", "logging to Weights & Biases") from error
    return wandb.init(
        project=configuration.project,
        mode=configuration.mode,
        name=name,
        id=f"{name}-{folder.parent.name}",
        resume="allow",
        dir=str(folder / LOGS),
    )
