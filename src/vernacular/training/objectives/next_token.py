"""Predicting the next token: of running text, or of whole conversations whose weights say which tokens count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vernacular.foundation.files import sha256_file
from vernacular.models.decoder import Decoder
from vernacular.tokens.packing import Batch, Layout, PackedRows
from vernacular.tokens.shards import INDEX, ShardReader, read_index
from vernacular.training.batch import TensorBatch
from vernacular.training.configuration import Normalisation, Overlong, TrainingConfiguration
from vernacular.training.cross_entropy import chunked_cross_entropy
from vernacular.training.objectives.objective import Loss


class NextToken:
    """Cross-entropy of each token's successor, over rows packed from token shards.

    Args:
        configuration: length of the rows, z-loss.
        tokens: folder of token shards.
        layout: `stream`, windows over the documents; `conversations`, whole ones, none split.
        overlong: what happens to a conversation longer than a row.
        normalisation: what the weighted sum of losses is divided by.
    """

    def __init__(
        self,
        configuration: TrainingConfiguration,
        tokens: Path,
        layout: Layout,
        *,
        overlong: Overlong = "refuse",
        normalisation: Normalisation = "openchat",
    ) -> None:
        self.configuration = configuration
        self.tokens = tokens
        self.layout = layout
        self.overlong = overlong
        self.normalisation = normalisation
        self.data_hash = sha256_file(tokens / INDEX)

    def rows(self, split: str) -> PackedRows | None:
        """The rows of a split; None where it holds no document."""
        if not read_index(self.tokens)["splits"].get(split, {}).get("documents"):
            return None
        reader = ShardReader.open(self.tokens, split)
        return PackedRows(reader, self.configuration.sequence_length, self.layout, overlong=self.overlong)

    def read(self, decoder: Decoder, batch: TensorBatch) -> Tensor:
        """Hidden states of every token, [B, T, D]."""
        return read(decoder, batch)

    def loss(self, decoder: Decoder, hidden_BTD: Tensor, batch: TensorBatch) -> Loss:
        """Cross-entropy of the next token, with the z-loss."""
        return next_token_loss(
            decoder,
            hidden_BTD,
            batch,
            chunk_tokens=self.configuration.loss_chunk_tokens,
            z_weight=self.configuration.z_loss,
        )

    def divisor(self, batch: Batch) -> float:
        """What a batch adds to the number that the global batch's summed loss is divided by."""
        return DIVISORS[self.normalisation](batch.weights_BT)


def read(decoder: Decoder, batch: TensorBatch) -> Tensor:
    """Hidden states of every token, [B, T, D]."""
    return decoder(batch.ids_BT, positions_BT=batch.positions_BT, mask_B1TS=batch.mask_B1TT, attend=batch.attend)


def next_token_loss(
    decoder: Decoder, hidden_BTD: Tensor, batch: TensorBatch, *, chunk_tokens: int, z_weight: float = 0.0
) -> Loss:
    """Weighted cross-entropy of each token's successor, from the hidden states that `read` returned."""
    # The scores are `head · hidden / scaling`; dividing the hidden states does the same without a pass over the scores.
    hidden_BTD = hidden_BTD / decoder.configuration.logits_scaling
    sums = chunked_cross_entropy(
        hidden_BTD.flatten(0, 1),
        decoder.head.weight,
        batch.targets_BT.flatten(),
        batch.weights_BT.flatten(),
        chunk_tokens=chunk_tokens,
        z_weight=z_weight,
        native=batch.attend is not None,
    )
    return Loss(sums.loss, sums.loss.detach() - z_weight * sums.squares, sums.correct, sums.squares)


def _sum_of_weights(weights_BT: NDArray[np.float32]) -> float:
    """OpenChat: `Σ w · CE / Σ w`, a weighted mean; doubling all weights changes nothing."""
    return float(weights_BT.sum(dtype="float64"))


def _number_of_targets(weights_BT: NDArray[np.float32]) -> float:
    """ALLaMo: `Σ w · CE / count(w > 0)`; a batch of low weights makes a small step."""
    return float(np.count_nonzero(weights_BT))


DIVISORS: Mapping[str, Callable[[NDArray[np.float32]], float]] = {
    "openchat": _sum_of_weights,
    "allamo": _number_of_targets,
}
