"""Words: how long they are, how they are written, how often they return."""

from __future__ import annotations

import numpy as np

from vernacular.corpus.quality.anatomy import Anatomy, ratio
from vernacular.corpus.quality.traits import LETTERS, Trait, diacritic_table

_LONG = 6  # graphemes; Björnsson's LIX counts words of more as long
_NEAR = 10  # words
_PAIR, _FIVE = 2, 5


def measure(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """The features of the groups `words` and `repetition`."""
    return {**_words(anatomy), **_repetition(anatomy)}


def _words(anatomy: Anatomy) -> dict[str, np.ndarray]:
    lengths = anatomy.word_lengths
    starts = anatomy.hashes.starts
    upper = anatomy.traits == Trait.UPPER
    lower = anatomy.traits == Trait.LOWER
    num_upper, num_lower = anatomy.over_words(upper), anatomy.over_words(lower)
    cased = (num_upper + num_lower) > 0
    diacritics = anatomy.over_words(diacritic_table()[anatomy.points.values])
    long = lengths > _LONG
    single = (lengths == 1) & (anatomy.traits[starts] != Trait.DIGIT)
    return {
        "num_words": anatomy.num_words.astype(np.float64),
        "mean_word_length": anatomy.mean_words(lengths),
        "word_length_deviation": anatomy.deviation_words(lengths),
        "long_word_ratio": anatomy.mean_words(long),
        "longest_word": anatomy.highest(anatomy.hashes.documents, lengths),
        "single_character_word_ratio": anatomy.mean_words(single),
        "non_alphabetic_token_ratio": _tokens_without_letters(anatomy),
        "uppercase_word_ratio": ratio(anatomy.sum_words((num_upper > 1) & (num_lower == 0)), anatomy.sum_words(cased)),
        "camel_case_ratio": ratio(_camel_cases(anatomy, upper, lower), anatomy.sum_words(cased)),
        "diacritics_per_word": anatomy.mean_words(diacritics),
        "diacritics_deviation": anatomy.deviation_words(diacritics),
    }


def _tokens_without_letters(anatomy: Anatomy) -> np.ndarray:
    """float64 [D]: of what white space separates, the share without a letter."""
    visible = anatomy.visible
    starts = np.flatnonzero(visible & ~anatomy.points.before(visible))
    if not len(starts):
        return np.full(anatomy.num_documents, np.nan)
    letters = np.add.reduceat(anatomy.is_any(LETTERS), starts, dtype=np.int64)
    return ratio(anatomy.count_at(starts[letters == 0]), anatomy.count_at(starts))


def _camel_cases(anatomy: Anatomy, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """int64 [D]: places where a capital follows a small letter."""
    inner = np.flatnonzero(upper[1:] & lower[:-1]) + 1
    return anatomy.count_at(inner[~anatomy.points.starts[inner]])


def _repetition(anatomy: Anatomy) -> dict[str, np.ndarray]:
    documents, counts = anatomy.distinct
    num_distinct = np.bincount(documents, minlength=anatomy.num_documents)
    hapaxes = np.bincount(documents[counts == 1], minlength=anatomy.num_documents)
    return {
        "unique_word_count": num_distinct.astype(np.float64),
        "hapax_ratio": ratio(hapaxes, num_distinct),
        "top_word_ratio": ratio(anatomy.highest(documents, counts), anatomy.num_words),
        "close_repetition_ratio": ratio(_close_repetitions(anatomy), anatomy.num_words),
        "repeated_pair_ratio": _repeated_runs(anatomy, _PAIR),
        "repeated_five_ratio": _repeated_runs(anatomy, _FIVE),
    }


def _close_repetitions(anatomy: Anatomy) -> np.ndarray:
    """int64 [D]: words that stood among the ten before them."""
    order, new = anatomy.occurrences
    near = ~new[1:] & (np.diff(order) <= _NEAR)
    return np.bincount(anatomy.hashes.documents[order[1:][near]], minlength=anatomy.num_documents)


def _repeated_runs(anatomy: Anatomy, size: int) -> np.ndarray:
    """float64 [D]: share of the runs of `size` words that stood before."""
    runs = anatomy.hashes.ngrams(size)
    again = np.bincount(runs.documents[runs.repeated()], minlength=anatomy.num_documents)
    return ratio(again, np.bincount(runs.documents, minlength=anatomy.num_documents))
