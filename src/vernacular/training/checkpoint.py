"""Checkpoints: everything a run needs to go on as if it had never stopped, written whole or not at all.

A checkpoint is a torch distributed checkpoint of the model and the optimiser, plus `position.json`: the step and the
settings that must not differ on resuming. It is written beside its final name and renamed, so a kill leaves the one
before it.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed import checkpoint as distributed_checkpoint
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from vernacular.foundation.artifact import CHECKPOINTS
from vernacular.foundation.errors import MachineError, UserError, machine_errors
from vernacular.foundation.files import fsync_path, read_json, write_json
from vernacular.training.position import Position

_POSITION = "position.json"


class Checkpoints:
    """The checkpoints of one stage, in `FOLDER/checkpoints/step-00000200/`.

    Args:
        folder: the stage's folder.
        keep: how many of the latest stay.
        return_every: the latest at a multiple of this stays too: the point that a spike returns to.
    """

    def __init__(self, folder: Path, keep: int, return_every: int | None = None) -> None:
        self.folder = folder / CHECKPOINTS
        self.keep = keep
        self.return_every = return_every

    def latest(self) -> Path | None:
        """The newest whole checkpoint, if there is one."""
        whole = sorted(path for path in self.folder.glob("step-*") if (path / _POSITION).is_file())
        return whole[-1] if whole else None

    def position(self) -> Position | None:
        """The position of the newest whole checkpoint."""
        latest = self.latest()
        if latest is None:
            return None
        return Position.from_json(read_json(latest / _POSITION))

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, position: Position) -> None:
        """Write a checkpoint, then remove the oldest ones."""
        final = self.folder / f"step-{position.step:08d}"
        unfinished = self.folder / f".step-{position.step:08d}.part"
        with machine_errors("writing a checkpoint", final):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            model_state, optimiser_state = get_state_dict(model, optimiser)
            state: dict[str, Any] = {"model": model_state, "optimiser": optimiser_state}
            writer = distributed_checkpoint.FileSystemWriter(unfinished, sync_files=True)
            with _one_process(final):
                distributed_checkpoint.save(state, storage_writer=writer, no_dist=True)
            write_json(unfinished / _POSITION, asdict(position))
            shutil.rmtree(final, ignore_errors=True)
            unfinished.rename(final)
            fsync_path(self.folder)
        return_point = self._return_point(position.step)
        for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
            if old != return_point:
                shutil.rmtree(old)

    def go_back(self, step: int) -> None:
        """Remove every checkpoint later than the latest return point up to `step`."""
        for later in self.folder.glob("step-*"):
            if later > self._return_point(step):
                shutil.rmtree(later)

    def _return_point(self, step: int) -> Path:
        every = self.return_every or 1
        return self.folder / f"step-{step // every * every:08d}"

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer, *, data: str) -> Position | None:
        """Fill model and optimiser from the newest checkpoint; None where there is none."""
        latest, position = self.latest(), self.position()
        if latest is None or position is None:
            return None
        if position.data != data:
            raise UserError(
                "the checkpoint was made with other token shards than the ones given",
                where=latest,
                fix="remove the stage's folder and run the recipe again",
            )
        model_state, optimiser_state = get_state_dict(model, optimiser)
        state: dict[str, Any] = {"model": model_state, "optimiser": optimiser_state}
        with machine_errors("reading a checkpoint", latest), _one_process(latest):
            distributed_checkpoint.load(state, checkpoint_id=latest, no_dist=True)
        set_state_dict(model, optimiser, model_state_dict=state["model"], optim_state_dict=state["optimiser"])
        return position


@contextmanager
def _one_process(path: Path) -> Iterator[None]:
    """The library's work in a single process: without its warning about that, and with the system's errors bare.

    It raises its own `BaseException`, which wraps what went wrong: a full disk, as a rule.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
            yield
    except CheckpointException as error:
        for failure, _ in error.failures.values():
            _raise_system_error(failure)
        raise MachineError(
            f"the checkpoint failed: {error}", where=path, fix="remove it to go on from the one before"
        ) from error


def _raise_system_error(error: BaseException | None) -> None:
    """Raise the operating system's error among those that led to `error`, if there is one."""
    while error is not None:
        if isinstance(error, OSError):
            raise error
        error = error.__cause__ or error.__context__
