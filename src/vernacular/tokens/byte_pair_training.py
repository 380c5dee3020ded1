"""Byte-pair encoding: a vocabulary and the merges that make it, from counted words."""

from __future__ import annotations

import numpy as np
from tokenizers import models

from vernacular.foundation.progress import progress
from vernacular.tokens.byte_alphabet import letters, spell
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.pair_learning import PairLearner
from vernacular.tokens.word_counts import WordCounts


def train_byte_pairs(configuration: TokenizerConfiguration, words: WordCounts) -> models.BPE:
    """A byte-level BPE: special tokens, the 256 bytes, then what their pairs make, the most frequent first.

    Two pairs may make the same token; both are merges then, and the vocabulary grows by one.

    Args:
        configuration: size of the vocabulary, special tokens, how often a pair must occur, longest token.
        words: what to learn from.

    Returns:
        The model; its vocabulary is smaller than asked for where no pair is left.
    """
    tokens = [*configuration.all_special_tokens, *sorted(letters())]
    ids = {token: number for number, token in enumerate(tokens)}
    merges: list[tuple[str, str]] = []
    room = configuration.vocab_size - len(tokens)
    with (
        _learner(words, ids, configuration.min_frequency) as learner,
        progress(doing="merging byte pairs", total=room, unit="tokens") as bar,
    ):
        while len(tokens) < configuration.vocab_size and (best := learner.best()):
            left, right = tokens[best.left], tokens[best.right]
            if len(left) + len(right) > configuration.max_token_bytes:
                learner.pass_over(best)
                continue
            token = ids.setdefault(left + right, len(tokens))
            if token == len(tokens):
                tokens.append(left + right)
                bar.update(1)
            merges.append((left, right))
            learner.join(best, token)
    return models.BPE(ids, merges)


def _learner(words: WordCounts, ids: dict[str, int], min_frequency: int) -> PairLearner:
    """The words as the ids of their bytes."""
    encoded = [word.encode("utf-8") for word in words.counts]
    text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    of_byte = np.array([ids[spell(bytes([byte]))] for byte in range(256)], dtype=np.int32)
    counts = list(words.counts.values())
    return PairLearner(of_byte[text], list(map(len, encoded)), counts, min_frequency=min_frequency)
