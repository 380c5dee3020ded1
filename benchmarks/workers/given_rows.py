"""Rows of given ids for our trainer, in place of token shards, so that a benchmark decides what is learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vernacular.models.decoder import Decoder
from vernacular.tokens.order import Order, RowOrder
from vernacular.tokens.packing import Batch, Rows
from vernacular.training.batch import TensorBatch
from vernacular.training.objectives.next_token import next_token_loss, read
from vernacular.training.objectives.objective import Loss, Stratum


class GivenRows:
    """Rows of documents, each a list of ids; `order` is the trainer's, which is to take them one after the other."""

    def __init__(self, rows: Sequence[Sequence[NDArray[np.int64]]], tokens: int, order: Order) -> None:
        self.tokens = tokens
        self.order = order
        batches = range(len(rows) // order.batch_size)
        places = [index for batch in batches for index in order.indices(batch)]
        self.rows = {place: rows[number] for number, place in enumerate(places)}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int]) -> Batch:
        """As `PackedRows`."""
        shape = (len(indices), self.tokens + 1)
        ids, documents = np.zeros(shape, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
        positions = np.zeros(shape, dtype=np.int64)
        for row, index in enumerate(indices):
            start = 0
            for number, document in enumerate(self.rows[index]):
                here = slice(start, start + len(document))
                ids[row, here], documents[row, here] = document, number
                positions[row, here], start = np.arange(len(document)), here.stop
        known = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
        return Batch(
            ids_BT=ids[:, :-1].copy(),
            targets_BT=ids[:, 1:].copy(),
            weights_BT=known.astype(np.float32),
            positions_BT=positions[:, :-1].copy(),
            documents_BT=documents[:, :-1].copy(),
            names=tuple((str(index),) for index in indices),
        )


class NextOfGiven:
    """The next token of given rows."""

    data_hash = "given"

    def __init__(self, given: GivenRows, chunk_tokens: int) -> None:
        self._given, self._chunk_tokens = given, chunk_tokens

    def rows(self) -> Rows:
        """The given rows, to train on."""
        return self._given

    def order(self, rows: Rows, steps: int) -> Order:
        """As given."""
        return self._given.order

    def look_ahead(self, rows: Rows, order: RowOrder) -> None:
        """Nothing lies elsewhere."""

    def strata(self) -> Sequence[Stratum]:
        """Nothing is held out."""
        return ()

    def read(self, decoder: Decoder, batch: TensorBatch) -> Tensor:
        """Hidden states of every token."""
        return read(decoder, batch)

    def loss(self, decoder: Decoder, hidden_BTD: Tensor, batch: TensorBatch) -> Loss:
        """Cross-entropy of the next token."""
        return next_token_loss(decoder, hidden_BTD, batch, chunk_tokens=self._chunk_tokens)

    def divisor(self, batch: Batch) -> float:
        """Its targets."""
        return float(batch.weights_BT.sum())

    def num_bytes(self, batch: Batch) -> float:
        """Not known: the tokens are drawn."""
        return 0
