"""The seam between the loop and what is learned: rows to learn from, and the loss of a batch of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from vernacular.models.decoder import Decoder
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import read_index
from vernacular.training.batch import TensorBatch
from vernacular.training.cross_entropy import chunked_cross_entropy


class Loss(NamedTuple):
    """Sums over a batch, to be divided by the global batch's weight.

    Attributes:
        total: weighted loss in nats, differentiable.
        correct: weight of the targets that were the most probable token.
    """

    total: Tensor
    correct: Tensor


class Objective(Protocol):
    """What is learned."""

    @property
    def data_hash(self) -> str:
        """Hash of the token shards that the rows come from."""
        ...

    def rows(self, split: str) -> PackedRows | None:
        """The rows of a split, `train` or `heldout`; None where the split holds no document."""
        ...

    def loss(self, decoder: Decoder, batch: TensorBatch) -> Loss:
        """The loss of a batch."""
        ...


def has_documents(tokens: Path, split: str) -> bool:
    """Whether a folder of token shards has a document in a split."""
    return bool(read_index(tokens)["splits"].get(split, {}).get("documents"))


def next_token_loss(decoder: Decoder, batch: TensorBatch, *, chunk_tokens: int) -> Loss:
    """Weighted cross-entropy of each token's successor."""
    hidden_BTD = decoder(batch.ids_BT, positions_BT=batch.positions_BT, mask_B1TS=batch.mask_B1TT)
    # The scores are `head · hidden / scaling`; dividing the hidden states does the same without a pass over the scores.
    hidden_BTD = hidden_BTD / decoder.configuration.logits_scaling
    total, correct, _ = chunked_cross_entropy(
        hidden_BTD.flatten(0, 1),
        decoder.head.weight,
        batch.targets_BT.flatten(),
        batch.weights_BT.flatten(),
        chunk_tokens=chunk_tokens,
    )
    return Loss(total, correct)
