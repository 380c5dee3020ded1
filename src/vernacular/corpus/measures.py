"""What the filters measure of each document of a batch: shares of kinds of characters, repetition, known phrases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.counting.counts import count_general
from vernacular.corpus.languages import language_data
from vernacular.corpus.normalisation import LINK, num_mojibake

# Below these many words repetition, the mean length of words or a lack of stop words says nothing about a text.
MINIMUM_WORDS = 20
MINIMUM_WORDS_STOP_WORDS = 60
# A piece of mojibake is at least two characters long.
_CHARACTERS_PER_MOJIBAKE = 2
_LINK_CHARACTERS = 12


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
    counts = count_general(texts, languages)
    visible, words = counts["visible"], counts["words"]
    broken = counts["broken"] + num_controls + _CHARACTERS_PER_MOJIBAKE * num_mojibake(texts)
    enough = words >= MINIMUM_WORDS
    listed = np.array([language in _with_stop_words() for language in languages], dtype=bool)
    listed &= counts["spelt_words"] >= MINIMUM_WORDS_STOP_WORDS
    return Measures(
        characters=counts["graphemes"],
        words=words,
        broken=_share(broken, visible),
        letters=counts.share("written", "visible"),
        digits=counts.share("decimals", "visible"),
        symbols=counts.share("symbols", "visible"),
        word_length=np.where(enough, counts.share("word_graphemes", "words"), np.nan),
        repeated_lines=counts.share("repeated_line_characters", "line_characters"),
        repeated_ngrams=np.where(enough, counts.share("repeated_ngrams", "ngrams"), np.nan),
        top_word=np.where(enough, counts.share("commonest_word", "words"), np.nan),
        variety=np.where(enough, counts["distinct_words"] / np.sqrt(np.maximum(words, 1)), np.nan),
        boilerplate=counts.share("notice_characters", "visible"),
        spam=np.minimum(counts.share("advert_characters", "visible") + _share_of_links(texts), 1.0),
        stop_words=np.where(listed, counts.share("stop_words", "spelt_words"), np.nan),
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)


def _share_of_links(texts: pa.Array) -> np.ndarray:
    """float64 [D]: share of links, each taken as long as a word or two, whatever it is written as."""
    links = _LINK_CHARACTERS * pc.count_substring_regex(texts, LINK).to_numpy(zero_copy_only=False)
    rest = pc.utf8_length(pc.replace_substring_regex(texts, LINK, "")).to_numpy(zero_copy_only=False)
    return _share(links, rest + links)


@cache
def _with_stop_words() -> frozenset[str]:
    """The languages that have a list of stop words."""
    return frozenset(code for code, data in language_data().items() if data.stop_words)
