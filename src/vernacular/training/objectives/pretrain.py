"""Pre-training: predict every next token of the text; every target within a document counts alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import hollow_decoder, read_config, stored_values
from vernacular.tokens.elsewhere import address_of
from vernacular.tokens.shard_cache import ShardCache
from vernacular.tokens.shards import ShardReader
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.configuration import PretrainConfiguration
from vernacular.training.mup import draw
from vernacular.training.objectives.leaving import leave_weights
from vernacular.training.objectives.next_token import NextToken
from vernacular.training.probe import Probe
from vernacular.training.trainer import Trainer, open_training_mesh


def pretrain(
    configuration: PretrainConfiguration,
    *,
    tokens: Path | Mapping[str, Path],
    tokenizer: Path,
    weights: Path | None,
    folder: Path,
    name: str,
    probes: Sequence[Probe] = (),
) -> dict[str, Any]:
    """Train a new decoder, or given weights further, on token shards; writes a weights folder.

    All processes of the run call this together; the first writes what is not a rank's part of a checkpoint.

    Args:
        configuration: shape, sizes, optimiser.
        tokens: folder of token shards, or several by name; also such as stand for shards elsewhere.
        tokenizer: folder of the tokenizer that made them.
        weights: weights to begin with; None draws new ones of `configuration.model`.
        folder: where checkpoints, logs and at last the weights are written.
        name: the stage's name, for progress and errors.
        probes: what else to measure while it trains.

    Returns:
        The run's summary, on the first process.
    """
    folders = tokens if isinstance(tokens, Mapping) else {tokens.name: tokens}
    encoder = Tokenizer.load(tokenizer)
    for folder_of_tokens in folders.values():
        ShardReader.open(folder_of_tokens, "train").require_tokenizer(encoder)
    is_elsewhere = any(address_of(folder_of_tokens) is not None for folder_of_tokens in folders.values())
    objective = NextToken(
        configuration,
        folders,
        "stream",
        tokenizer=encoder,
        phases=configuration.phases,
        shuffle_shards=configuration.shuffle_shards,
        cache=ShardCache(configuration.token_cache) if is_elsewhere else None,
    )
    decoder, values = _decoder(configuration, encoder, weights)
    trainer = Trainer(
        configuration,
        objective,
        decoder,
        folder,
        name=name,
        values=values,
        mesh=open_training_mesh(configuration),
        probes=probes,
        from_weights=weights is not None,
    )
    summary = trainer.fit()
    leave_weights(trainer, folder, tokenizer)
    return summary


def _decoder(
    configuration: PretrainConfiguration, encoder: Tokenizer, weights: Path | None
) -> tuple[Decoder, Iterator[tuple[str, Tensor]]]:
    """The decoder, without storage, and what is to be in it."""
    configuration.require_beginning(weights)
    if weights is None:
        assert configuration.model is not None
        decoder = hollow_decoder(configure(configuration.model, encoder.vocab_size, configuration.sequence_length))
        return decoder, draw(decoder, configuration.seed, configuration.optimiser.mup)
    if Tokenizer.load(weights).hash != encoder.hash:
        raise UserError(
            "the weights were trained with another tokenizer than the one the tokens were made with",
            where=weights,
            fix="tokenize with the weights' own tokenizer, or give the weights this one by a stage change-tokenizer",
        )
    decoder = hollow_decoder(read_config(weights))
    return decoder, stored_values(weights, decoder)
