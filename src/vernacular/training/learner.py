"""What is computed with a batch: its gradients or its scores, and their sums over all ranks and micro-batches.

A rank reads its own rows, and of these learns from its own tokens (`parallel/share.py`). Every sum is over all ranks,
so that what a step says of itself, and what it does, is the same however many there are.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from vernacular.models.decoder import Decoder
from vernacular.parallel.apply import Spread
from vernacular.parallel.share import share
from vernacular.tokens.packing import Batch, Rows
from vernacular.training.batch import TensorBatch, num_text_tokens, to_tensors
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.cross_entropy import compiled_score_rows
from vernacular.training.heldout import HeldoutSums
from vernacular.training.objectives.objective import Loss, Objective
from vernacular.training.position import StepResult
from vernacular.training.routers import Routers, Routing

Refuse = Callable[[float, Sequence[str]], None]
"""Called with a micro-batch's loss that is no finite number, and with its documents."""


@dataclass(frozen=True)
class Totals:
    """Of a global batch, over all ranks.

    Attributes:
        weight: the loss-bearing weight.
        divisor: what the summed loss is divided by, as the objective says.
        text_tokens: tokens that are no padding.
        loss_tokens: tokens that are learned from.
    """

    weight: float
    divisor: float
    text_tokens: float
    loss_tokens: float


class Learner:
    """Computes with batches on all ranks of a mesh; every method is called on all of them.

    Args:
        configuration: sizes, precision, load balance.
        objective: what is learned.
        run: the decoder, spread.
        native: whether the CPU kernels compute.
    """

    def __init__(
        self, configuration: TrainingConfiguration, objective: Objective, run: Spread, *, native: bool
    ) -> None:
        self.configuration, self.objective, self.run, self.native = configuration, objective, run, native
        self.mesh = run.mesh
        self.routers = Routers(run.decoder, configuration.router_z_loss)
        on_gpu = self.mesh.device.type == "cuda"
        self._score = compiled_score_rows() if configuration.compile and on_gpu else None
        heads = run.decoder.heads
        # Flash attention knows neither float32 nor a bias, and a part of a row needs the mask of the whole.
        self._flash = (
            on_gpu
            and configuration.precision != "float32"
            and heads.slopes_H is None
            and (heads.window is None or heads.window >= configuration.sequence_length)
            and self.mesh.sizes.context == 1
        )

    def totals(self, batches: Sequence[Batch]) -> Totals:
        """What the ranks' micro-batches of a step come to."""
        return Totals(
            *self.mesh.total_over_rows(
                float(sum(batch.weights_BT.sum(dtype="float64") for batch in batches)),
                sum(self.objective.divisor(batch) for batch in batches),
                sum(num_text_tokens(batch) for batch in batches),
                sum(int(np.count_nonzero(batch.weights_BT)) for batch in batches),
            )
        )

    def learn(self, batches: Sequence[Batch], totals: Totals, refuse: Refuse) -> StepResult:
        """Add up the gradient of the global batch's mean loss, however it is cut into micro-batches and over ranks.

        Args:
            batches: this rank's micro-batches.
            totals: of the step.
            refuse: for a loss that is no finite number.
        """
        parts = _Parts(batches, self._part)
        sums = torch.zeros(3, dtype=torch.float64, device=self.mesh.device)
        routing: Routing | None = None
        if self.routers:
            counts_ahead = self.configuration.counts_ahead(len(parts), self.mesh.sizes.pipeline)
            counts_LE = self._count(parts) if counts_ahead else None
            routing = Routing(self.routers, self.mesh, totals.text_tokens, counts_LE)

        def read(decoder: Decoder, part: TensorBatch) -> Tensor:
            hidden_BTD = self._read(decoder, part)
            return hidden_BTD if routing is None else routing.join(hidden_BTD, part.is_text_BT)

        def loss(decoder: Decoder, hidden_BTD: Tensor, part: TensorBatch) -> Tensor:
            found = self._loss(decoder, hidden_BTD, part)
            if not math.isfinite(value := found.total.item()):
                refuse(value, part.names())
            sums.add_(_figures(found))
            return found.total / totals.divisor

        self.run.learn(parts, read, loss)
        nats, correct, squares = (value / totals.weight for value in self.mesh.total(*sums.tolist()))
        result = StepResult(nats, correct, totals.weight, squares, 0.0, 0.0)
        if routing is None or routing.counts_LE is None:
            return result
        balance, router_squares = routing.totals()
        load = self.routers.load(routing.counts_LE)
        return replace(result, balance=balance, router_squares=router_squares, watched=load)

    def score(self, rows: Rows, indices: Sequence[int]) -> HeldoutSums:
        """What the rows at `indices` come to, summed over all ranks; without gradients."""
        readers, stages = self.mesh.sizes.data, self.mesh.sizes.pipeline
        size = max(1, min(self.configuration.micro_batch_rows, len(indices) // (readers * stages)))
        passes = max(stages, math.ceil(len(indices) / (size * readers)))
        first = self.mesh.data_rank * passes * size
        batches = [_padded(rows, indices, start, size) for start in range(first, first + passes * size, size)]
        sums = torch.zeros(3, dtype=torch.float64, device=self.mesh.device)

        def loss(decoder: Decoder, hidden_BTD: Tensor, part: TensorBatch) -> Tensor:
            found = self._loss(decoder, hidden_BTD, part)
            sums.add_(_figures(found))
            return found.total

        self.run.score(_Parts(batches, self._part), self._read, loss)
        nats, correct, _ = self.mesh.total(*sums.tolist())
        weight, num_bytes = self.mesh.total_over_rows(
            float(sum(batch.weights_BT.sum(dtype="float64") for batch in batches)),
            float(sum(self.objective.num_bytes(batch) for batch in batches)),
        )
        return HeldoutSums(nats, correct, weight, num_bytes)

    def _count(self, parts: Sequence[TensorBatch]) -> Tensor:
        """How often each expert is chosen in the global batch, [L, E]."""
        counted: list[Tensor] = []

        def read(decoder: Decoder, part: TensorBatch) -> Tensor:
            hidden_BTD = self._read(decoder, part)
            counted.append(self.routers.counts(part.is_text_BT))
            return hidden_BTD

        self.run.score(parts, read, lambda decoder, hidden_BTD, part: hidden_BTD.new_zeros(()))
        return self.mesh.sum(torch.stack(counted).sum(dim=0))

    def _read(self, decoder: Decoder, part: TensorBatch) -> Tensor:
        with self._autocast(), self.routers.listening():
            return self.objective.read(decoder, part)

    def _loss(self, decoder: Decoder, hidden_BTD: Tensor, part: TensorBatch) -> Loss:
        with self._autocast():
            return self.objective.loss(decoder, hidden_BTD, part)

    def _part(self, batch: Batch) -> TensorBatch:
        device, document_mask = self.mesh.device, self.configuration.document_mask
        tensors = to_tensors(
            batch, device, document_mask=document_mask, native=self.native, flash=self._flash, score=self._score
        )
        return share(tensors, self.mesh)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.configuration.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.mesh.device.type, dtype=torch.bfloat16)


class _Parts(Sequence[TensorBatch]):
    """Micro-batches as tensors, each made when it is asked for: masks of all at once would fill the memory."""

    def __init__(self, batches: Sequence[Batch], make: Callable[[Batch], TensorBatch]) -> None:
        self._batches, self._make = batches, make

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> TensorBatch: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TensorBatch]: ...
    def __getitem__(self, index: int | slice) -> TensorBatch | Sequence[TensorBatch]:
        if isinstance(index, slice):
            return _Parts(self._batches[index], self._make)
        return self._make(self._batches[index])


def _figures(found: Loss) -> Tensor:
    return torch.stack((found.nats.detach(), found.correct.detach(), found.squares.detach())).double()


def _padded(rows: Rows, indices: Sequence[int], first: int, size: int) -> Batch:
    """The rows at `indices[first:first + size]`, filled up to `size` with rows that weigh nothing.

    They are there because all ranks take passes of one shape.
    """
    places = np.arange(first, first + size)
    known = places < len(indices)
    batch = rows.batch([indices[place] if place < len(indices) else indices[0] for place in places.tolist()])
    return replace(batch, weights_BT=np.where(known[:, None], batch.weights_BT, np.float32(0)))
