"""What only somebody who knows the language can count: function words, stock phrases, words that do not exist.

A feature is NaN, never 0, where nothing is known of a document's language.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from vernacular.corpus.languages import language_data
from vernacular.corpus.lexicons.lexicon import Lexicon, Part
from vernacular.corpus.quality.anatomy import Anatomy, ratio
from vernacular.corpus.quality.traits import LETTERS
from vernacular.corpus.words import HashSet, phrase_hashes

_NO_PART = 255


def measure(anatomy: Anatomy, lexicons: Mapping[str, Lexicon]) -> dict[str, np.ndarray]:
    """The features of the groups `function words` and `lexicon`."""
    return {**_function_words(anatomy), **_phrases(anatomy), **_lexicon(anatomy, lexicons)}


def _in_language(anatomy: Anatomy, languages: set[str]) -> np.ndarray:
    """bool [D]: whether a document is in one of the languages."""
    return np.array([language in languages for language in anatomy.languages], dtype=bool)


def _function_words(anatomy: Anatomy) -> dict[str, np.ndarray]:
    documents = anatomy.hashes.documents
    stops = np.zeros(len(documents), dtype=bool)
    known = {code for code, data in language_data().items() if data.stop_words}
    for language in set(anatomy.languages) & known:
        mine = _in_language(anatomy, {language})[documents]
        stops[mine] = _stop_words(language).contains(anatomy.hashes.values[mine])
    together = documents[1:] == documents[:-1]
    pairs = np.bincount(documents[1:][together & stops[1:] & stops[:-1]], minlength=anatomy.num_documents)
    possible = np.bincount(documents[1:][together], minlength=anatomy.num_documents)
    missing = ~_in_language(anatomy, known)
    return {
        "stop_word_ratio": _null(anatomy.mean_words(stops), missing),
        "stop_word_pair_ratio": _null(ratio(pairs, possible), missing),
    }


def _phrases(anatomy: Anatomy) -> dict[str, np.ndarray]:
    missing = ~_in_language(anatomy, set(language_data()))
    features = {}
    for kind in ("boilerplate", "spam"):
        inside = np.zeros(anatomy.num_documents)
        for size, known in _stock(kind).items():
            grams = anatomy.hashes.ngrams(size)
            inside += size * np.bincount(grams.documents[known.contains(grams.values)], minlength=len(inside))
        features[f"{kind}_ratio"] = _null(np.minimum(ratio(inside, anatomy.num_words), 1.0), missing)
    return features


def _lexicon(anatomy: Anatomy, lexicons: Mapping[str, Lexicon]) -> dict[str, np.ndarray]:
    documents, starts = anatomy.hashes.documents, anatomy.hashes.starts
    parts = np.full(len(documents), _NO_PART, dtype=np.uint8)
    # Figures, and names of things with figures in them, stand in no lexicon.
    spelt = np.isin(anatomy.traits[starts], LETTERS)
    with_parts = set()
    for language in set(anatomy.languages) & set(lexicons):
        chosen = np.flatnonzero(_in_language(anatomy, {language})[documents] & spelt)
        parts[chosen] = lexicons[language].parts(anatomy.words, chosen)
        if lexicons[language].has_parts:
            with_parts.add(language)
    judged = parts != _NO_PART
    number = anatomy.sum_words(judged)
    unknown = parts == Part.UNKNOWN
    runs = unknown[1:] & unknown[:-1] & (documents[1:] == documents[:-1])
    no_parts = ~_in_language(anatomy, with_parts)
    return {
        "oov_ratio": ratio(anatomy.sum_words(unknown), number),
        "oov_run_ratio": ratio(np.bincount(documents[1:][runs], minlength=anatomy.num_documents), number),
        "noun_ratio": _null(ratio(anatomy.sum_words(parts == Part.NOUN), number), no_parts),
        "verb_ratio": _null(ratio(anatomy.sum_words(parts == Part.VERB), number), no_parts),
        "adjective_ratio": _null(ratio(anatomy.sum_words(parts == Part.ADJECTIVE), number), no_parts),
        "verbless_sentence_ratio": _null(_verbless(anatomy, parts), no_parts),
    }


def _verbless(anatomy: Anatomy, parts: np.ndarray) -> np.ndarray:
    """float64 [D]: share of the sentences without a verb."""
    verbs = np.bincount(anatomy.sentence_of_words[parts == Part.VERB], minlength=len(anatomy.sentences.starts))
    real = anatomy.sentence_lengths > 0
    return ratio(anatomy.count_pieces(anatomy.sentences, real & (verbs == 0)), anatomy.num_sentences)


def _null(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    return np.where(missing, np.nan, values)


@cache
def _stop_words(language: str) -> HashSet:
    return phrase_hashes(list(language_data()[language].stop_words)).get(1, HashSet())


@cache
def _stock(kind: str) -> dict[int, HashSet]:
    # Of every language for every document: pages mix languages, above all in menus and notices.
    return phrase_hashes([phrase for data in language_data().values() for phrase in getattr(data, kind)])
