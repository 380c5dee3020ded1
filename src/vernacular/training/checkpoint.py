"""Checkpoints: everything a run needs to go on as if it had never stopped, written whole or not at all.

A checkpoint is a torch distributed checkpoint of the model and the optimiser, of which every rank writes its part, plus
`position.json`: the step and the settings that must not differ on resuming. It names weights and shapes, not ranks: any
layout reads what any other wrote.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from torch.distributed import checkpoint as distributed_checkpoint
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.optim import Optimizer

from vernacular.foundation.address import may_pass
from vernacular.foundation.artifact import CHECKPOINTS
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import write_json
from vernacular.foundation.patience import persist
from vernacular.parallel.apply import Spread
from vernacular.parallel.state import state_of, take_state
from vernacular.training.checkpoint_storage import KINDS, Storage, open_storage
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.position import Position

_STEP, _BEST, _GOOD = KINDS
ELSEWHERE = "elsewhere.json"
_PATIENCE = timedelta(days=1)  # of ranks whose parts are written for those whose are not


def storage_of(configuration: TrainingConfiguration, folder: Path) -> Storage:
    """Where the checkpoints of the stage in `folder` lie."""
    if configuration.checkpoint_folder is None:
        return open_storage(folder / CHECKPOINTS)
    place = f"{configuration.checkpoint_folder.rstrip('/')}/{folder.parent.name}/{folder.name}"
    return open_storage(place, configuration.checkpoint_attempts)


def forget_checkpoints(configuration: TrainingConfiguration, folder: Path) -> None:
    """Remove what checkpoints of the stage in `folder` lie elsewhere."""
    if configuration.checkpoint_folder is not None:
        storage = storage_of(configuration, folder)
        for name in [name for kind in KINDS for name in storage.names(kind)]:
            storage.remove(name)


class Checkpoints:
    """The checkpoints of one stage; every method is called on all ranks.

    Args:
        folder: the stage's folder; they lie in `FOLDER/checkpoints/`, or where `checkpoint_folder` says.
        run: the decoder, spread.
        optimiser: its optimiser.
        configuration: how many stay, where, and whether training waits until one is written.
        return_every: the latest at a multiple of this stays too: the point that a spike returns to.
    """

    def __init__(
        self,
        folder: Path,
        run: Spread,
        optimiser: Optimizer,
        configuration: TrainingConfiguration,
        *,
        return_every: int | None = None,
    ) -> None:
        self.storage = storage_of(configuration, folder)
        self.configuration = configuration
        self.return_every = return_every
        self._folder, self._run, self._optimiser, self._mesh = folder, run, optimiser, run.mesh
        # Parts are written while the other groups are busy with the next steps.
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if self._mesh.sizes.world > 1 else None
        self._writing: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def save(self, position: Position) -> None:
        """Write a checkpoint, then remove the oldest ones; after the one before it is written.

        Raises:
            MachineError: this one, or the one before it, could not be written.
        """
        self._save(f"{_STEP}-{position.step:08d}", position)

    def save_best(self, position: Position) -> None:
        """As `save`, of the best one so far, which replaces the best before."""
        self._save(f"{_BEST}-{position.step:08d}", position)

    def load_best(self) -> bool:
        """Fill the model from the best checkpoint; whether there is one."""
        self.finish()
        (step,) = self._mesh.gather(self._newest(_BEST))[0]
        if step < 0:
            return False
        state = state_of(self._run.decoder, None)
        self._load(f"{_BEST}-{int(step):08d}", state)
        take_state(self._run.decoder, None, state)
        return True

    def save_good(self, position: Position) -> None:
        """As `save`, of the last one within a stop rule's bound, which replaces the one before."""
        self._save(f"{_GOOD}-{position.step:08d}", position)

    def finish(self) -> None:
        """Wait until all is written that was to be. Raises `MachineError` where it could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def settle(self) -> None:
        """Let what is being written come to its end, whatever that is; for a run that ends with an error."""
        if self._writing is not None:
            wait([self._writing])

    def go_back(self, step: int) -> None:
        """Remove every checkpoint later than the latest return point up to `step`; also the best of what is undone."""
        self.finish()
        if self._mesh.leads:
            for name in [name for kind in (_STEP, _BEST) for name in self.storage.names(kind)]:
                if _step_of(name) > self._return_point(step):
                    self.storage.remove(name)
        self._mesh.wait()

    def restore(self, *, data: str) -> Position | None:
        """Fill model and optimiser from the newest checkpoint; None where there is none."""
        # One rank looks, lest a slow file system show them different ones.
        (newest,) = self._mesh.gather(self._newest(_STEP))[0]
        if newest < 0:
            return None
        return self._restore(f"{_STEP}-{int(newest):08d}", data)

    def restore_good(self, step: int, *, data: str) -> Position:
        """As `restore`, from the one that `save_good` wrote at this step."""
        self.finish()
        return self._restore(f"{_GOOD}-{step:08d}", data)

    def _restore(self, name: str, data: str) -> Position:
        position = Position.from_json(self.storage.position(name))
        if position.data != data:
            raise UserError(
                "the checkpoint was made with other token shards than the ones given",
                where=self.storage.place(name),
                fix="remove the stage's folder and run the recipe again",
            )
        state = state_of(self._run.decoder, self._optimiser)
        self._load(name, state)
        take_state(self._run.decoder, self._optimiser, state)
        return position

    def _newest(self, kind: str) -> int:
        """The step of the newest whole checkpoint of a kind, -1 where there is none; for the first rank to look."""
        names = self.storage.names(kind) if self._mesh.leads else []
        return _step_of(names[-1]) if names else -1

    def _load(self, name: str, state: dict[str, Any]) -> None:
        def load() -> None:
            distributed_checkpoint.load(
                state,
                storage_reader=self.storage.reader(name),
                process_group=self._group,
                no_dist=self._group is None,
            )

        self._together("reading a checkpoint", name, load)

    def _save(self, name: str, position: Position) -> None:
        self.finish()
        if self._mesh.leads:
            self._point_elsewhere()
            self.storage.begin(name)
        self._mesh.wait()
        state, standing = state_of(self._run.decoder, self._optimiser), asdict(position)
        if not self.configuration.checkpoint_async:
            self._write(name, state, standing)
            return
        # A copy on the CPU, as the next step changes the weights.
        stager = DefaultStager(StagingOptions(False, False, False, False))
        staged = cast(dict[str, Any], stager.stage(state))
        stager.close()
        self._writing = self._thread.submit(self._write, name, staged, standing)

    def _write(self, name: str, state: dict[str, Any], position: dict[str, Any]) -> None:
        """Every rank its part; then the first makes it a whole one."""

        def save() -> None:
            distributed_checkpoint.save(
                state,
                storage_writer=self.storage.writer(name),
                process_group=self._group,
                no_dist=self._group is None,
            )

        self._together("writing a checkpoint", name, save)
        if self._mesh.leads:
            self.storage.commit(name, position)
            self._remove_old(name)

    def _together(self, doing: str, name: str, act: Callable[[], object]) -> None:
        """Have all ranks do it, and again while the store's failures may pass: each is told the failures of all."""

        def once() -> None:
            try:
                act()
            except CheckpointException as error:
                failures = [failure for failure, _ in error.failures.values()]
                for failure in failures:
                    if isinstance(failure, KeyboardInterrupt | SystemExit):  # which the library catches as well
                        raise failure from error
                final = (failure for failure in failures if not may_pass(failure))
                raise self.storage.explain(next(final, failures[0]), doing, name) from error

        persist(once, self.storage.patience, may_pass)

    def _remove_old(self, newest: str) -> None:
        every, return_point = self.configuration.keep_every, self._return_point(_step_of(newest))
        for kind in (_BEST, _GOOD):
            if newest.startswith(kind):
                # The best up to the return point is the best again, should the run go back there.
                before = [name for name in self.storage.names(kind) if _step_of(name) <= return_point]
                stay = {newest, *(before[-1:] if self.return_every else ())}
                for name in self.storage.names(kind):
                    if name not in stay:
                        self.storage.remove(name)
                return
        for name in self.storage.names(_STEP)[: -self.configuration.keep_checkpoints]:
            kept = every is not None and _step_of(name) % every == 0
            if not kept and not (self.return_every and _step_of(name) == return_point):
                self.storage.remove(name)

    def _return_point(self, step: int) -> int:
        every = self.return_every or 1
        return step // every * every

    def _point_elsewhere(self) -> None:
        """Leave a note of where the checkpoints are, by which the stage is known to be one that goes on."""
        note = self._folder / CHECKPOINTS / ELSEWHERE
        if self.configuration.checkpoint_folder is not None and not note.is_file():
            write_json(note, {"checkpoints": self.storage.place("")})


def _step_of(name: str) -> int:
    return int(name.partition("-")[2])


# Of the library, in a single process.
warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
