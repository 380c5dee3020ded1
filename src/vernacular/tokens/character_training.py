"""Pieces of whole characters, as SentencePiece writes them: ▁ for a blank, bytes for characters that have no piece.

A model of these makes no cuts in a text before pieces are joined, so it splits no grapheme cluster there. That it joins
nothing across the cuts that the words were counted with follows from the pieces: none was learnt that reaches across.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress
from vernacular.tokens.configuration import NUM_BYTES, UNKNOWN_TOKEN, TokenizerConfiguration
from vernacular.tokens.pair_learning import PairLearner
from vernacular.tokens.sentencepiece import BLANK
from vernacular.tokens.unigram_training import learn_pieces
from vernacular.tokens.word_counts import WordCounts

Pieces = list[tuple[str, float]]
# Where Unigram's characters stand while SentencePiece learns: beyond all that it treats in a way of its own.
_DISGUISE = 0xF0000
_LARGEST_CHARACTER = 4
# Scores are rounded to this part of one: then the score of a text of thousands of pieces is the same sum in single
# precision, in which SentencePiece adds, as in double precision, in which the tokenizers library does.
_STEPS = 256
_BYTE_PIECES = "".join(f"<0x{byte:02X}>" for byte in range(NUM_BYTES))


class Spans(NamedTuple):
    """Words as places in the alphabet, parted where a character is not in it.

    Attributes:
        places_T: int32, all spans one after the other.
        lengths: of each span.
        counts: how often each occurs.
    """

    places_T: NDArray[np.int32]
    lengths: list[int]
    counts: list[int]


def train_character_pairs(configuration: TokenizerConfiguration, words: WordCounts) -> Pieces:
    """Characters and what their pairs make, the most frequent pair first; the later, the lower the score.

    Args:
        configuration: size of the vocabulary, coverage, how often a pair must occur, longest piece.
        words: what to learn from.

    Returns:
        Pieces with their scores; fewer than there is room for where no pair is left.
    """
    alphabet = _alphabet(configuration, words)
    pieces, room = list(alphabet), _room(configuration)
    ids = {piece: number for number, piece in enumerate(pieces)}
    spans = _spans(words, alphabet)
    with (
        PairLearner(spans.places_T, spans.lengths, spans.counts, min_frequency=configuration.min_frequency) as learner,
        progress(doing="merging characters", total=room, initial=len(pieces), unit="pieces") as bar,
    ):
        while len(pieces) < room and (best := learner.best()):
            joined = pieces[best.left] + pieces[best.right]
            if len(joined.encode("utf-8")) > configuration.max_token_bytes:
                learner.pass_over(best)
                continue
            number = ids.setdefault(joined, len(pieces))
            if number == len(pieces):
                pieces.append(joined)
                bar.update(1)
            learner.join(best, number)
    num_joined = len(pieces) - len(alphabet)
    scores = [-float(num_joined)] * len(alphabet) + [-float(rank) for rank in range(num_joined)]
    return list(zip(pieces, scores, strict=True))


def train_character_unigram(configuration: TokenizerConfiguration, words: WordCounts) -> Pieces:
    """The pieces that SentencePiece's Unigram keeps, with their log-probabilities; every character among them.

    Args:
        configuration: size of the vocabulary, coverage, longest piece: a quarter of max_token_bytes in characters.
        words: what to learn from.

    Returns:
        Pieces with their scores; fewer than there is room for where the words support no more.
    """
    alphabet = _alphabet(configuration, words)
    learnt = learn_pieces(
        _disguised(_spans(words, alphabet), len(alphabet)),
        _room(configuration),
        longest=max(1, configuration.max_token_bytes // _LARGEST_CHARACTER),
        unknown=UNKNOWN_TOKEN,
    )
    shown = {_DISGUISE + place: character for place, character in enumerate(alphabet)}
    return [(piece.translate(shown), round(score * _STEPS) / _STEPS) for piece, score in learnt]


def _room(configuration: TokenizerConfiguration) -> int:
    return configuration.vocab_size - NUM_BYTES - len(configuration.all_special_tokens)


def _alphabet(configuration: TokenizerConfiguration, words: WordCounts) -> list[str]:
    """The characters that get a piece: the most frequent, until they cover the text, and what special pieces are
    written with (the digits among them): a Unigram model must be able to spell those, or it would read them as one.
    """
    needed = sorted(set("".join(configuration.all_special_tokens) + _BYTE_PIECES))
    counts: Counter[str] = Counter()
    for word, times in words.counts.items():
        for character in word.replace(" ", BLANK):
            counts[character] += times
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    uncovered = counts.total()
    least = (1 - configuration.character_coverage) * counts.total()
    kept = dict.fromkeys([BLANK, *needed])
    for character in ordered:
        if uncovered <= least or counts[character] < configuration.min_frequency:
            break
        uncovered -= counts[character]
        kept[character] = None
    if len(kept) > _room(configuration):
        raise UserError(
            f"vocab_size {configuration.vocab_size} has no room for {len(kept)} characters beside {NUM_BYTES} bytes"
            f" and {len(configuration.all_special_tokens)} special tokens",
            where="vocab_size",
            fix="enlarge it, or lower character_coverage: the rarest characters are then written in bytes",
        )
    return list(kept)


def _spans(words: WordCounts, alphabet: list[str]) -> Spans:
    """The words' characters; words that hold a ▁ themselves are left out, for it would be read as a blank."""
    table = np.full(0x110000, -1, dtype=np.int32)
    table[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
    chosen = [(word.replace(" ", BLANK), times) for word, times in sorted(words.counts.items()) if BLANK not in word]
    lengths = np.array([len(word) for word, _ in chosen], dtype=np.int64)
    codes = np.frombuffer("".join(word for word, _ in chosen).encode("utf-32-le"), dtype=np.uint32)
    places = table[codes]
    starts = np.zeros(len(codes), dtype=bool)
    starts[np.cumsum(lengths) - lengths] = True
    known = places >= 0
    starts[1:] |= ~known[:-1]
    span_of = np.cumsum(starts)[known] - 1
    _, first, sizes = np.unique(span_of, return_index=True, return_counts=True)
    times = np.repeat(np.array([times for _, times in chosen], dtype=np.int64), lengths)[known][first]
    return Spans(np.ascontiguousarray(places[known]), sizes.tolist(), times.tolist())


def _disguised(spans: Spans, num_characters: int) -> Iterator[str]:
    """Each span and its count as SentencePiece reads them, no character as itself; and every character once."""
    yield from (f"{chr(_DISGUISE + place)}\t1" for place in range(num_characters))
    at = 0
    with progress(doing="learning pieces", total=len(spans.lengths), unit="words") as bar:
        for length, times in zip(spans.lengths, spans.counts, strict=True):
            yield "".join(chr(_DISGUISE + place) for place in spans.places_T[at : at + length].tolist()) + f"\t{times}"
            at += length
            bar.update(1)
