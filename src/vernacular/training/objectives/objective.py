"""The seam between the loop and what is learned: rows to learn from, and the loss of a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from vernacular.models.decoder import Decoder
from vernacular.tokens.look_ahead import LookAhead
from vernacular.tokens.order import RowOrder
from vernacular.tokens.packing import Batch, Rows
from vernacular.training.batch import TensorBatch


class Loss(NamedTuple):
    """Sums over a batch's targets, each times its weight.

    Attributes:
        total: what is made small, in nats, differentiable; the loop divides it by the global batch's divisor.
        nats: `-log p(target)` alone.
        correct: 1 where the target was the most probable token.
        squares: logsumexp² of the scores.
    """

    total: Tensor
    nats: Tensor
    correct: Tensor
    squares: Tensor


@dataclass(frozen=True)
class Stratum:
    """Held-out rows of one language and one source."""

    language: str
    source: str
    rows: Rows


class Objective(Protocol):
    """What is learned."""

    @property
    def data_hash(self) -> str:
        """Hash of the token shards that the rows come from."""
        ...

    def rows(self) -> Rows:
        """The rows to train on."""
        ...

    def order(self, rows: Rows, steps: int) -> RowOrder:
        """Which of these rows each of so many steps takes, and by what right."""
        ...

    def look_ahead(self, rows: Rows, order: RowOrder) -> LookAhead | None:
        """What has the shards of coming steps fetched; None where none lie elsewhere."""
        ...

    def strata(self) -> Sequence[Stratum]:
        """The held-out text, by language and source; none where nothing is held out."""
        ...

    def read(self, decoder: Decoder, batch: TensorBatch) -> Tensor:
        """The hidden states of a batch, [B, T, D], by one call of the decoder."""
        ...

    def loss(self, decoder: Decoder, hidden_BTD: Tensor, batch: TensorBatch) -> Loss:
        """The loss of a batch that was read; of a batch on several ranks, of a rank's own tokens."""
        ...

    def divisor(self, batch: Batch) -> float:
        """What a batch adds to the number that the global batch's summed loss is divided by."""
        ...

    def num_bytes(self, batch: Batch) -> float:
        """Bytes of text that a batch's targets stand for, each times its weight; 0 where that is not known."""
        ...
