"""Unigram: a vocabulary of pieces, each with its probability, of which the likeliest sequence spells a word."""

from __future__ import annotations

import io
from collections.abc import Iterator

import sentencepiece
from tokenizers import models

from vernacular.foundation.progress import progress
from vernacular.tokens.byte_alphabet import letters, spell
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.word_counts import WordCounts

_UNKNOWN = "<unk>"  # what SentencePiece must have, and no byte ever becomes


def train_unigram(configuration: TokenizerConfiguration, words: WordCounts) -> models.Unigram:
    """A byte-level Unigram: special tokens, then the pieces that SentencePiece keeps, all 256 bytes among them.

    Source: Kudo, Subword Regularization (2018), expectation maximisation and pruning as SentencePiece does them, over
    our own words: SentencePiece is given each word once, with its count, and makes no cuts of its own.

    Args:
        configuration: size of the vocabulary, special tokens, longest token.
        words: what to learn from.

    Returns:
        The model; its vocabulary is smaller than asked for where the words support no more.
    """
    special = configuration.all_special_tokens
    size = configuration.vocab_size - len(special)
    pieces = learn_pieces(_lines(words), size, longest=configuration.max_token_bytes, unknown=_UNKNOWN)
    return models.Unigram([*((token, 0.0) for token in special), *pieces])


def learn_pieces(lines: Iterator[str], size: int, *, longest: int, unknown: str) -> list[tuple[str, float]]:
    """The pieces that SentencePiece's Unigram keeps, with their log-probabilities.

    Args:
        lines: a word, a tab and its count each; no cuts are made but these.
        size: most pieces; fewer are learnt where the words support no more.
        longest: characters of a piece.
        unknown: the name of the piece that SentencePiece must have beside them.
    """
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines,
        model_writer=written,
        input_format="tsv",
        model_type="unigram",
        vocab_size=size + 1,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_unicode_script=False,
        split_by_number=False,
        split_by_whitespace=False,
        max_sentencepiece_length=longest,
        max_sentence_length=1 << 30,
        unk_piece=unknown,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,  # sums come out the same every time
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return [(trained.id_to_piece(number), trained.get_score(number)) for number in range(1, len(trained))]


def _lines(words: WordCounts) -> Iterator[str]:
    """Each word and its count, in an order that does not depend on the text's; and every byte once, to be a piece."""
    yield from (f"{letter}\t1" for letter in letters())
    with progress(sorted(words.counts.items()), doing="learning pieces", unit="words") as items:
        for word, count in items:
            yield f"{spell(word.encode('utf-8'))}\t{count}"
