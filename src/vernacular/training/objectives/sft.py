"""Supervised fine-tuning: predict the assistant's text, through its end token, given what came before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_file
from vernacular.models.decoder import Decoder
from vernacular.models.weights import copy_tokenizer, load_decoder, published_token_ids, save_weights
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import INDEX, ShardReader
from vernacular.tokens.tokenization import tokenize_conversations
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.batch import TensorBatch
from vernacular.training.configuration import SftConfiguration
from vernacular.training.objectives.objective import Loss, has_documents, next_token_loss
from vernacular.training.trainer import Trainer

TOKENS = "tokens"


class Sft:
    """Rows hold whole conversations; the shards' weights say which tokens count."""

    def __init__(self, configuration: SftConfiguration, tokens: Path) -> None:
        self.configuration = configuration
        self.tokens = tokens
        self.data_hash = sha256_file(tokens / INDEX)

    def rows(self, split: str) -> PackedRows | None:
        """Rows of whole conversations."""
        if not has_documents(self.tokens, split):
            return None
        return PackedRows(
            ShardReader.open(self.tokens, split),
            self.configuration.sequence_length,
            "conversations",
            overlong=self.configuration.overlong,
        )

    def loss(self, decoder: Decoder, batch: TensorBatch) -> Loss:
        """Cross-entropy of the next token."""
        return next_token_loss(decoder, batch, chunk_tokens=self.configuration.loss_chunk_tokens)


def sft(
    configuration: SftConfiguration, *, weights: Path, conversations: Path, folder: Path, name: str
) -> dict[str, Any]:
    """Fine-tune weights on conversations; writes a weights folder with the chat template that was trained on.

    Args:
        configuration: sizes and optimiser.
        weights: weights folder with tokenizer and chat template.
        conversations: JSONL file of conversations.
        folder: where token shards, checkpoints, logs and at last the weights are written.
        name: the stage's name, for progress and errors.

    Returns:
        The run's summary.
    """
    decoder = load_decoder(weights)
    if configuration.sequence_length > decoder.configuration.max_positions:
        raise UserError(
            f"sequence_length {configuration.sequence_length} exceeds the weights' limit of "
            f"{decoder.configuration.max_positions}",
            where=f"stage {name}",
            fix="lower sequence_length",
        )
    data = tokenize_conversations(conversations, weights, folder / TOKENS, configuration.conversation_settings)
    objective = Sft(configuration, folder / TOKENS)
    trainer = Trainer(configuration, objective, decoder, folder, name=name)
    summary = trainer.fit()
    encoder = Tokenizer.load(weights)
    save_weights(folder, trainer.decoder, token_ids=published_token_ids(encoder))
    copy_tokenizer(weights, folder)
    return {**summary, "data": data}
