"""Training runs of a second on the ranks of a crew, through the trainer itself; some are stopped, some killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.checkpoint import FileSystemWriter

from tiny_training import SHAPE, settings
from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.parallel.apply import Spread
from vernacular.parallel.gradients import own_part
from vernacular.parallel.processes import this_process
from vernacular.tokens.packing import Batch, PackedRows
from vernacular.training import trainer
from vernacular.training.checkpoint_storage import LocalStorage
from vernacular.training.objectives.pretrain import pretrain

EXPERTS = SHAPE | {
    "family": "granitemoe",
    "num_experts": 4,
    "experts_per_token": 2,
    "router_aux_loss_coef": 0.3,
    "tie_embeddings": False,
}
MODELS: dict[str, dict[str, Any]] = {
    "dense": {"model": SHAPE},
    "mixture": {"model": EXPERTS, "router_z_loss": 1e-2},
    # More layers than the programs that PyTorch's compiler keeps of one function, which are eight.
    "deep mixture": {"model": EXPERTS | {"num_layers": 10}, "router_z_loss": 1e-2},
    "alibi": {"model": SHAPE | {"family": "mpt"}},
}


class Stopped(Exception):
    """The run is to go on elsewhere."""


def train(model: str, changes: dict[str, Any], tokens: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """A run of a few steps of eight rows; its summary, on the first rank."""
    if this_process().leads:
        folder.mkdir(parents=True, exist_ok=True)
    # Larger than usual: a gradient that is zero but for rounding then moves its weight by next to nothing.
    optimiser = {"learning_rate": 1e-2, "warmup_steps": 2, "epsilon": 1e-6, **changes.get("optimiser", {})}
    values = {**MODELS[model], "batch_tokens": 192, "z_loss": 1e-3, **changes, "optimiser": optimiser}
    tokenizer = tokens.parent / "tokenizer"
    return pretrain(
        settings(**values), tokens=tokens, tokenizer=tokenizer, weights=None, folder=folder, name="base", **options
    )


def groups_around_training(
    model: str, changes: dict[str, Any], tokens: Path, folder: Path
) -> tuple[bool, timedelta | None]:
    """Whether the group of all ranks outlives a run, and how long it waits after it."""
    before = dist.group.WORLD
    train(model, changes, tokens, folder)
    after = dist.group.WORLD if dist.is_initialized() else None
    backend = after._get_backend(torch.device("cpu")) if after is not None else None
    return after is before, backend.options._timeout if backend is not None else None


class HeadNorm:
    """A probe that reads a weight which no rank holds whole."""

    name, every = "head", 3

    def measure(self, decoder: Decoder, step: int) -> dict[str, float]:
        return {"norm": float(decoder.head.weight.norm())}


def train_probed(changes: dict[str, Any], tokens: Path, folder: Path) -> None:
    train("dense", changes, tokens, folder, probes=[HeadNorm()])


def refusal(changes: dict[str, Any], tokens: Path, folder: Path) -> str:
    try:
        train("dense", changes, tokens, folder)
    except UserError as error:
        return str(error)
    raise AssertionError("not refused")


def train_with_a_slow_disk(slow: int, tokens: Path, folder: Path) -> None:
    """One rank takes half a second to read its rows."""
    genuine = PackedRows.batch

    def batch(self: PackedRows, indices: list[int]) -> Batch:
        if this_process().rank == slow:
            time.sleep(0.5)
        return genuine(self, indices)

    with patch.object(PackedRows, "batch", batch):
        train("dense", {"steps": 3}, tokens, folder)


def train_unpacked(model: str, changes: dict[str, Any], tokens: Path, folder: Path) -> dict[str, Any]:
    """As `train`, but each document of a row is given a row of its own, filled up with padding."""
    genuine = PackedRows.batch

    def batch(self: PackedRows, indices: list[int]) -> Batch:
        found = genuine(self, indices)
        return _unpacked(found) if self.reader.split == "train" else found

    with patch.object(PackedRows, "batch", batch):
        return train(model, changes, tokens, folder)


def _unpacked(batch: Batch) -> Batch:
    documents = [(row, int(number)) for row in range(len(batch.names)) for number in range(len(batch.names[row]))]
    places = [np.flatnonzero(batch.documents_BT[row] == number) for row, number in documents]
    alone = [(row, where) for (row, _), where in zip(documents, places, strict=True) if len(where)]

    def spread(values_BT: NDArray[Any], padding: float) -> NDArray[Any]:
        rows = np.full((len(alone), values_BT.shape[1]), padding, dtype=values_BT.dtype)
        for place, (row, where) in enumerate(alone):
            rows[place, : len(where)] = values_BT[row, where]
        return rows

    return Batch(
        ids_BT=spread(batch.ids_BT, 0),
        targets_BT=spread(batch.targets_BT, 0),
        weights_BT=spread(batch.weights_BT, 0),
        positions_BT=spread(batch.positions_BT, 0),
        documents_BT=spread(np.zeros_like(batch.documents_BT), -1),
        names=tuple(batch.names[row] for row, _ in alone),
    )


def train_traced(model: str, changes: dict[str, Any], tokens: Path, folder: Path) -> None:
    """As `train` with compiled blocks, but the compiler's programs are run op by op: so they are made in a second."""
    with patch.object(torch, "compile", partial(torch.compile, backend="eager")):
        train(model, changes | {"compile": True}, tokens, folder)


def weights_held(changes: dict[str, Any], tokens: Path, folder: Path) -> dict[str, Any]:
    """On which devices a rank's weights lie before and after the decoder is spread, and the share of them it holds."""
    seen: dict[str, Any] = {}
    genuine = trainer.spread

    def look(decoder: Decoder, *arguments: Any, **options: Any) -> Spread:
        seen["before"] = {weight.device.type for weight in decoder.parameters()}
        run = genuine(decoder, *arguments, **options)
        seen["after"] = {weight.device.type for weight in decoder.parameters()}
        parts = sum(own_part(weight).numel() for weight in decoder.parameters())
        seen["share"] = parts / decoder.configuration.num_parameters()
        return run

    with patch.object(trainer, "spread", look):
        train("dense", changes, tokens, folder)
    return seen


def train_beside(environment: dict[str, str], model: str, changes: dict[str, Any], tokens: Path, folder: Path) -> None:
    """As `train`, with variables by which a store is found."""
    with patch.dict(os.environ, environment):
        train(model, changes, tokens, folder)


def train_until(step: int, model: str, changes: dict[str, Any], tokens: Path, folder: Path) -> None:
    """As `train`, up to and with a step."""

    def stop() -> NoReturn:
        raise Stopped

    with patch.object(trainer, "set_learning_rate", _after(step, trainer.set_learning_rate, stop)):
        try:
            train(model, changes, tokens, folder)
        except Stopped:
            return
    raise AssertionError("the run came to its end")


def train_and_die(
    moment: str, ranks: tuple[int, ...], model: str, changes: dict[str, Any], tokens: Path, folder: Path
) -> None:
    """As `train`, until these ranks are killed: `in the update` of the fourth step; or with the second checkpoint,
    `in writing` its part, or `before the commit` of all parts."""

    def die() -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still there")

    place: Any
    place, name, times = {
        "in the update": (trainer, "set_learning_rate", 3),
        "in writing": (FileSystemWriter, "write_data", 1),
        "before the commit": (LocalStorage, "commit", 1),
    }[moment]
    if this_process().rank in ranks:
        setattr(place, name, _after(times, getattr(place, name), die))
    train(model, changes, tokens, folder)


def rows_read(changes: dict[str, Any], tokens: Path, folder: Path) -> list[list[int]]:
    """The rows that a rank trains on, a list for each step."""
    read: list[list[int]] = []
    genuine = PackedRows.batch

    def batch(self: PackedRows, indices: list[int]) -> Batch:
        if self.reader.split == "train":
            read.append(list(indices))
        return genuine(self, indices)

    with patch.object(PackedRows, "batch", batch):
        train("dense", changes, tokens, folder)
    return read


def _after(times: int, genuine: Callable[..., Any], act: Callable[[], NoReturn]) -> Callable[..., Any]:
    """`genuine` for so many calls, and then `act`."""
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return genuine(*arguments, **named) if calls <= times else act()

    return counted


# Loaded on first use otherwise, by every process of a crew for itself.
__import__("torch._dynamo")
__import__("torch.distributed.checkpoint")
__import__("torch.utils.tensorboard")
