"""What the filters measure of each document of a batch: shares of kinds of characters, repetition, known phrases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.codepoints import (
    DIGIT,
    JOINER,
    LETTER,
    MARK,
    PRIVATE,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    UNASSIGNED,
    CodePoints,
)
from vernacular.corpus.languages import language_data
from vernacular.corpus.normalisation import LINK, num_mojibake
from vernacular.corpus.words import Hashes, HashSet, Words, lines, phrase_hashes

NGRAM = 5
# Below these many words repetition, the mean length of words or a lack of stop words says nothing about a text.
MINIMUM_WORDS = 20
MINIMUM_WORDS_STOP_WORDS = 60
_REPLACEMENT, _DOTTED_CIRCLE, _QUESTION_MARK, _HYPHEN = 0xFFFD, 0x25CC, ord("?"), ord("-")
# A piece of mojibake is at least two characters long.
_CHARACTERS_PER_MOJIBAKE = 2
_LINK_CHARACTERS = 12
_SENTENCE_ENDS = [ord(mark) for mark in ".!?…।॥。！？؟۔።။"]
# Notices and menus come in lines; a line longer than this is a paragraph and is looked at sentence by sentence.
_LONGEST_NOTICE = 200
# A menu or path of links: items of a few words between these marks. (A Markdown table's row begins with one.)
_SEPARATORS = [ord(mark) for mark in "|»›>•·"]
_MENU_SEPARATORS = 2
_MENU_WORDS = 3.5
# One phrase may stand in any prose; it takes two to be a notice or a piece of advertising.
_LEAST_PHRASES = 2


@dataclass(frozen=True)
class Measures:
    """Per document (arrays of length D); shares lie in 0…1, NaN where a measure does not apply."""

    characters: np.ndarray
    words: np.ndarray
    broken: np.ndarray
    letters: np.ndarray
    digits: np.ndarray
    symbols: np.ndarray
    word_length: np.ndarray
    repeated_lines: np.ndarray
    repeated_ngrams: np.ndarray
    top_word: np.ndarray
    variety: np.ndarray
    boilerplate: np.ndarray
    spam: np.ndarray
    stop_words: np.ndarray


def measure(texts: pa.Array, num_controls: np.ndarray, languages: list[str]) -> Measures:
    """Measure a batch.

    Args:
        texts: large_string [D], normalised.
        num_controls: int64 [D], control characters that normalisation dropped: damage that no longer shows.
        languages: identified language of each document.
    """
    points = CodePoints.of(pc.utf8_lower(texts))
    words = Words(points)
    kinds = points.classes
    visible = points.count(kinds != SPACE)
    graphemes = points.count(points.graphemes)
    dense = points.count(points.graphemes & points.in_word)
    line_hashes, line_lengths = lines(points)
    enough = words.counts >= MINIMUM_WORDS
    return Measures(
        characters=graphemes,
        words=words.counts,
        broken=_share(_num_broken(points) + num_controls + _CHARACTERS_PER_MOJIBAKE * num_mojibake(texts), visible),
        letters=_share(points.count((kinds == LETTER) | (kinds == MARK) | (kinds == JOINER)), visible),
        digits=_share(points.count(kinds == DIGIT), visible),
        symbols=_share(points.count(kinds == SYMBOL), visible),
        word_length=np.where(enough, dense / np.maximum(words.counts, 1), np.nan),
        repeated_lines=_share_of_lengths(line_hashes, line_lengths, points.num_documents),
        repeated_ngrams=np.where(enough, _share_repeated(words.hashes.ngrams(NGRAM), points.num_documents), np.nan),
        top_word=np.where(enough, _top_word(words), np.nan),
        variety=np.where(enough, _num_distinct(words) / np.sqrt(np.maximum(words.counts, 1)), np.nan),
        boilerplate=_share_with_phrases(words, _phrases("boilerplate"), menus=True),
        spam=np.minimum(_share_with_phrases(words, _phrases("spam")) + _share_of_links(texts), 1.0),
        stop_words=_stop_words(words, languages),
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)


def _num_broken(points: CodePoints) -> np.ndarray:
    """int64 [D]: characters that no intact text has: replacements, private use, marks without a base, a?b."""
    values, kinds = points.values, points.classes
    lost = (values == _REPLACEMENT) | (kinds == PRIVATE) | (kinds == UNASSIGNED) | (values == _DOTTED_CIRCLE)
    before = points.before(kinds)
    indic_mark = (kinds == MARK) & (values >= 0x0900) & (values < 0x0E00)
    # An ending after a number is written so: Malayalam 63-ാം, "the 63rd".
    ending = (points.before(values) == _HYPHEN) & (points.before(kinds, steps=2) == DIGIT)
    orphan = indic_mark & ((before == SPACE) | (before == PUNCTUATION) | points.starts) & ~ending
    question = values == _QUESTION_MARK
    is_letter = ((kinds == LETTER) | (kinds == MARK)).astype(np.uint8)
    asked = question & (points.before(is_letter) & points.after(is_letter)).astype(bool)
    return points.count(lost | orphan | asked)


def _share_repeated(pieces: Hashes, num_documents: int) -> np.ndarray:
    total = np.bincount(pieces.documents, minlength=num_documents)
    again = np.bincount(pieces.documents[pieces.repeated()], minlength=num_documents)
    return _share(again, total)


def _share_of_lengths(pieces: Hashes, lengths: np.ndarray, num_documents: int) -> np.ndarray:
    again = pieces.repeated()
    total = np.bincount(pieces.documents, weights=lengths, minlength=num_documents)
    return _share(np.bincount(pieces.documents[again], weights=lengths[again], minlength=num_documents), total)


def _top_word(words: Words) -> np.ndarray:
    """float64 [D]: share of the commonest word that is a stop word of no language, and no single letter or digit."""
    hashes = words.hashes
    ends = np.append(hashes.starts[1:], len(words.points.values))
    chosen = ~_all_stop_words().contains(hashes.values) & (ends - hashes.starts > 2)
    telling = Hashes(hashes.values[chosen], hashes.documents[chosen], hashes.starts[chosen])
    return _share(telling.commonest(words.points.num_documents), words.counts)


def _num_distinct(words: Words) -> np.ndarray:
    """int64 [D]: different words of each document."""
    return words.counts - np.bincount(
        words.hashes.documents[words.hashes.repeated()], minlength=words.points.num_documents
    )


def _stop_words(words: Words, languages: list[str]) -> np.ndarray:
    """float64 [D]: share of stop words of the language among words, numbers aside; NaN if short or unknown."""
    shares = np.full(words.points.num_documents, np.nan)
    spelt = words.points.classes[words.hashes.starts] != DIGIT
    counts = np.bincount(words.hashes.documents[spelt], minlength=len(shares))
    for language in set(languages) & set(language_data()):
        known = _stop_word_hashes(language)
        rows = np.array([other == language for other in languages]) & (counts >= MINIMUM_WORDS_STOP_WORDS)
        if len(known) and rows.any():
            mine = rows[words.hashes.documents]
            documents = words.hashes.documents[mine][known.contains(words.hashes.values[mine])]
            found = np.bincount(documents, minlength=len(shares))
            shares[rows] = _share(found, counts)[rows]
    return shares


def _share_with_phrases(words: Words, phrases: dict[int, HashSet], *, menus: bool = False) -> np.ndarray:
    """float64 [D]: share of visible characters in lines (sentences of long lines) with one of the phrases.

    Args:
        words: of the texts.
        phrases: as from `phrase_hashes`.
        menus: lines that are menus count as phrases too.
    """
    points = words.points
    if not len(points.values):
        return np.zeros(points.num_documents)
    unit_of = _units(points)
    num_units = int(unit_of[-1]) + 1
    hits = np.bincount(unit_of[_phrase_starts(words, phrases)], minlength=num_units)
    if menus:
        hits += _menus(words, unit_of, num_units)
    visible = points.classes != SPACE
    first = np.flatnonzero(np.append(True, unit_of[1:] != unit_of[:-1]))
    in_document = np.bincount(points.documents[first], weights=hits, minlength=points.num_documents)
    share = _share(points.count((hits > 0)[unit_of] & visible), points.count(visible))
    return np.where(in_document >= _LEAST_PHRASES, share, 0.0)


def _phrase_starts(words: Words, phrases: dict[int, HashSet]) -> np.ndarray:
    """int64 [P]: where the phrases of a text begin; one that lies within a longer one is no phrase of its own."""
    covered = np.zeros(len(words.hashes.values) + 1, dtype=bool)
    found = []
    for size in sorted(phrases, reverse=True):
        grams = words.hashes.ngrams(size)
        starts = grams.starts[phrases[size].contains(grams.values)]
        first = np.searchsorted(words.hashes.starts, starts)
        so_far = np.cumsum(covered)
        inside = so_far[first + size - 1] - so_far[first] + covered[first] == size
        found.append(starts[~inside])
        for step in range(size):
            covered[first + step] = True
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _units(points: CodePoints) -> np.ndarray:
    """int64 [N]: number of the line, or of the sentence within a long line, of each code point."""
    new_line = points.before(points.values == 0x0A) | points.starts
    line_of = np.cumsum(new_line) - 1
    long = np.bincount(line_of)[line_of] > _LONGEST_NOTICE
    after_sentence = points.before(np.isin(points.values, _SENTENCE_ENDS))
    return np.cumsum(new_line | (long & after_sentence)) - 1


def _menus(words: Words, unit_of: np.ndarray, num_units: int) -> np.ndarray:
    """int64 [U]: 1 for units that are a menu or a path of links."""
    points = words.points
    separator = np.isin(points.values, _SEPARATORS)
    first = np.append(True, unit_of[1:] != unit_of[:-1])
    separators = np.bincount(unit_of[separator], minlength=num_units)
    num_words = np.bincount(unit_of[words.hashes.starts], minlength=num_units)
    table_row = separator[np.flatnonzero(first)]
    short_items = num_words <= _MENU_WORDS * (separators + 1)
    return ((separators >= _MENU_SEPARATORS) & (num_words > 0) & short_items & ~table_row).astype(np.int64)


def _share_of_links(texts: pa.Array) -> np.ndarray:
    """float64 [D]: share of links, each taken as long as a word or two, whatever it is written as."""
    links = _LINK_CHARACTERS * pc.count_substring_regex(texts, LINK).to_numpy(zero_copy_only=False)
    rest = pc.utf8_length(pc.replace_substring_regex(texts, LINK, "")).to_numpy(zero_copy_only=False)
    return _share(links, rest + links)


@cache
def _phrases(kind: str) -> dict[int, HashSet]:
    # Phrases of every language for every document: pages mix languages, above all in menus and notices.
    return phrase_hashes([phrase for data in language_data().values() for phrase in getattr(data, kind)])


@cache
def _stop_word_hashes(language: str) -> HashSet:
    return phrase_hashes(list(language_data()[language].stop_words)).get(1, HashSet())


@cache
def _all_stop_words() -> HashSet:
    return HashSet(value for code in language_data() for value in _stop_word_hashes(code))
