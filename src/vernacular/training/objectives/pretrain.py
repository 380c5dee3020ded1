"""Pre-training: predict every next token of the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_file
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import copy_tokenizer, load_decoder, published_token_ids, save_weights
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import INDEX, ShardReader
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.batch import TensorBatch
from vernacular.training.configuration import PretrainConfiguration
from vernacular.training.objectives.objective import Loss, has_documents, next_token_loss
from vernacular.training.trainer import Trainer


class Pretrain:
    """Rows are windows over the concatenated documents; every target within a document counts alike."""

    def __init__(self, configuration: PretrainConfiguration, tokens: Path) -> None:
        self.configuration = configuration
        self.tokens = tokens
        self.data_hash = sha256_file(tokens / INDEX)

    def rows(self, split: str) -> PackedRows | None:
        """Rows of windows over the documents."""
        if not has_documents(self.tokens, split):
            return None
        return PackedRows(ShardReader.open(self.tokens, split), self.configuration.sequence_length)

    def loss(self, decoder: Decoder, batch: TensorBatch) -> Loss:
        """Cross-entropy of the next token."""
        return next_token_loss(decoder, batch, chunk_tokens=self.configuration.loss_chunk_tokens)


def pretrain(
    configuration: PretrainConfiguration,
    *,
    tokens: Path,
    tokenizer: Path,
    weights: Path | None,
    folder: Path,
    name: str,
) -> dict[str, Any]:
    """Train a new decoder, or given weights further, on token shards; writes a weights folder.

    Args:
        configuration: shape, sizes, optimiser.
        tokens: folder of token shards.
        tokenizer: folder of the tokenizer that made them.
        weights: weights to begin with; None draws new ones of `configuration.model`.
        folder: where checkpoints, logs and at last the weights are written.
        name: the stage's name, for progress and errors.

    Returns:
        The run's summary.
    """
    objective = Pretrain(configuration, tokens)
    encoder = Tokenizer.load(tokenizer)
    ShardReader.open(tokens, "train").require_tokenizer(encoder)
    trainer = Trainer(configuration, objective, _decoder(configuration, encoder, weights), folder, name=name)
    summary = trainer.fit()
    save_weights(folder, trainer.decoder, token_ids=published_token_ids(encoder))
    copy_tokenizer(tokenizer, folder)
    return summary


def _decoder(configuration: PretrainConfiguration, encoder: Tokenizer, weights: Path | None) -> Decoder:
    if (weights is None) == (configuration.model is None):
        raise UserError(
            "give either weights to begin with or the shape of a new model, not both or neither",
            where="weights, model",
            fix="remove one of the two keys",
        )
    if weights is None:
        assert configuration.model is not None
        decoder = Decoder(configure(configuration.model, encoder.vocab_size, configuration.sequence_length))
        decoder.initialise(configuration.seed)
        return decoder
    if Tokenizer.load(weights).hash != encoder.hash:
        raise UserError(
            "the weights were trained with another tokenizer than the one the tokens were made with",
            where=weights,
            fix="tokenize the text with the weights' own tokenizer",
        )
    return load_decoder(weights)
