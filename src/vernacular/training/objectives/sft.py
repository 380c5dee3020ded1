"""Supervised fine-tuning: predict the assistant's text, through its end token, given what came before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vernacular.models.weights import hollow_decoder, read_config, stored_values
from vernacular.parallel.processes import this_process
from vernacular.tokens.tokenization import tokenize_conversations
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.configuration import SftConfiguration
from vernacular.training.objectives.leaving import leave_weights
from vernacular.training.objectives.next_token import NextToken
from vernacular.training.probe import Probe
from vernacular.training.trainer import Trainer, open_training_mesh

TOKENS = "tokens"


def sft(
    configuration: SftConfiguration,
    *,
    weights: Path,
    conversations: Path,
    folder: Path,
    name: str,
    probes: Sequence[Probe] = (),
) -> dict[str, Any]:
    """Fine-tune weights on conversations; writes a weights folder with the chat template that was trained on.

    All processes of the run call this together, as `pretrain`.

    Args:
        configuration: sizes and optimiser.
        weights: weights folder with tokenizer and chat template.
        conversations: JSONL file of conversations.
        folder: where token shards, checkpoints, logs and at last the weights are written.
        name: the stage's name, for progress and errors.
        probes: what else to measure while it trains.

    Returns:
        The run's summary, on the first process.
    """
    decoder = hollow_decoder(read_config(weights))
    values = stored_values(weights, decoder)
    configuration.require_model(decoder.configuration)  # before the conversations are tokenized
    settings = configuration.conversation_settings
    data = this_process().first(lambda: tokenize_conversations(conversations, weights, folder / TOKENS, settings))
    encoder = Tokenizer.load(weights)
    objective = NextToken(
        configuration,
        {"conversations": folder / TOKENS},
        "conversations",
        tokenizer=encoder,
        overlong=configuration.overlong,
        normalisation=configuration.normalisation,
    )
    trainer = Trainer(
        configuration,
        objective,
        decoder,
        folder,
        name=name,
        values=values,
        mesh=open_training_mesh(configuration),
        probes=probes,
        from_weights=True,
    )
    summary = trainer.fit()
    leave_weights(trainer, folder, weights)
    return {**summary, "data": data}
