"""Sentences: length, punctuation, how they begin and end."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from vernacular.corpus.quality.anatomy import Anatomy, ratio
from vernacular.corpus.quality.traits import ENDS, LETTERS, Trait
from vernacular.corpus.words import mixed

_SHORT = 3  # words
_LONG = 6  # graphemes
_CASED = (Trait.UPPER, Trait.LOWER)
_STOPS = (*ENDS, Trait.COMMA, Trait.COLON)


def measure(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """The features of the group `sentences`."""
    lengths = anatomy.sentence_lengths
    real = lengths > 0
    mean, deviation = anatomy.spread(anatomy.sentences, lengths, real)
    number, num = anatomy.num_sentences, anatomy.num
    return {
        "num_sentences": number.astype(np.float64),
        "mean_sentence_length": mean,
        "sentence_length_deviation": deviation,
        "short_sentence_ratio": ratio(anatomy.count_pieces(anatomy.sentences, real & (lengths <= _SHORT)), number),
        "lix": mean + 100 * anatomy.mean_words(anatomy.word_lengths > _LONG),
        "commas_per_sentence": ratio(num(Trait.COMMA), number),
        "colons_per_sentence": ratio(num(Trait.COLON), number),
        "interrogative_ratio": ratio(num(Trait.QUESTION), number),
        "exclamatory_ratio": ratio(num(Trait.EXCLAMATION), number),
        "ellipsis_ratio": ratio(_ellipses(anatomy), number),
        **_beginnings(anatomy, real),
        "sentence_final_concentration": _final_concentration(anatomy),
        **_edges(anatomy),
        **_spacing(anatomy),
    }


def _ellipses(anatomy: Anatomy) -> np.ndarray:
    """int64 [D]: ellipses, as one character or as three full stops."""
    return anatomy.num(Trait.ELLIPSIS) + pc.count_substring(anatomy.texts, "...").to_numpy(zero_copy_only=False)


def _beginnings(anatomy: Anatomy, real: np.ndarray) -> dict[str, np.ndarray]:
    """Capitals at the beginning of sentences and within them; NaN where no word begins with a letter that has case."""
    first = anatomy.traits[anatomy.hashes.starts]
    cased = np.isin(first, _CASED)
    opens = np.ones(len(first), dtype=bool)
    opens[1:] = anatomy.sentence_of_words[1:] != anatomy.sentence_of_words[:-1]
    upper = first == Trait.UPPER
    return {
        "sentence_capital_ratio": ratio(anatomy.sum_words(opens & upper), anatomy.sum_words(opens & cased)),
        "inner_capital_ratio": ratio(anatomy.sum_words(~opens & upper), anatomy.sum_words(~opens & cased)),
    }


def _final_concentration(anatomy: Anatomy) -> np.ndarray:
    """float64 [D]: share of sentences that end in the word that most end in: high where verbs come last."""
    of = anatomy.sentence_of_words
    last = np.ones(len(of), dtype=bool)
    last[:-1] = of[1:] != of[:-1]
    documents = anatomy.hashes.documents[last]
    keys = np.sort(mixed(anatomy.hashes.values[last]) >> np.uint64(32) | (documents.astype(np.uint64) << np.uint64(32)))
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.zeros(0, dtype=np.int64)
    counts = np.diff(np.append(begins, len(keys)))
    return ratio(anatomy.highest((keys[begins] >> np.uint64(32)).astype(np.int64), counts), anatomy.num_sentences)


def _edges(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """Whether a document begins and ends as a whole one does: 1 or 0; NaN without text."""
    seen = np.flatnonzero(anatomy.visible)
    documents = anatomy.points.documents[seen]
    begins, complete = np.full((2, anatomy.num_documents), np.nan)
    if len(seen):
        first = np.append(True, documents[1:] != documents[:-1])
        last = np.append(documents[1:] != documents[:-1], True)
        closers = (*ENDS, Trait.QUOTE, Trait.CLOSING)
        begins[documents[first]] = ~np.isin(anatomy.traits[seen[first]], (Trait.LOWER, Trait.MARK, *_STOPS))
        complete[documents[last]] = np.isin(anatomy.traits[seen[last]], closers)
    return {"begins_whole": begins, "ends_whole": complete}


def _spacing(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """How punctuation is set: of the marks that end or divide sentences, and of brackets."""
    stops = np.flatnonzero(anatomy.is_any(_STOPS))
    before, after = anatomy.trait_before(stops), anatomy.trait_after(stops)
    spaced = before == Trait.SPACE
    tight = np.isin(before, (*LETTERS, Trait.MARK)) & np.isin(after, LETTERS)
    same = np.zeros(len(stops), dtype=bool)
    same[1:] = (np.diff(stops) == 1) & ~anatomy.points.starts[stops[1:]]
    number = anatomy.count_at(stops)
    opening, closing = anatomy.num(Trait.OPENING), anatomy.num(Trait.CLOSING)
    return {
        "space_before_punctuation_ratio": ratio(anatomy.count_at(stops[spaced]), number),
        "no_space_after_punctuation_ratio": ratio(anatomy.count_at(stops[tight]), number),
        "doubled_punctuation_ratio": ratio(anatomy.count_at(stops[same]), number),
        "unbalanced_bracket_ratio": ratio(np.abs(opening - closing), opening + closing),
    }
