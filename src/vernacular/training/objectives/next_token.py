"""Predicting the next token: of running text, or of whole conversations whose weights say which tokens count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_file, sha256_json
from vernacular.models.decoder import Decoder
from vernacular.tokens.configuration import PhaseConfiguration
from vernacular.tokens.look_ahead import LookAhead
from vernacular.tokens.mixed_rows import MixedRows, open_cells
from vernacular.tokens.mixture import plan_mixture
from vernacular.tokens.order import MixtureOrder, Order, RowOrder
from vernacular.tokens.packing import Batch, Layout, PackedRows, Rows
from vernacular.tokens.shard import INDEX
from vernacular.tokens.shard_cache import ShardCache
from vernacular.tokens.shards import ShardReader, read_index
from vernacular.tokens.token_bytes import token_bytes
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.batch import TensorBatch
from vernacular.training.configuration import Normalisation, Overlong, TrainingConfiguration
from vernacular.training.cross_entropy import chunked_cross_entropy
from vernacular.training.objectives.objective import Loss, Stratum


class NextToken:
    """Cross-entropy of each token's successor, over rows packed from token shards.

    Args:
        configuration: length of the rows, batch, seed, z-loss.
        tokens: folders of token shards, by name.
        layout: `stream`, windows over the documents; `conversations`, whole ones, none split.
        tokenizer: theirs.
        phases: the mixture of each part of the run; none takes all rows alike.
        overlong: what happens to a conversation longer than a row.
        normalisation: what the weighted sum of losses is divided by.
        shuffle_shards: shards of each cell that are shuffled together; None: all.
        cache: where shards that lie elsewhere are kept; None: there are none.
    """

    def __init__(
        self,
        configuration: TrainingConfiguration,
        tokens: Mapping[str, Path],
        layout: Layout,
        *,
        tokenizer: Tokenizer,
        phases: Sequence[PhaseConfiguration] = (),
        overlong: Overlong = "refuse",
        normalisation: Normalisation = "openchat",
        shuffle_shards: int | None = None,
        cache: ShardCache | None = None,
    ) -> None:
        self.configuration = configuration
        self.tokens = dict(tokens)
        self.layout = layout
        self.phases = tuple(phases)
        self.overlong = overlong
        self.normalisation = normalisation
        self.shuffle_shards = shuffle_shards
        self.cache = cache
        self._bytes_of = _bytes_by_token(tokenizer)
        self.data_hash = sha256_json({name: sha256_file(folder / INDEX) for name, folder in self.tokens.items()})

    def rows(self) -> Rows:
        """The rows of the split `train`: of each cell its own, where there is a mixture."""
        if self.phases:
            by, length = self.phases[0].mixture.by, self.configuration.sequence_length
            return open_cells(self.tokens, "train", by, length, window=self.shuffle_shards, cache=self.cache)
        return self._packed(self._open("train"), window=self.shuffle_shards)

    def order(self, rows: Rows, steps: int) -> RowOrder:
        """Without a mixture, each epoch is one permutation; with one, each cell has epochs of its own."""
        batch_rows, seed = self.configuration.batch_rows, self.configuration.seed
        if not isinstance(rows, MixedRows):
            return Order(len(rows), batch_rows, seed, rows.epochs if isinstance(rows, PackedRows) else None)
        phases = plan_mixture(self.phases, rows.sizes, steps=steps, batch_size=batch_rows)
        return MixtureOrder(rows.sizes, phases, batch_rows, seed, rows.epochs)

    def look_ahead(self, rows: Rows, order: RowOrder) -> LookAhead | None:
        """What has the shards of coming steps fetched; None where none lie elsewhere."""
        if self.cache is None or not isinstance(rows, PackedRows | MixedRows):
            return None
        return LookAhead(self.cache, rows, order, self._open("heldout").shards if self._holds_out() else ())

    def strata(self) -> list[Stratum]:
        """The split `heldout` by language and source; none where it holds no document."""
        if not self._holds_out():
            return []
        parts = dict.fromkeys((shard.language, shard.source) for shard in self._open("heldout").shards)
        readers = {part: self._open("heldout", language=part[0], source=part[1]) for part in parts}
        return [Stratum(*part, self._packed(reader)) for part, reader in readers.items() if reader.num_tokens > 1]

    def _holds_out(self) -> bool:
        return any("heldout" in read_index(folder)["splits"] for folder in self.tokens.values())

    def _open(self, split: str, **part: str) -> ShardReader:
        return ShardReader(list(self.tokens.values()), split, cache=self.cache, **part)

    def _packed(self, reader: ShardReader, window: int | None = None) -> PackedRows:
        length = self.configuration.sequence_length
        return PackedRows(reader, length, self.layout, overlong=self.overlong, window=window)

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

    def num_bytes(self, batch: Batch) -> float:
        """Bytes of the targets, each times its weight; control tokens have none."""
        return float((self._bytes_of[batch.targets_BT] * batch.weights_BT).sum(dtype="float64"))


def _bytes_by_token(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Bytes that each token stands for; 0 where the vocabulary does not tell, and then there are no bits per byte."""
    try:
        return np.array([len(piece) for piece in token_bytes(tokenizer)], dtype=np.int64)
    except UserError:
        return np.zeros(tokenizer.vocab_size, dtype=np.int64)


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
        score=batch.score,
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
