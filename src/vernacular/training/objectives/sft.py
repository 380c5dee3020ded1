"""Supervised fine-tuning: predict the assistant's text, through its end token, given what came before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.models.weights import copy_tokenizer, load_decoder, save_weights
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import TokenShards
from vernacular.tokens.tokenization import tokenize_conversations
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.batch import TensorBatch
from vernacular.training.configuration import SftConfiguration
from vernacular.training.objectives.objective import Loss, next_token_loss
from vernacular.training.trainer import Trainer

TOKENS = "tokens"


class Sft:
    """Rows hold whole conversations; the shards' weights say which tokens count."""

    def __init__(self, configuration: SftConfiguration, tokens: Path) -> None:
        self.configuration = configuration
        self.shards = TokenShards.open(tokens)

    @property
    def data_hash(self) -> str:
        """Hash of the token shards."""
        return self.shards.hash

    def rows(self, split: str) -> PackedRows:
        """Rows of whole conversations."""
        return PackedRows.whole_documents(self.shards, split, self.configuration.sequence_length)

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
    tokenize_conversations(
        conversations,
        weights,
        folder / TOKENS,
        max_tokens=configuration.sequence_length,
        too_long=configuration.too_long,
        heldout_share=configuration.heldout_share,
        seed=configuration.seed,
    )
    objective = Sft(configuration, folder / TOKENS)
    trainer = Trainer(configuration, objective, decoder, folder, name=name)
    summary = trainer.fit()
    encoder = Tokenizer.load(weights)
    save_weights(folder, trainer.decoder, token_ids=encoder.published_ids())
    copy_tokenizer(weights, folder)
    loss_tokens = sum(objective.shards.loss_tokens(split) for split in ("train",))
    return {**summary, "loss_tokens": loss_tokens}
