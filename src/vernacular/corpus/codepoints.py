"""Code points of a batch of texts as one array, with their properties looked up in tables.

Every per-document measure is arithmetic on these arrays; no Python loop runs over characters.
In names below N is the number of code points of a batch and D its number of documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from vernacular.corpus.languages import scripts

# Classes of code points. Their order is that of `_CLASS_PATTERNS`.
OTHER, LETTER, MARK, DIGIT, SPACE, PUNCTUATION, SYMBOL, CONTROL, PRIVATE, UNASSIGNED, JOINER = range(11)

_CLASS_PATTERNS = {
    LETTER: r"\p{L}+",
    MARK: r"\p{M}+",
    DIGIT: r"\p{N}+",
    SPACE: r"[\p{Z}\t\n\r\v\f]+",
    PUNCTUATION: r"\p{P}+",
    SYMBOL: r"\p{S}+",
    CONTROL: r"[^\P{Cc}\t\n\r\v\f]+",
    PRIVATE: r"\p{Co}+",
    UNASSIGNED: r"\p{Cn}+",
    JOINER: "[\u200c\u200d]+",
}

_ALL = 0x110000
_SURROGATES = range(0xD800, 0xE000)


@cache
def class_table() -> np.ndarray:
    """uint8 [0x110000]: the class of each code point, by the Unicode version of the package `regex`."""
    table = np.zeros(_ALL, dtype=np.uint8)
    everything = every_character()
    for kind, pattern in _CLASS_PATTERNS.items():
        _mark(table, regex.finditer(pattern, everything), kind)
    return table


@cache
def script_codes() -> tuple[str, ...]:
    """ISO 15924 codes in the order of `script_table`; the first, "Zyyy", is everything that has no script of ours."""
    return ("Zyyy", *scripts())


@cache
def script_table() -> np.ndarray:
    """uint8 [0x110000]: index into `script_codes()` of each letter's script, 0 for what is not a letter or mark."""
    table = np.zeros(_ALL, dtype=np.uint8)
    everything = every_character()
    for index, code in enumerate(script_codes()[1:], start=1):
        _mark(table, regex.finditer(rf"\p{{Script={code}}}+", everything), index)
    table[(class_table() != LETTER) & (class_table() != MARK)] = 0
    return table


@cache
def unspaced_table() -> np.ndarray:
    """bool [0x110000]: whether the code point belongs to a script that separates no words."""
    by_script = np.array([False] + [not script.spaces for script in scripts().values()])
    return by_script[script_table()]


@cache
def viramas() -> np.ndarray:
    """uint32: the code points that tie two consonants into one grapheme."""
    return np.array([ord(script.virama) for script in scripts().values() if script.virama], dtype=np.uint32)


@cache
def every_character() -> str:
    """All of Unicode in order, a space in place of each surrogate."""
    # A surrogate cannot stand in text; a space in its place keeps positions equal to code points.
    return "".join(" " if code in _SURROGATES else chr(code) for code in range(_ALL))


def _mark(table: np.ndarray, matches: Any, value: int) -> None:
    for match in matches:
        table[match.start() : match.end()] = value
    table[_SURROGATES.start : _SURROGATES.stop] = OTHER


@dataclass(frozen=True)
class CodePoints:
    """The code points of D texts, one after another.

    Attributes:
        values: uint32 [N].
        offsets: int64 [D + 1]; document d is `values[offsets[d]:offsets[d + 1]]`.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: pa.Array) -> CodePoints:
        """From an Arrow array of strings without nulls."""
        lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
        joined = "".join(texts.to_pylist()).encode("utf-32-le")
        return cls(np.frombuffer(joined, dtype=np.uint32), np.concatenate([[0], np.cumsum(lengths)]))

    @property
    def num_documents(self) -> int:
        """D."""
        return len(self.offsets) - 1

    @cached_property
    def documents(self) -> np.ndarray:
        """int64 [N]: the document each code point belongs to."""
        return np.repeat(np.arange(self.num_documents), np.diff(self.offsets))

    @cached_property
    def classes(self) -> np.ndarray:
        """uint8 [N]: class of each code point."""
        return class_table()[self.values]

    @cached_property
    def starts(self) -> np.ndarray:
        """bool [N]: whether the code point is the first of its document."""
        first = np.zeros(len(self.values), dtype=bool)
        first[self.offsets[:-1][np.diff(self.offsets) > 0]] = True
        return first

    def before(self, values: np.ndarray, *, steps: int = 1) -> np.ndarray:
        """[N]: `values` of the code point `steps` earlier; 0 where that lies in another document."""
        shifted = np.zeros_like(values)
        if steps < len(values):
            shifted[steps:] = values[:-steps]
            shifted[steps:][self.documents[steps:] != self.documents[:-steps]] = 0
        return shifted

    def count(self, chosen: np.ndarray) -> np.ndarray:
        """int64 [D]: how many code points of each document are `chosen` (bool [N])."""
        return np.bincount(self.documents[chosen], minlength=self.num_documents)

    def count_by(self, keys: np.ndarray, num_keys: int) -> np.ndarray:
        """int64 [D, num_keys]: how many code points of each document have each key (int [N])."""
        flat = self.documents * num_keys + keys
        return np.bincount(flat, minlength=self.num_documents * num_keys).reshape(self.num_documents, num_keys)

    @cached_property
    def graphemes(self) -> np.ndarray:
        """bool [N]: whether a grapheme begins here: no mark, no joiner, no consonant that a virama ties to the last.

        Follows Unicode Standard Annex 29 but for emoji sequences and Hangul jamo.
        """
        linker = np.isin(self.values, viramas())
        joined_linker = self.before(linker, steps=2) & (self.before(self.values) == 0x200D)
        tied = (self.classes == LETTER) & (self.before(linker) | joined_linker)
        extends = (self.classes == MARK) | (self.classes == JOINER)
        return ~tied & (~extends | self.starts)

    @cached_property
    def in_word(self) -> np.ndarray:
        """bool [N]: letters, marks, digits and joiners."""
        kinds = self.classes
        return (kinds == LETTER) | (kinds == MARK) | (kinds == DIGIT) | (kinds == JOINER)

    @cached_property
    def word_starts(self) -> np.ndarray:
        """bool [N]: where words begin. Letters of scripts that separate no words are words of their own."""
        alone = unspaced_table()[self.values] & (self.classes == LETTER)
        return self.in_word & (~self.before(self.in_word) | alone | (self.before(alone) & (self.classes == LETTER)))
